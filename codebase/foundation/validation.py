"""Reading JSON into a model: strictly, and with sentences that never repeat what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from codebase.foundation.errors import InvalidInputError, invalid
from codebase.foundation.strict_json import WHOLE_BODY, InvalidJsonError, decode, tellable

Body = TypeVar("Body", bound=BaseModel)


# Making an adapter costs milliseconds, using it microseconds.
ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any type that pydantic knows
    """How values of a type are read and written."""
    known = ADAPTERS.get(kind)
    if known is None:
        known = ADAPTERS[kind] = TypeAdapter(kind)
    return known


def validate(model: type[Body], body: bytes) -> Body:
    """The body as `model` describes it.

    Raises:
        InvalidInputError: naming each field; nothing of the input is repeated.
    """
    try:
        return model.model_validate(decode(body))
    except InvalidJsonError as error:
        raise invalid(error.field, error.reason) from None
    except ValidationError as error:
        raise explain(error.errors(include_url=False, include_input=False)) from None


# pydantic's own sentences may quote the input; these say the same without it.
SENTENCES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a text",
    "string_unicode": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of ordinary size",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "datetime_parsing": "must be a time in ISO 8601",
    "datetime_from_date_parsing": "must be a time in ISO 8601",
    "date_parsing": "must be a date in ISO 8601",
    "string_pattern_mismatch": "does not have the right form",
    "json_invalid": "must be JSON in UTF-8",
}

# Rules with a limit: the limit is ours and may be told.
LIMITS: Mapping[str, str] = {
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_max_digits": "must have at most {max_digits} digits",
    "value_error": "{error}",
}

# Where FastAPI says a field comes from; the field's own name is enough.
PLACES = frozenset({"body", "query", "path", "header", "cookie"})


def explain(details: Sequence[Mapping[str, Any]]) -> InvalidInputError:
    """What pydantic or FastAPI found, field by field, without the input.

    Args:
        details: as `ValidationError.errors()` lists them, with their context.
    """
    errors: dict[str, list[str]] = {}
    for detail in details:
        errors.setdefault(_field(detail["loc"]), []).append(_sentence(detail))
    return InvalidInputError(errors)


def _field(location: Sequence[int | str]) -> str:
    path = location[1:] if location and location[0] in PLACES else location
    return ".".join(map(tellable, path)) or WHOLE_BODY


def _sentence(detail: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind in LIMITS:
        return LIMITS[kind].format_map(detail.get("ctx", {}))
    return SENTENCES.get(kind, "is not valid")
