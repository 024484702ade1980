"""Who may do what: every operation of every service, for every role.

An operator reads everything but personal values, whoever has a role that only looks changes
nothing, and a new operation is in no table here, so that it has to be thought of.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from http import HTTPMethod
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import httpx
import pytest

from codebase.registry import SYSTEM
from codebase.web.apps import OPERATIONS
from codebase.web.personal import HIDDEN
from tests.integration.everything import every_service
from tests.integration.flow import eventually
from tests.integration.payments import payment
from tests.integration.police import documented

if TYPE_CHECKING:
    from tests.databases import Databases

ROLES = {"shop": "client", "watch": "operator", "clerk": "personal", "boss": "admin"}
"""By name, which is also the token."""
TOKENS = tuple(
    f"{name}:{role}:{hashlib.sha256(name.encode()).hexdigest()}" for name, role in ROLES.items()
)
PERSONAL = "liddell"
"""What is in everything personal, and in nothing else."""

OK, FORBIDDEN, NOT_FOUND = 200, 403, 404

# (shop, whose rows they are; watch, the operator; clerk, the one for personal values; boss)
EVERYBODY = (OK, OK, OK, OK)
WHOSE_IT_IS = (OK, OK, NOT_FOUND, OK)
OPERATORS = (FORBIDDEN, OK, FORBIDDEN, OK)
OPERATORS_AND_NOTHING_THERE = (FORBIDDEN, NOT_FOUND, FORBIDDEN, NOT_FOUND)
WHO_SEES_PERSONAL_VALUES = (OK, FORBIDDEN, NOT_FOUND, OK)

READS = {
    "btc_price GET /buy": EVERYBODY,
    "btc_price GET /record": EVERYBODY,
    "fetch_buy_orders GET /buy_orders": EVERYBODY,
    "fetch_buy_orders GET /buy_orders/{order_id}": WHOSE_IT_IS,
    "get_orders GET /get_orders/": EVERYBODY,
    "price_record GET /record": EVERYBODY,
    "fetch_accounts GET /accounts": EVERYBODY,
    "fetch_accounts GET /accounts/{account_id}": WHOSE_IT_IS,
    "fetch_accounts POST /accounts/generate_company_report/{account_id}": WHOSE_IT_IS,
    "fetch_agents GET /agents": EVERYBODY,
    "fetch_agents GET /accounts/{account_id}/agents": WHOSE_IT_IS,
    "fetch_agents GET /accounts/{account_id}/agents/{agent_id}": WHOSE_IT_IS,
    "fetch_agents POST /agents/find_agent/{email}": WHO_SEES_PERSONAL_VALUES,
    "billing GET /": OPERATORS,
    "billing GET /regions": OPERATORS,
    "billing GET /prices": OPERATORS,
    "billing GET /invoices": OPERATORS,
    "billing GET /invoices/{account_id}": WHOSE_IT_IS,
    "billing GET /invoices/{account_id}/page": WHOSE_IT_IS,
    "compliance GET /": OPERATORS,
    "compliance GET /agents": OPERATORS,
    "compliance GET /requests": OPERATORS,
    "compliance GET /requests/{request_id}": OPERATORS,
    "transact GET /": EVERYBODY,
    "transact GET /transactions": EVERYBODY,
    "transact GET /transactions/{transaction_id}": WHOSE_IT_IS,
    "transact GET /transactions/{transaction_id}/page": WHOSE_IT_IS,
    "payment_provider GET /charges/{transaction_id}": EVERYBODY,
    "vip_customers GET /": OPERATORS,
    "vip_customers GET /months": OPERATORS,
    "alertman GET /": OPERATORS,
    "alertman GET /alerts": OPERATORS,
    "alertman GET /silences": OPERATORS,
    "alertman GET /silences/{silence_id}": OPERATORS,
    "alertman GET /mails/{transaction_id}": OPERATORS_AND_NOTHING_THERE,
    "fraud_police GET /": OPERATORS,
    "fraud_police GET /rules": OPERATORS,
    "fraud_police GET /listings": OPERATORS,
    "fraud_police GET /listings/{listing_id}": OPERATORS,
    "fraud_police GET /decisions": EVERYBODY,
    "fraud_police GET /decisions/{transaction_id}": WHOSE_IT_IS,
}
IMPERSONAL = {
    "btc_price GET /buy",
    "btc_price GET /record",
    "fetch_buy_orders GET /buy_orders",
    "fetch_buy_orders GET /buy_orders/{order_id}",
    "get_orders GET /get_orders/",
    "price_record GET /record",
    "billing GET /regions",
    "billing GET /prices",
    "payment_provider GET /charges/{transaction_id}",
    "vip_customers GET /",
    "vip_customers GET /months",
    "alertman GET /alerts",
    "alertman GET /mails/{transaction_id}",
    "fraud_police GET /rules",
    "fraud_police GET /decisions",
    "fraud_police GET /decisions/{transaction_id}",
}
CHANGES = {
    "create_buy_order PUT /buy_order",
    "place_order POST /place_order/",
    "create_account POST /accounts",
    "create_account DELETE /accounts/{account_id}",
    "create_account POST /dev/erase_db",
    "create_agent POST /accounts/{account_id}/agents",
    "create_agent DELETE /accounts/{account_id}/agents/{agent_id}",
    "block_agent POST /agents/block_agent/{agent_id}",
    "block_agent POST /agents/unblock_agent/{agent_id}",
    "set_price POST /prices",
    "compliance POST /",
    "compliance POST /block_agent/{agent_id}",
    "compliance POST /unblock_agent/{agent_id}",
    "alertman POST /alerts/{alert_id}/retry",
    "alertman POST /silences",
    "alertman DELETE /silences/{silence_id}",
    "alertman POST /forms/retry",
    "alertman POST /forms/silence",
    "alertman POST /forms/end_silence",
    "transact POST /transact",
    "transact POST /transactions/{transaction_id}/settle",
    "payment_provider POST /charges",
    "fraud_police POST /service/fraudpolice/api/v1/transaction/",
    "fraud_police POST /decisions/{transaction_id}/label",
    "fraud_police POST /listings",
    "fraud_police DELETE /listings/{listing_id}",
}


class World(NamedTuple):
    """Where the services are, and the ids of what is there."""

    urls: dict[str, str]
    ids: dict[str, str]

    def ask(self, operation: str, who: str, **options: object) -> httpx.Response:
        """One operation, as an OpenAPI document names it, on what is there."""
        name, method, path = operation.split()
        filled = re.sub(r"\{(\w+)\}", lambda found: self.ids[found[1]], path)
        query = "?currency=USD" if path == "/buy" else ""
        return httpx.request(
            method,
            f"{self.urls[name]}{filled}{query}",
            headers={
                "X-Token": who,
                "Content-Type": "application/json",
                # So that nobody is shown less than who asked before.
                "Consistency-Token": "latest",
            },
            **options,  # type: ignore[arg-type]
        )

    def made(self, operation: str, who: str, body: object) -> str:
        """The id of what a command has made."""
        answer = self.ask(operation, who, json=body).raise_for_status().json()
        return str(answer.get("buy_order", answer)["id"])


@pytest.fixture(scope="module")
def world(new_databases: Callable[[], Databases], free_port: Callable[[], int]) -> Iterator[World]:
    tokens = {"api_tokens": TOKENS, "service_token": "boss"}
    settings = new_databases().settings.model_copy(update=tokens)
    with every_service(settings, free_port) as urls:
        # Of alerts there are none.
        ids = {"email": f"agent.{PERSONAL}@example.org", "alert_id": str(uuid4())}
        world = World(urls, ids)
        fill(world)
        be_silent(world)
        police(world)
        eventually(lambda: all_is_over(world), "nothing happens any more")
        eventually(lambda: all_is_shown(world), "the teams know")
        yield world


def fill(world: World) -> None:
    order = {"currency": "USD", "amount": "1", "idempotence_key": str(uuid4())}

    def order_id() -> str | None:
        # Until there is a price.
        answer = world.ask("create_buy_order PUT /buy_order", "shop", json=order)
        return answer.json()["buy_order"]["id"] if answer.is_success else None

    eventually(order_id)
    world.ids["order_id"] = order_id() or ""
    account = {
        "name": f"Alice {PERSONAL}",
        "email": f"account.{PERSONAL}@example.org",
        "region": "emea",
        "vip": True,
    }
    world.ids["account_id"] = world.made("create_account POST /accounts", "shop", account)
    agent = {"name": f"Bo {PERSONAL}", "email": world.ids["email"]}
    hiring = "create_agent POST /accounts/{account_id}/agents"
    world.ids["agent_id"] = world.made(hiring, "shop", agent)

    def is_followed() -> bool:
        return PERSONAL in world.ask("compliance GET /agents", "boss").text

    eventually(is_followed)
    blocking, reason = "compliance POST /block_agent/{agent_id}", {"reason": f"of {PERSONAL}"}
    world.ids["request_id"] = world.made(blocking, "boss", reason)

    pay(world)


def pay(world: World) -> None:
    body = payment(name=f"A lamp for {PERSONAL}")
    answer = world.ask("transact POST /transact", "shop", json=body)
    transaction_id = answer.raise_for_status().json()["transactionID"]
    world.ids["transaction_id"] = transaction_id
    charge = {
        "transactionID": transaction_id,
        "channel": "paytm",
        "type": "wallet",
        # As it was paid: of another amount the payment would not be complete.
        "amount": body["payment"]["amount"],
        "currency": "INR",
    }
    world.ask("payment_provider POST /charges", "shop", json=charge).raise_for_status()


def be_silent(world: World) -> None:
    """About a client, for a reason that is not everybody's."""
    silence = {"matcher": {"client": "nobody"}, "ends_at": "2999-01-01T00:00:00Z"}
    wanted = {**silence, "reason": f"of {PERSONAL}"}
    world.ids["silence_id"] = world.made("alertman POST /silences", "boss", wanted)


def police(world: World) -> None:
    """What the shop has paid is judged, and a client is on a list."""
    asking = "fraud_police POST /service/fraudpolice/api/v1/transaction/"
    shown = documented(transactionID=world.ids["transaction_id"])
    world.ask(asking, "shop", json=shown).raise_for_status()
    wanted = {"list": "allow", "client": "nobody", "ends_at": "2999-01-01T00:00:00Z"}
    wanted["reason"] = f"of {PERSONAL}"
    world.ids["listing_id"] = world.made("fraud_police POST /listings", "boss", wanted)


def all_is_over(world: World) -> bool:
    """Whether what was asked for is done: until then answers differ by when they are given."""
    paid = world.ask("transact GET /transactions/{transaction_id}", "boss").json()
    blocked = world.ask("compliance GET /requests/{request_id}", "boss").json()
    return (paid.get("status"), blocked.get("state")) == ("PAYMENT_COMPLETE", "done")


def all_is_shown(world: World) -> bool:
    """Whether an administrator sees of everything what there is of it."""
    answers = {operation: world.ask(operation, "boss") for operation in READS}
    return all(
        answer.status_code == READS[operation][-1]
        and (operation in IMPERSONAL or PERSONAL in answer.text)
        for operation, answer in answers.items()
    )


def test_every_operation_is_in_one_of_the_tables(world: World) -> None:
    found = set()
    for name in SYSTEM.names():
        document = httpx.get(f"{world.urls[name]}/openapi.json", headers={"X-Token": "boss"})
        for path, operations in document.json()["paths"].items():
            found |= {
                f"{name} {method.upper()} {path.replace(':path', '')}"
                for method, operation in operations.items()
                if method.upper() in list(HTTPMethod) and operation["tags"] != [OPERATIONS]
            }
    assert found == {*READS, *CHANGES}


@pytest.mark.parametrize("operation", READS)
def test_who_may_read(world: World, operation: str) -> None:
    assert tuple(world.ask(operation, who).status_code for who in ROLES) == READS[operation]


@pytest.mark.parametrize("who", ["watch", "clerk"])
@pytest.mark.parametrize("operation", sorted(CHANGES))
def test_who_only_looks_changes_nothing(world: World, operation: str, who: str) -> None:
    answer = world.ask(operation, who, json={})
    assert (answer.status_code, answer.json()["type"]) == (FORBIDDEN, "/problems/forbidden")
    assert "changes nothing" in answer.json()["detail"]


@pytest.mark.parametrize("operation", [one for one, (_, watch, *_) in READS.items() if watch == OK])
def test_an_operator_is_shown_nothing_that_is_personal(world: World, operation: str) -> None:
    seen, hidden = world.ask(operation, "boss"), world.ask(operation, "watch")
    assert PERSONAL not in hidden.text
    if operation not in IMPERSONAL:
        assert PERSONAL in seen.text
        assert HIDDEN in hidden.text
    if seen.headers["content-type"] == "application/json":
        assert form(hidden.json()) == form(seen.json())
        assert HIDDEN not in seen.text


def form(value: object) -> object:
    """What there is in an answer, without the texts themselves."""
    match value:
        case dict():
            return {name: form(one) for name, one in value.items()}
        case list():
            return [form(one) for one in value]
        case str():
            return "text"
        case _:
            return type(value)


@pytest.mark.parametrize("search", ["Bo", "b", f"agent.{PERSONAL}@example.org", "nobody"])
def test_an_operator_does_not_search_by_what_is_personal(world: World, search: str) -> None:
    """Letter by letter it would be told all of it."""
    for operation in ("compliance GET /agents", "compliance GET /"):
        assert world.ask(operation, "watch", params={"search": search}).status_code == FORBIDDEN
        assert world.ask(operation, "boss", params={"search": search}).status_code == OK


def test_an_operator_finds_an_agent_by_its_id(world: World) -> None:
    search = {"search": world.ids["agent_id"]}
    (found,) = world.ask("compliance GET /agents", "watch", params=search).json()["items"]
    assert (found["id"], found["name"]) == (world.ids["agent_id"], HIDDEN)


def test_who_may_not_ask_compliance_is_shown_no_buttons(world: World) -> None:
    pages = [world.ask("compliance GET /", who).text for who in ("boss", "watch")]
    buttons = [re.search(r"<button[^>]*>(Unb|B)lock</button>", page) for page in pages]
    assert [button is not None for button in buttons] == [True, False]


@pytest.mark.parametrize("name", SYSTEM.names())
def test_metrics_are_for_operators_and_administrators(world: World, name: str) -> None:
    assert tuple(world.ask(f"{name} GET /metrics", who).status_code for who in ROLES) == OPERATORS
