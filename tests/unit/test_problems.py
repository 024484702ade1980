"""Everything that goes wrong has one form."""

from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from codebase.foundation.errors import ServiceUnavailable
from codebase.model.buy_orders.buy_order import order_book_limit
from codebase.model.refusals import Conflict, KeyReused, NotFound, Rejected, Unavailable
from codebase.web.problems import Behind, HttpProblem, StreamParked, problem_of

CASES = {
    "a refusal": (Rejected("no"), 409, "rejected"),
    "a conflict": (Conflict("no"), 409, "conflict"),
    "a full order book": (order_book_limit("0.5"), 409, "order-book-limit"),
    "something that does not exist": (NotFound("no"), 404, "not-found"),
    "a reused key": (KeyReused("no"), 422, "idempotence-key-reused"),
    "something that is missing now": (Unavailable("no"), 503, "unavailable"),
    "a database that is away": (ServiceUnavailable("db", "is away"), 503, "service-unavailable"),
    "a read model that is behind": (Behind(), 503, "read-model-behind"),
    "a stream that is parked": (StreamParked(), 503, "stream-parked"),
    "an unknown path": (HTTPException(404), 404, "not-found"),
    "another method": (HTTPException(405), 405, "method-not-allowed"),
    "a bug": (ZeroDivisionError("secret"), 500, "internal-error"),
}


@pytest.mark.parametrize(("error", "status", "kind"), CASES.values(), ids=CASES.keys())
def test_an_error_becomes_a_problem(error: Exception, status: int, kind: str) -> None:
    problem = problem_of(error)
    told = json.loads(problem.body("the-request"))
    assert problem.status == told["status"] == status
    assert told["type"] == f"/problems/{kind}"
    assert told["instance"] == "the-request"
    assert told["title"]
    assert told["detail"]
    assert "secret" not in json.dumps(told)
    assert ("Retry-After" in problem.headers) == (status == 503)


def test_the_facts_of_a_refusal_are_members_but_never_overwrite_the_standards() -> None:
    told = json.loads(problem_of(order_book_limit("0.5")).body("1"))
    assert told["left_btc"] == "0.5"
    problem = HttpProblem(409, "conflict", "no", facts={"status": "200", "more": "yes"})
    told = json.loads(problem.body("1"))
    assert (told["status"], told["more"]) == (409, "yes")


def test_a_client_is_asked_to_wait_whole_seconds_and_at_least_one() -> None:
    assert problem_of(ServiceUnavailable("db", "", 0.2)).headers["Retry-After"] == "1"
    assert problem_of(ServiceUnavailable("db", "", 2.1)).headers["Retry-After"] == "3"
