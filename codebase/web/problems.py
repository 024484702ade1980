"""Problem details (RFC 9457): the one form in which everything that goes wrong is answered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from codebase.foundation.errors import Errors, InvalidInputError, ServiceUnavailable
from codebase.model.refusals import Conflict, KeyReused, NotFound, Rejected, Unavailable
from codebase.web.schemas import MayBeAbsent, example

MEDIA_TYPE = "application/problem+json"

# The most specific class of a refusal decides; a plain Rejected is a conflict.
STATUS_OF_REFUSAL: Mapping[type[Rejected], HTTPStatus] = {
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Conflict: HTTPStatus.CONFLICT,
    Rejected: HTTPStatus.CONFLICT,
}
REFUSAL_RETRY_SECONDS = 1.0


class HttpProblem(Exception):  # noqa: N818 - the standard's own word
    """What a client is told instead of the answer that it asked for.

    Args:
        status: HTTP status.
        kind: stable name, the last segment of the problem's `type`, such as `order-book-limit`.
        detail: a sentence for the caller; it never repeats what the caller sent.
        errors: what is wrong with which field.
        headers: further headers of the answer, such as `Retry-After`.
        facts: further members of the problem, such as what is left of a budget.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Errors | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, str | bool] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = int(status)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.facts = facts or {}

    @property
    def title(self) -> str:
        """The problem's kind, in words."""
        return self.kind.replace("-", " ").capitalize()

    def body(self, request_id: str) -> bytes:
        """The JSON text of the answer; `request_id` is its `instance`, which the logs carry too."""
        members: dict[str, object] = {
            **self.facts,
            "type": f"/problems/{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": request_id,
        }
        if self.errors is not None:
            members["errors"] = self.errors
        return json.dumps(members).encode()


class Behind(Exception):  # noqa: N818 - a state that passes
    """The read model does not yet hold what the client's consistency token stands for.

    Args:
        retry_after_seconds: when it is worth trying again.
    """

    def __init__(self, retry_after_seconds: float = 1) -> None:
        super().__init__("the read model is behind what the Consistency-Token stands for")
        self.retry_after_seconds = retry_after_seconds


class StreamParked(Exception):  # noqa: N818 - a state that passes, once somebody has seen to it
    """The stream that was asked for by its id has an event that could not be projected."""

    retry_after_seconds = 60.0
    """Somebody has to mend what keeps it."""

    def __init__(self) -> None:
        super().__init__(
            "an event of what was asked for could not be projected; until it is, nothing is shown"
        )


KINDS_OF_UNAVAILABLE: Mapping[type[Exception], str] = {
    ServiceUnavailable: "service-unavailable",
    Behind: "read-model-behind",
    StreamParked: "stream-parked",
}


class ProblemDetails(BaseModel):
    """What a client is told when it does not get what it asked for (RFC 9457)."""

    model_config = ConfigDict(extra="allow") | example(
        type="/problems/invalid-input",
        title="Invalid input",
        status=422,
        detail="not acceptable: email",
        instance="5d3f0c6a9b1e4f7c8a2d6e9b0c4f1a73",
        errors={"email": ["must be an e-mail address such as name@example.org"]},
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: MayBeAbsent[dict[str, list[str]]] = None


def problem_of(error: Exception) -> HttpProblem:
    """What a client is told of `error`; of a bug only where to find it in the logs."""
    match error:
        case HttpProblem():
            return error
        case Rejected():
            return _refused(error)
        case InvalidInputError():
            return _invalid(error)
        case ServiceUnavailable() | Behind() | StreamParked():
            return _unavailable(error)
        case HTTPException():
            return _of_the_router(error)
        case _:
            return HttpProblem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal-error",
                "something went wrong here; the logs hold it under this instance",
            )


def _of_the_router(error: HTTPException) -> HttpProblem:
    """Starlette's own refusals: an unknown path, another method, of which it names too few."""
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return HttpProblem(error.status_code, kind, str(error.detail))


def _invalid(error: InvalidInputError) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-input",
        "not acceptable: " + ", ".join(error.errors),
        errors=error.errors,
    )


def _refused(refusal: Rejected) -> HttpProblem:
    status = next(s for kind, s in STATUS_OF_REFUSAL.items() if isinstance(refusal, kind))
    headers = None
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers = _retry_after(REFUSAL_RETRY_SECONDS)
    return HttpProblem(
        status, refusal.problem, refusal.detail, headers=headers, facts=refusal.facts
    )


def _unavailable(error: ServiceUnavailable | Behind | StreamParked) -> HttpProblem:
    kind = next(name for of, name in KINDS_OF_UNAVAILABLE.items() if isinstance(error, of))
    headers = _retry_after(error.retry_after_seconds)
    return HttpProblem(HTTPStatus.SERVICE_UNAVAILABLE, kind, str(error), headers=headers)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
