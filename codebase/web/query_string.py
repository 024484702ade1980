"""What a query string holds, read as strictly as a body."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from codebase.foundation.errors import invalid
from codebase.foundation.strict_json import tellable
from codebase.foundation.validation import explain

Parameters = TypeVar("Parameters", bound=BaseModel)

WHOLE_QUERY = "query"


def read_query(model: type[Parameters], query: bytes) -> Parameters:
    """The parameters as `model` describes them; all of them arrive as texts.

    Args:
        model: what there may be.
        query: the query string, as ASGI has it.

    Raises:
        InvalidInputError: naming each parameter; nothing of the input is repeated.
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise invalid(WHOLE_QUERY, "must be UTF-8, percent-encoded") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise invalid(tellable(name), "must be given once")
        found[name] = value
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise explain(error.errors(include_url=False, include_input=False)) from None
