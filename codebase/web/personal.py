"""What is personal in answers: names, e-mail addresses, what somebody wrote about somebody.

A field of an answer is marked with `Personal`, and that is all that a service does: operators are
shown HIDDEN in its place, in JSON by `ShownRoute`, on pages by `web/html.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Annotated, Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from codebase.foundation.validation import adapter
from codebase.web.auth import Caller
from codebase.web.exchange import caller_of
from codebase.web.pages import ListInPieces, Piece, whole

HIDDEN = "…"
"""Not null, so that an answer has one form for everybody; no e-mail address looks like this."""
MARK = "x-personal"

Value = TypeVar("Value")

Personal = Annotated[
    Value,
    Field(description=f"Personal: operators are shown {HIDDEN}", json_schema_extra={MARK: True}),
]
"""A text, or none, that operators are not shown: `Personal[str]`, or `Personal[str | None]`."""


def shown_to(caller: Caller, value: Value) -> Value:
    """What a caller may see of a model, or of a list of them; other values stay as they are."""
    return value if caller.sees_personal_values else _without_personal(value)


class ShownRoute(APIRoute):
    """A FastAPI route that shows its caller what it may see, whatever the endpoint gives."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own, with a look at what it answers."""
        answer = super().get_route_handler()

        async def shown(request: Request) -> Response:
            response = await answer(request)
            if not caller_of(request).sees_personal_values and _has_personal(self.response_model):
                kind = adapter(self.response_model)
                if isinstance(response, ListInPieces):
                    _hide_in_pieces(response, kind)
                else:
                    _hide(response, kind)
            return response

        return shown


@cache
def _has_personal(kind: Any) -> bool:  # noqa: ANN401 - as FastAPI takes it
    return kind is not None and MARK in json.dumps(adapter(kind).json_schema())


def _hide(response: Response, kind: TypeAdapter[Any]) -> None:
    """Write a JSON answer again; what its model does not know is left out."""
    response.body = kind.dump_json(_without_personal(kind.validate_json(bytes(response.body))))
    response.headers["content-length"] = str(len(response.body))


def _hide_in_pieces(response: ListInPieces, kind: TypeAdapter[Any]) -> None:
    """Each piece as a whole object would be shown."""
    member, rest = response.member, response.rest

    def hidden(piece: Piece) -> Piece:
        shown = _without_personal(kind.validate_json(whole(member, piece)))
        items = to_json(getattr(shown, member)).decode()
        return shown.model_dump_json(exclude={member}), items

    response.first = hidden(response.first)
    response.rest = (hidden(piece) async for piece in rest)


def _without_personal(value: Any) -> Any:  # noqa: ANN401 - of the same type
    match value:
        case BaseModel():
            fields = type(value).model_fields.items()
            shown = {name: _field(field, getattr(value, name)) for name, field in fields}
            return value.model_copy(update=shown)
        case list():
            return [_without_personal(one) for one in value]
        case _:
            return value


def _field(field: FieldInfo, value: object) -> object:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and MARK in extra:
        return None if value is None else HIDDEN
    return _without_personal(value)
