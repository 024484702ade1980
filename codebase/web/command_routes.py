"""The routes of commands, documented by the FastAPI routes that they would have been.

A command is a plain Starlette route: FastAPI's own would cost more than all the rest.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import Body as JsonBody
from fastapi import Header, Path, Query, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, APIRouter
from pydantic import BaseModel
from starlette.routing import Match, Route
from starlette.types import Scope

from codebase.engine.commands.fingerprint import IdempotenceKey
from codebase.web import consistency_token
from codebase.web.commands import CommandEndpoint, Handler


class CountedRoute(Route):
    """A route that is seen in the metrics: it says that it was taken, as FastAPI's routes do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Starlette's answer, and this route."""
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self} if match is not Match.NONE else child_scope


class CommandRoute(CountedRoute):
    """The route of a command, and what its documentation says."""

    def __init__(
        self, path: str, endpoint: CommandEndpoint, method: str, documentation: APIRoute
    ) -> None:
        super().__init__(path, endpoint, methods=[method], name=endpoint.name)
        self.command = endpoint
        self.documentation = documentation


class TakesCommands(Protocol):
    """The app of a service, as far as commands are concerned."""

    title: str
    router: APIRouter
    log: consistency_token.Log | None
    """Which one they are written to."""


def command(
    app: TakesCommands,
    method: str,
    path: str,
    *,
    name: str,
    body: type[BaseModel] | None = None,
    body_is_optional: bool = False,
    query: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    status: int = HTTPStatus.OK,
    summary: str | None = None,
    problems: Mapping[int, str] | None = None,
    path_types: Mapping[str, type] | None = None,
) -> Callable[[Handler], Handler]:
    """Route a command to the decorated handler.

    Args:
        app: the service's app.
        method: HTTP method.
        path: path template.
        name: what the command is known by in fingerprints, which are stored. It never changes,
            whatever becomes of the path and of the function.
        body: what the body must be; None when there is none.
        body_is_optional: an empty body stands for one in which every field has its default.
        query: what the query string may hold; None when the command has nothing there.
        answer: what a success looks like, for the documentation; None when it has no body.
        status: of a success, unless the answer itself says otherwise.
        summary: one line for the documentation.
        problems: status -> when that is answered instead, for the documentation.
        path_types: the types of the parts of `path` that are templates; by default UUIDs.
    """
    types = dict.fromkeys(re.findall(r"\{(\w+)\}", path), UUID) | dict(path_types or {})

    def register(handler: Handler) -> Handler:
        documentation = APIRoute(
            path,
            _documented(handler.__name__, body, types, query, body_is_optional=body_is_optional),
            methods=[method],
            response_model=answer,
            response_class=JSONResponse if answer else Response,
            status_code=int(status),
            summary=summary,
            description=inspect.getdoc(handler),
            responses={code: {"description": when} for code, when in (problems or {}).items()},
            openapi_extra={"responses": {str(int(status)): {"headers": ANSWER_HEADERS}}},
            tags=[app.title],
        )
        endpoint = CommandEndpoint(
            name,
            handler,
            body,
            types,
            int(status),
            log=app.log,
            body_is_optional=body_is_optional,
            query=query,
        )
        app.router.routes.append(CommandRoute(path, endpoint, method, documentation))
        return handler

    return register


ANSWER_HEADERS: Mapping[str, Any] = {
    "Consistency-Token": {
        "description": "Send it back, and a query will show what this command did.",
        "schema": {"type": "string", "examples": ["4f9c2a1b07de_0.123"]},
    },
    "Idempotent-Replayed": {
        "description": "`true` when the command had been carried out before.",
        "schema": {"type": "string"},
    },
}


def _documented(
    name: str,
    body: type[BaseModel] | None,
    path_types: Mapping[str, type],
    query: type[BaseModel] | None,
    *,
    body_is_optional: bool,
) -> Callable[..., None]:
    """A function with the parameters that FastAPI would need to document the command."""
    parameters = {
        "idempotency_key": Annotated[
            IdempotenceKey, Header(description="Names the command, for as long as you like.")
        ],
        "consistency_token": Annotated[
            str,
            Header(
                description="What you have seen.", pattern=f"^{consistency_token.FORM.pattern}$"
            ),
        ],
    }
    defaults: dict[str, Any] = dict.fromkeys(parameters)
    taken: Any = body
    if body and body_is_optional:
        defaults["body"], taken = None, Annotated[body | None, JsonBody()]
    annotations: dict[str, Any] = {
        **{name: Annotated[kind, Path()] for name, kind in path_types.items()},
        **({"body": taken} if body else {}),
        **({"query": Annotated[query, Query()]} if query else {}),
        **parameters,
    }

    def documented(**_: object) -> None:
        raise AssertionError("never called: CommandEndpoint answers")

    documented.__name__ = name
    documented.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                parameter,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=annotation,
                default=defaults.get(parameter, inspect.Parameter.empty),
            )
            for parameter, annotation in annotations.items()
        ]
    )
    return documented
