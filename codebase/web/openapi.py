"""The OpenAPI document, with the problems that every operation may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from codebase.web.command_routes import CommandRoute
from codebase.web.problems import MEDIA_TYPE, ProblemDetails

VERSION = "1"
"""Of every service's API."""

ONLY_READS: dict[str, Any] = {"x-only-reads": True}
"""As `openapi_extra`: a POST that changes nothing, and is for those who change nothing too."""

PROBLEM_REFERENCE = "#/components/schemas/ProblemDetails"


def document(title: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of all routes; commands appear as the FastAPI routes that they are not.

    Args:
        title: of the document.
        routes: of FastAPI, of commands, and others, which stay out of it.
    """
    documented = [r.documentation if isinstance(r, CommandRoute) else r for r in routes]
    made = get_openapi(title=title, version=VERSION, routes=documented)
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "token": {"type": "apiKey", "in": "header", "name": "X-Token"},
    }
    made["security"] = [{"bearer": []}, {"token": []}, {}]
    for operations in made["paths"].values():
        for operation in operations.values():
            _document_problems(operation)
    return made


COMMON_PROBLEMS: Mapping[str, str] = {
    "401": "No token, or none that is known.",
    "403": "Not for this caller, or sent by another site's page.",
    "422": "A field is not acceptable; `errors` says which and why.",
    "503": "Something that the answer needs is away; try again after `Retry-After` seconds.",
}
BODY_PROBLEMS: Mapping[str, str] = {
    "413": "The body is too large.",
    "415": "The body is not application/json.",
}
NAMING_PROBLEMS: Mapping[str, str] = {
    "404": "There is nothing of this name, or nothing for this caller.",
}


def _document_problems(operation: dict[str, Any]) -> None:
    """Every answer above 399 is a problem, those that nobody declared too."""
    responses = operation["responses"]
    common = {
        **COMMON_PROBLEMS,
        **(NAMING_PROBLEMS if _names_something(operation) else {}),
        **(BODY_PROBLEMS if "requestBody" in operation else {}),
    }
    # What FastAPI says by itself about 422 is not what is answered here.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status, sentence in common.items():
        responses.setdefault(status, {"description": sentence})
    for status, response in responses.items():
        if status >= "400":
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_REFERENCE}}}


def _names_something(operation: Mapping[str, Any]) -> bool:
    """Whether an operation is asked about something that there may not be."""
    parameters = operation.get("parameters", ())
    return any(one["in"] == "path" or one["name"] == "last_reference" for one in parameters)
