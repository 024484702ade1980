"""What the forms of pages send: the commands that JSON sends as well, in the way of browsers."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ValidationError

from codebase.foundation.errors import invalid
from codebase.foundation.validation import explain
from codebase.web import consistency_token
from codebase.web.commands import Command, Handler, Requirement, note_written
from codebase.web.exchange import exchange_of
from codebase.web.fields import FromText
from codebase.web.openapi_headers import LOCATION, references
from codebase.web.request_body import FORM_TYPE, RequestBody, require_media_type

FIELDS_MAX = 10

Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StandsFor:
    """The command that a form stands for, as its JSON route knows it: name, body, path."""

    name: str
    body: RequestBody | None
    path: Mapping[str, Any]


class PageForm(RequestBody):
    """A button that was pressed; `key` is the same however often that one was."""

    key: FromText[UUID]

    @abstractmethod
    def stands_for(self) -> StandsFor:
        """The command that by JSON asks for the same."""


@dataclass(slots=True)
class FormCommand(Command[Any]):
    """The command that a form stands for. With its key the same by JSON is a repeat."""

    key: str = ""

    @property
    def idempotence_key(self) -> str:
        """Of the form."""
        return self.key


def form(
    app: FastAPI,
    log: consistency_token.Log,
    kind: type[PageForm],
    *,
    path: str = "/",
    name: str = "post_form",
    summary: str | None = None,
    problems: Mapping[int, str] | None = None,
    requires: Sequence[Requirement] = (),
) -> Callable[[Handler], Handler]:
    """Route forms of the page at `/` to the decorated handler; then the page is shown again.

    Args:
        app: the service's app.
        log: which one the commands are written to.
        kind: what a form must be.
        path: where it is sent to.
        name: of the route.
        summary: of the route, for its document; by default made of its name.
        problems: of the route's own: status -> when.
        requires: what routes have as dependencies: who may send it.
    """
    responses: dict[int | str, dict[str, Any]] = {
        HTTPStatus.SEE_OTHER: {"headers": {**LOCATION, **references("Set-Cookie")}},
        **{status: {"description": when} for status, when in (problems or {}).items()},
    }

    def register(handler: Handler) -> Handler:
        async def post_form(request: Request) -> Response:
            exchange, headers = exchange_of(request.scope), request.scope["headers"]
            require_media_type(exchange.headers, FORM_TYPE)
            sent = validate_form(kind, await request.body())
            partitions = len(log.extent.positions)
            token = consistency_token.taken_from(exchange, headers, partitions)
            seen = await consistency_token.own(log, token)
            same, key = sent.stands_for(), str(sent.key)
            command = FormCommand(
                same.name, same.body, same.path, exchange, seen.positions, key=key
            )
            answer = await handler(command)
            note_written(exchange, log, seen, answer.positions)
            return RedirectResponse(f"/?{request.url.query}", HTTPStatus.SEE_OTHER)

        content = {FORM_TYPE: {"schema": kind.model_json_schema()}}
        app.post(
            path,
            name=name,
            summary=summary,
            description=inspect.getdoc(handler),
            dependencies=[Depends(each) for each in requires],
            status_code=HTTPStatus.SEE_OTHER,
            response_class=RedirectResponse,
            responses=responses,
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )(post_form)
        return handler

    return register


def validate_form(kind: type[Kind], body: bytes) -> Kind:
    """The form as `kind` describes it; the counterpart of `validate`, which reads JSON.

    Raises:
        InvalidInputError: naming each field; nothing of the input is repeated.
    """
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise invalid("body", "must be a form in UTF-8") from None
    for name, count in Counter(name for name, _ in fields).items():
        if count > 1:
            raise invalid(name if name in kind.model_fields else "body", "must not be there twice")
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise explain(error.errors(include_url=False, include_input=False)) from None
