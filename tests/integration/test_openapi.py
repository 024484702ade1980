"""Every service does what its OpenAPI document says, whatever it is sent (schemathesis)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis import CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from codebase.registry import SYSTEM
from codebase.services.payment_provider.service import FAILS, HANGS, LOST
from codebase.services.transact.bodies import EXAMPLE as PAYMENT
from tests.integration.everything import every_service
from tests.integration.flow import eventually
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

EXAMPLES = 40
DRAWN_ANEW = "TORTURE_SEEDS" in os.environ
"""Whether every run sends something else: what is found so is no news of the latest change."""
OF_HTTP = {
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "referrer-policy",
    "x-content-type-options",
}
"""Headers that everybody knows, which no document tells of."""


def documented(case: schemathesis.Case) -> dict[str, Any]:
    """Status -> what the document says of such answers to the operation."""
    path, method = case.operation.path, case.operation.method.lower()
    answers: dict[str, Any] = case.operation.schema.raw_schema["paths"][path][method]["responses"]
    return answers


def no_header_is_a_secret(
    _context: CheckContext, response: Response, case: schemathesis.Case
) -> None:
    """The document names every header of an answer that is ours."""
    told = {name.lower() for name in documented(case)[str(response.status_code)]["headers"]}
    assert set(response.headers) <= OF_HTTP | told


CHECKS = [
    no_header_is_a_secret,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def urls(
    new_databases: Callable[[], Databases], free_port: Callable[[], int]
) -> Iterator[dict[str, str]]:
    """Where each service is."""
    with every_service(new_databases().settings, free_port) as found:
        yield found


@pytest.fixture(scope="module")
def known(urls: dict[str, str]) -> dict[str, str]:
    """Names of parameters, each with a value that stands for something that is there."""
    account = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": "emea", "vip": True}
    opened = httpx.post(f"{urls['create_account']}/accounts", json=account)
    account_id = opened.raise_for_status().json()["id"]
    agents = f"{urls['create_agent']}/accounts/{account_id}/agents"
    agent = {"name": "Bo", "email": f"{uuid4()}@example.org"}
    agent_id = httpx.post(agents, json=agent).raise_for_status().json()["id"]
    asked = httpx.post(f"{urls['compliance']}/block_agent/{agent_id}")
    return {
        "account_id": account_id,
        "agent_id": agent_id,
        "email": agent["email"],
        "request_id": asked.raise_for_status().json()["id"],
        "month": "2026-11",
        **known_of_payments(urls),
    }


def known_of_payments(urls: dict[str, str]) -> dict[str, str]:
    """A payment by a card that is blocked, and so an alert."""
    ends = {"ends_at": "2099-01-01T00:00:00Z", "reason": "a test"}
    card = PAYMENT["payment"]["card"]
    listed = httpx.post(
        f"{urls['fraud_police']}/listings", json={"list": "block", "card": card, **ends}
    )
    silence = httpx.post(
        f"{urls['alertman']}/silences", json={"matcher": {"rule": "none such"}, **ends}
    )
    # Whoever judges a payment waits for nobody, and looks where this is read.
    httpx.get(
        f"{urls['fraud_police']}{listed.raise_for_status().headers['Location']}",
        headers={"Consistency-Token": listed.headers["Consistency-Token"]},
        timeout=PATIENCE_SECONDS,
    ).raise_for_status()
    paid = httpx.post(f"{urls['transact']}/transact", json=PAYMENT, timeout=PATIENCE_SECONDS)
    found: list[dict[str, str]] = []
    alerts = f"{urls['alertman']}/alerts"
    eventually(lambda: found.extend(httpx.get(alerts).json()["items"]) or found)
    return {
        "listing_id": listed.json()["id"],
        "silence_id": silence.raise_for_status().json()["id"],
        "transaction_id": paid.json()["transactionID"],
        "alert_id": found[0]["id"],
    }


# The services run beside, in a thread, and draw their pauses from there meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("name", SYSTEM.names())
def test_a_service_keeps_to_its_document(
    urls: dict[str, str], known: dict[str, str], name: str
) -> None:
    schema = schemathesis.openapi.from_url(f"{urls[name]}/openapi.json")
    for operation in schema.get_all_operations():
        keeps_to_its_document(operation.ok(), known)


def keeps_to_its_document(operation: schemathesis.APIOperation, known: dict[str, str]) -> None:
    """Send one operation what its document allows, and what it forbids."""
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @given(case=cases, of_known=st.booleans())
    @examples(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=not DRAWN_ANEW,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case, of_known: bool) -> None:  # noqa: FBT001 - drawn
        if of_known:
            case.path_parameters |= {
                parameter: known[parameter]
                for parameter in case.path_parameters
                if parameter in known
            }
        if not is_asked_to_fail(case):
            eventually(lambda: is_answered(case), f"{case.operation.label} is answered")

    check()


def is_answered(case: schemathesis.Case) -> bool:
    """Whether the answer, which the document allows, is more than that one may come again."""
    answer = case.call(timeout=PATIENCE_SECONDS)
    comes_again = is_for_now(case, answer)
    excluded = [not_a_server_error] if comes_again else []
    case.validate_response(answer, checks=CHECKS, excluded_checks=excluded)
    return not comes_again


def is_for_now(case: schemathesis.Case, answer: Response) -> bool:
    """Whether something is away for now, as the document has it: a deadline may pass anywhere."""
    is_away = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return is_away and "retry-after" in answer.headers and "503" in documented(case)


def is_asked_to_fail(case: schemathesis.Case) -> bool:
    """Whether the amount has the stand-in for a payment provider fail, or say nothing at all."""
    if case.operation.path != "/charges" or not isinstance(case.body, dict):
        return False
    try:
        amount = Decimal(str(case.body.get("amount")))
        return any(amount == each for each in (FAILS, HANGS, LOST))
    except InvalidOperation:
        return False
