"""The OpenAPI document: what a route says of itself, and what is true of all routes of its kind.

A route's path, body and answer are known from its code. Which headers it reads and answers, whom
it lets in, and what it may answer instead follows from what kind of route it is: a command, a
query that waits for a Consistency-Token, one for administrators. That is added here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from codebase.web import openapi_headers, parked
from codebase.web.auth import OPEN_PATHS
from codebase.web.command_routes import CommandRoute, DocumentedRoute
from codebase.web.exchange import require_admin, require_operator, require_two_fa
from codebase.web.openapi_headers import references
from codebase.web.pages import JSON
from codebase.web.problems import MEDIA_TYPE, ProblemDetails

VERSION = "1"
"""Of every service's API."""
DESCRIPTION = (
    "Whatever goes wrong is answered as a problem (RFC 9457), with `errors` that name the field."
    " A command without an answer can be sent again with the same Idempotency-Key."
    " Without tokens a service listens on loopback only, and everybody is an administrator."
)

ONLY_READS: dict[str, Any] = {"x-only-reads": True}
"""As `openapi_extra`: a POST that changes nothing, and is for those who change nothing too."""

SECURITY_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "token": {"type": "apiKey", "in": "header", "name": "X-Token"},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "For browsers: the token as the password, with any name.",
    },
}
# The empty one: where no tokens are configured.
SECURITY: Sequence[Mapping[str, Any]] = [*({name: []} for name in SECURITY_SCHEMES), {}]

Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is to be known of a route to tell how it behaves.

    Args:
        is_command: it is carried out once for each Idempotency-Key.
        is_open: it needs no token.
        reads: it waits for what the client has seen.
        lists: its answers may lack what is parked.
        own_words: statuses above 399 that it answers itself, in a form that is no problem.
        required: the dependencies that it has.
    """

    is_command: bool
    is_open: bool
    reads: bool
    lists: bool
    own_words: frozenset[str]
    required: frozenset[Callable[..., Any] | None]

    @classmethod
    def of(cls, route: APIRoute, *, is_command: bool) -> Kind:
        """The kind of a route, from what it was declared with."""
        return cls(
            is_command=is_command,
            is_open=route.path in OPEN_PATHS,
            reads=parked.is_said_by(route.responses),
            lists=parked.LISTS.items() <= route.responses.items(),
            own_words=frozenset(map(str, filter(partial(_in_own_words, route), route.responses))),
            required=frozenset(each.call for each in route.dependant.dependencies),
        )

    @property
    def parameters(self) -> Iterator[openapi_headers.Header]:
        """The headers that a request may have, beside those that are HTTP's own."""
        if require_two_fa in self.required:
            yield openapi_headers.TWO_FA
        if self.is_command:
            yield openapi_headers.IDEMPOTENCY_KEY
        if self.is_command or self.reads:
            yield openapi_headers.CONSISTENCY_TOKEN
            yield openapi_headers.TRACEPARENT

    @property
    def headers_of_success(self) -> Iterator[str]:
        """Those of every answer below 400."""
        if self.is_command:
            yield from ("Consistency-Token", "Idempotent-Replayed")

    @property
    def forbidden(self) -> str:
        """When a caller is refused."""
        if require_admin in self.required:
            who = "Not an administrator, "
        elif require_operator in self.required:
            who = "Neither an operator nor an administrator, "
        else:
            who = "Not for this caller, "
        factor = "no second factor in header TWO-FA, " if require_two_fa in self.required else ""
        return f"{who}{factor}or sent by another site's page."

    def problems(self, operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Status, and when that is answered, of all problems that operations of this kind have."""
        yield "400", "A header that must be given once is given twice, or contradicts another."
        if not self.is_open:
            yield "401", "No token, or none that is known."
            yield "403", self.forbidden
            yield "429", "Wrong too often; try again after `Retry-After` seconds."
            yield "503", "Something needed is away; try again after `Retry-After` seconds."
        if _names_something(operation):
            yield "404", "There is nothing of this name, or nothing for this caller."
        yield "408", "The request did not arrive in time."
        yield "413", "The body is too large."
        if "requestBody" in operation:
            yield "415", f"The body is not {' or '.join(operation['requestBody']['content'])}."
        if "requestBody" in operation or operation.get("parameters"):
            yield "422", "A field is not acceptable; `errors` says which and why."
        yield "431", "The headers are too large."
        yield "500", "A fault of ours; the logs hold it under this `instance`."


HEADERS_OF_PROBLEMS: Mapping[str, Sequence[str]] = {
    "401": ["WWW-Authenticate"],
    "415": ["Accept-Encoding"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}


def document(title: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of all routes; commands appear as the FastAPI routes that they are not.

    Args:
        title: of the document.
        routes: of FastAPI, of commands, and others, which stay out of it.
    """
    documented = list(_documented(routes))
    made = get_openapi(
        title=title,
        version=VERSION,
        description=DESCRIPTION,
        routes=[route for route, _ in documented],
        servers=[{"url": "/", "description": "Where this document is."}],
    )
    names: set[str] = set()
    for route, kind in documented:
        for method in route.methods or ():
            operation = made["paths"][route.path_format][method.lower()]
            _describe(operation, kind)
            operation["operationId"] = _name_of(route, names)
    components = made.setdefault("components", {})
    _complete_schemas(components.setdefault("schemas", {}))
    answered = {name for headers in _headers_of(made["paths"]) for name in headers}
    components["headers"] = {
        name: header for name, header in openapi_headers.OF_ANSWERS.items() if name in answered
    }
    components["securitySchemes"] = dict(SECURITY_SCHEMES)
    made["security"] = list(SECURITY)
    made["tags"] = [{"name": name} for name in dict.fromkeys(_tags(made["paths"]))]
    return made


def _documented(routes: Iterable[BaseRoute]) -> Iterator[tuple[APIRoute, Kind]]:
    """Each route, as FastAPI's, with its kind; of two for the same requests the one that is taken.

    The other is there when services share a process that have paths in common.
    """
    seen: set[tuple[str, str]] = set()
    for route in routes:
        shown = route.documentation if isinstance(route, DocumentedRoute) else route
        if not isinstance(shown, APIRoute) or not shown.include_in_schema:
            continue
        asked = {(shown.path_format, method) for method in shown.methods or ()}
        if not asked & seen:
            seen |= asked
            yield shown, Kind.of(shown, is_command=isinstance(route, CommandRoute))


def _name_of(route: APIRoute, taken: set[str]) -> str:
    """What a generated client calls the operation: as its function is called here."""
    name = f"{route.tags[0]}_{route.name}" if route.name in taken else route.name
    taken.add(name)
    return name


def _tags(paths: Mapping[str, Mapping[str, Operation]]) -> Iterator[str]:
    for operations in paths.values():
        for operation in operations.values():
            yield from operation.get("tags", ())


def _headers_of(paths: Mapping[str, Mapping[str, Operation]]) -> Iterator[Mapping[str, Any]]:
    for operations in paths.values():
        for operation in operations.values():
            for response in operation["responses"].values():
                yield response["headers"]


def _describe(operation: Operation, kind: Kind) -> None:
    """Add what is true of every operation of the kind."""
    parameters = [*map(_parameter, operation.get("parameters", ())), *map(dict, kind.parameters)]
    if parameters:
        operation["parameters"] = parameters
    if kind.is_open:
        operation["security"] = []
    responses = operation["responses"]
    # What FastAPI says by itself about 422 is not what is answered here.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status, sentence in kind.problems(operation):
        responses.setdefault(status, {}).setdefault("description", sentence)
    for status, response in responses.items():
        response["headers"] = {**_headers(status, kind), **response.get("headers", {})}
        if status >= "400":
            content = response.get("content", {}).get(JSON, PROBLEM)
            own = status in kind.own_words
            response["content"] = (
                {JSON: content, MEDIA_TYPE: PROBLEM} if own else {MEDIA_TYPE: content}
            )


PROBLEM = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}


def _in_own_words(route: APIRoute, status: int | str) -> bool:
    model = route.responses[status].get("model", ProblemDetails)
    return not issubclass(model, ProblemDetails)


def _headers(status: str, kind: Kind) -> dict[str, dict[str, str]]:
    names = ["X-Request-Id"]
    if kind.is_command or kind.reads:
        names.append("Set-Cookie")
    if status >= "400":
        names += HEADERS_OF_PROBLEMS.get(status, ())
    if status < "400" or status in kind.own_words:
        names += kind.headers_of_success
    if kind.lists and status in {"200", "404"}:
        # What names no row of a list may be parked.
        names.append(openapi_headers.PARKED_STREAMS)
    return references(*names)


def _parameter(declared: Operation) -> Operation:
    """As it was declared, with an example, and ids with a description.

    One that may be left out is never null: there is none in an address.
    """
    schema = dict(declared["schema"])
    match schema.pop("anyOf", None):
        case [value, {"type": "null"}]:
            schema |= value
        case _:
            schema = declared["schema"]
    thing, _, is_id = declared["name"].replace("_", " ").rpartition(" id")
    described = {"description": f"The id of the {thing}."} if thing and not is_id else {}
    return {**described, **declared, "schema": _with_example(schema)}


def _names_something(operation: Mapping[str, Any]) -> bool:
    """Whether an operation is asked about something that there may not be."""
    parameters = operation.get("parameters", ())
    return any(one["in"] == "path" or one["name"] == "last_reference" for one in parameters)


def _complete_schemas(schemas: dict[str, Any]) -> None:
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    for schema in schemas.values():
        for name, value in schema.get("properties", {}).items():
            if name != IDEMPOTENCE_KEY:
                schema["properties"][name] = _with_example(value)


IDEMPOTENCE_KEY = "idempotence_key"
"""A constant would be sent by everybody who tries something out, and by the second try as well."""
EXAMPLES_OF_FORMATS: Mapping[str, str] = {
    "uuid": "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
    "date-time": "2026-11-28T09:30:00.000000Z",
}
"""For what looks the same whatever it stands for."""


def _with_example(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema, with an example if it has none and its format says what one looks like."""
    choices = (schema, *schema.get("anyOf", ()))
    formats = (EXAMPLES_OF_FORMATS.get(choice.get("format", "")) for choice in choices)
    found = [example for example in formats if example is not None]
    return {"examples": found, **schema} if found else dict(schema)
