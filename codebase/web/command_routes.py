"""The routes of commands, documented by the FastAPI routes that they would have been.

A command is a plain Starlette route: FastAPI's own would cost more than all the rest.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import Body as JsonBody
from fastapi import Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, APIRouter
from pydantic import BaseModel
from starlette.routing import Match, Route
from starlette.types import Scope

from codebase.web import consistency_token
from codebase.web.commands import CommandEndpoint, Handler, Requirement


class DocumentedRoute(Route):
    """A route, and the one of FastAPI's that describes it.

    It is seen in the metrics: it says that it was taken, as FastAPI's routes do.
    """

    def __init__(self, endpoint: Callable[..., Any], documentation: APIRoute) -> None:
        path, methods = documentation.path, list(documentation.methods or ())
        super().__init__(path, endpoint, methods=methods, name=documentation.name)
        self.documentation = documentation

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Starlette's answer, and this route."""
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self} if match is not Match.NONE else child_scope


class CommandRoute(DocumentedRoute):
    """The route of a command, and what its documentation says."""

    def __init__(self, endpoint: CommandEndpoint, documentation: APIRoute) -> None:
        super().__init__(endpoint, documentation)
        self.command = endpoint


@dataclass(frozen=True, kw_only=True)
class WithHeaders:
    """A model of an answer, and the headers that it has beside those of its kind."""

    model: type[BaseModel]
    headers: Mapping[str, Mapping[str, Any]]


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
    problems: Mapping[int, str | type[BaseModel] | WithHeaders] | None = None,
    headers: Mapping[str, Mapping[str, Any]] | None = None,
    requires: Sequence[Requirement] = (),
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
        problems: status -> when that is answered instead, for the documentation; a model, whose
            docstring says so, where a problem has more to it than others, or the answer is none;
            with headers, where it has some of a success.
        headers: name -> what it says, of those that a success has beside those of every command,
            for the documentation.
        requires: what FastAPI's routes have as dependencies: who may send it.
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
            responses={code: _response(when) for code, when in (problems or {}).items()},
            openapi_extra={"responses": {str(int(status)): {"headers": headers or {}}}},
            dependencies=[Depends(each) for each in requires],
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
            requires=requires,
        )
        app.router.routes.append(CommandRoute(endpoint, documentation))
        return handler

    return register


def _response(when: str | type[BaseModel] | WithHeaders) -> dict[str, Any]:
    """What FastAPI is told of an answer that is none of the usual ones."""
    if isinstance(when, str):
        return {"description": when}
    if isinstance(when, WithHeaders):
        return {**_response(when.model), "headers": dict(when.headers)}
    return {"description": inspect.getdoc(when), "model": when}


def _documented(
    name: str,
    body: type[BaseModel] | None,
    path_types: Mapping[str, type],
    query: type[BaseModel] | None,
    *,
    body_is_optional: bool,
) -> Callable[..., None]:
    """A function with the parameters that FastAPI would need to document the command."""
    annotations: dict[str, Any] = {
        **{name: Annotated[kind, Path()] for name, kind in path_types.items()},
        **({"body": Annotated[body, JsonBody()]} if body else {}),
        **({"query": Annotated[query, Query()]} if query else {}),
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
                # Of the body's own type all the same: it may be left out, and is never null.
                default=None
                if parameter == "body" and body_is_optional
                else inspect.Parameter.empty,
            )
            for parameter, annotation in annotations.items()
        ]
    )
    return documented
