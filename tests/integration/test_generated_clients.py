"""A client that a generator made of the documents does everything that the README does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from codebase.registry import SYSTEM
from tests.integration.documented import ADMIN, FACTOR, Document, World, every_document
from tests.integration.flow import eventually

if TYPE_CHECKING:
    from tests.databases import Databases

# In an environment of its own: it takes no typer as new as ours.
GENERATOR = Path(__file__).parents[2] / ".venv-generator" / "bin" / "openapi-python-client"
GENERATED = sorted(set(SYSTEM.names()) - {"event_relay", "migration", "read_model_sync"})
"""Services with more to call than what every process answers."""


@pytest.fixture(scope="module")
def world(new_databases: Callable[[], Databases], free_port: Callable[[], int]) -> Iterator[World]:
    with every_document(new_databases(), free_port) as found:
        yield found


class Clients:
    """Clients that a generator has made of the documents, and that know nothing else.

    Args:
        folder: an importable folder that gets a package for each service.
        world: where the documents come from.
    """

    def __init__(self, folder: Path, world: World) -> None:
        self._package = folder.name
        self._clients = {}
        for name in GENERATED:
            self._generate(folder, name, world.documents[name])
            made = import_module(f"{self._package}.{name}")
            self._clients[name] = made.AuthenticatedClient(world.urls[name], token=ADMIN)

    def _generate(self, folder: Path, name: str, document: Document) -> None:
        file, configuration = folder / f"{name}.json", folder / "configuration.yml"
        file.write_text(json.dumps(document))
        configuration.write_text("post_hooks: []\n")
        options = f"--fail-on-warning --meta none --path {file} --config {configuration}"
        command = f"{GENERATOR} generate {options} --output-path {folder / name}"
        subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        for client in self._clients.values():
            client.get_httpx_client().close()

    def model(self, service: str, name: str) -> Any:  # noqa: ANN401 - what was generated
        return getattr(import_module(f"{self._package}.{service}.models"), name)

    def call(
        self, service: str, operation: str, *path: object, part: str = "", **options: object
    ) -> Any:  # noqa: ANN401 - what was generated
        """The answer to one operation, with its `parsed` body."""
        module = f"{self._package}.{service}.api.{part or service}.{operation}"
        made: Any = import_module(module)
        return made.sync_detailed(*path, client=self._clients[service], **options)


@pytest.fixture(scope="module")
def clients(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    assert GENERATOR.exists(), "no generator of clients: ./test.sh makes its environment"
    folder = tmp_path_factory.mktemp("generated") / "generated_clients"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        made = Clients(folder, world)
        yield made
        made.close()


def test_a_generated_client_buys_and_looks_at_what_it_bought(clients: Clients) -> None:
    put, put_order = "create_buy_order", clients.model("create_buy_order", "PutBuyOrder")
    usd = clients.model(put, "Currency").USD

    def placed(amount: str = "1.00") -> Any:  # noqa: ANN401 - what was generated
        key = uuid4()
        order = put_order(currency=usd, amount=amount, idempotence_key=key)
        return clients.call(put, "put_buy_order", body=order, idempotency_key=str(key))

    eventually(lambda: clients.call("btc_price", "get_record").parsed.prices, "there is a price")
    eventually(lambda: placed().status_code == 200, "it is known where orders are placed")
    orders = [placed(f"{number}.50") for number in range(1, 4)]
    assert [order.status_code for order in orders] == [200] * 3
    last = orders[-1]
    assert last.parsed.buy_order.price_source == "demo"
    assert last.headers["location"] == f"/buy_orders/{last.parsed.buy_order.id}"
    token = last.headers["consistency-token"]
    page = clients.call("fetch_buy_orders", "get_buy_orders", page_size=2, consistency_token=token)
    assert [row.currency_amount for row in page.parsed.rows] == ["3.50", "2.50"]
    after = clients.call(
        "fetch_buy_orders", "get_buy_orders", last_reference=page.parsed.last_reference
    )
    assert after.parsed.rows[0].id == orders[0].parsed.buy_order.id
    one = clients.call("fetch_buy_orders", "get_buy_order", last.parsed.buy_order.id)
    assert one.parsed == clients.model("fetch_buy_orders", "BuyOrder").from_dict(
        last.parsed.buy_order.to_dict()
    )
    too_large = placed("999999999.00")
    assert too_large.status_code == 409
    assert float(too_large.parsed.left_btc) < 100
    currency = clients.model("btc_price", "Currency").USD
    assert clients.call("btc_price", "get_price", currency=currency).parsed.source == "demo"


class Business(NamedTuple):
    """An account with an agent, and the token that covers both."""

    account_id: UUID
    agent_id: UUID
    email: str
    token: str


@pytest.fixture
def business(clients: Clients) -> Business:
    email, key = f"{uuid4()}@example.org", str(uuid4())
    body = clients.model("create_account", "PostAccount")(
        name="Blue",
        email=f"{uuid4()}@example.org",
        region=clients.model("create_account", "Region").EMEA,
        vip=True,
    )
    opened = clients.call("create_account", "open_account", body=body, idempotency_key=key)
    again = clients.call("create_account", "open_account", body=body, idempotency_key=key)
    assert (opened.status_code, opened.parsed) == (201, again.parsed)
    assert again.headers["idempotent-replayed"] == "true"
    account_id = opened.parsed.id
    agent = clients.model("create_agent", "PostAgent")(name="Bo", email=email)
    # Each service has a client of its own, with no cookies of the others'.
    seen = {"consistency_token": opened.headers["consistency-token"]}
    created = clients.call("create_agent", "create_agent", account_id, body=agent, **seen)
    token = created.headers["consistency-token"]
    return Business(account_id, created.parsed.id, email, token)


def test_a_generated_client_looks_after_accounts_and_agents(
    clients: Clients, business: Business
) -> None:
    account_id, agent_id, email, token = business
    seen = {"consistency_token": token}
    assert clients.call("fetch_accounts", "get_account", account_id, **seen).parsed.vip is True
    page = clients.call("fetch_accounts", "get_accounts", size=1, **seen).parsed
    assert (len(page.items), page.last_reference) == (1, page.items[0].id)
    report = clients.call("fetch_accounts", "generate_company_report", account_id, **seen)
    assert [agent.email for agent in report.parsed.agents] == [email]
    listed = clients.call("fetch_agents", "get_agents_of_account", account_id, **seen).parsed
    assert [agent.id for agent in listed.items] == [agent_id]
    assert clients.call("fetch_agents", "find_agent", email, **seen).parsed.id == agent_id
    assert clients.call("fetch_agents", "get_agents", **seen).parsed.items
    missing = clients.call("fetch_accounts", "get_account", agent_id)
    assert (missing.status_code, missing.parsed.status) == (404, 404)
    removed = clients.call("create_agent", "remove_agent", account_id, agent_id)
    assert removed.status_code == 202
    assert clients.call("create_account", "close_account", account_id).status_code == 202
    assert clients.call("create_account", "close_account", account_id).status_code == 204


def test_a_generated_client_blocks_with_a_reason_and_without(
    clients: Clients, business: Business
) -> None:
    reason = clients.model("block_agent", "Reason")(reason="The account is 60 days overdue")
    blocked = clients.call("block_agent", "block_agent", business.agent_id, body=reason)
    assert (blocked.status_code, blocked.headers["outcome"]) == (202, "done")
    token = blocked.headers["consistency-token"]
    shown = clients.call(
        "fetch_agents", "get_agent", business.account_id, business.agent_id, consistency_token=token
    )
    assert shown.parsed.blocked is True
    freed = clients.call("block_agent", "unblock_agent", business.agent_id)
    assert (freed.status_code, freed.headers["outcome"]) == (202, "done")


def test_a_generated_client_asks_the_teams(clients: Clients, business: Business) -> None:
    seen = {"consistency_token": business.token}
    invoice = clients.call("billing", "get_invoice", business.account_id, **seen).parsed
    assert invoice.lines[0].duration.startswith("PT0H")
    assert clients.call("billing", "get_invoices", month=invoice.month, **seen).parsed.count >= 1
    assert clients.call("billing", "get_regions", **seen).parsed.regions
    months = clients.call("vip_customers", "get_months", count=2, **seen).parsed.months
    assert months[-1].regions[0].opened >= 1
    agents = clients.call("compliance", "get_agents", search=business.email, **seen).parsed
    assert [agent.id for agent in agents.items] == [business.agent_id]
    asked = clients.call("compliance", "block_agent", business.agent_id)
    assert asked.headers["location"] == f"/requests/{asked.parsed.id}"

    def state() -> str:
        return str(clients.call("compliance", "get_request", asked.parsed.id).parsed.state)

    eventually(lambda: state() == "done", "the agent is blocked")
    listed = clients.call("compliance", "get_requests", size=5).parsed
    assert asked.parsed.id in [each.id for each in listed.items]


def test_a_generated_client_pays_and_finds_out_why_not(clients: Clients) -> None:
    transact, police = "transact", "fraud_police"
    number = "4929000000006"

    def paid(card: str) -> Any:  # noqa: ANN401 - what was generated
        money = {"amount": "12.50", "currency": "INR"}
        body = clients.model(transact, "PostTransaction")(
            order=clients.model(transact, "Order")(
                id="7", name="A lamp", cost="12.50", currency="INR"
            ),
            payment_method=clients.model(transact, "PaymentMethod").AMAZONPAY,
            payment=clients.model(transact, "Payment")(
                card=card, type_=clients.model(transact, "PaymentType").WALLET, **money
            ),
        )
        return clients.call(transact, "post_transaction", body=body)

    first = paid("1234567887654321")
    assert first.status_code in {200, 202}
    made = first.parsed.transaction_id
    eventually(
        lambda: clients.call(transact, "get_transaction", made).parsed.status == "PAYMENT_COMPLETE"
    )
    listing = clients.model(police, "PostListing")(
        list_=clients.model(police, "ListName").BLOCK,
        card=number,
        ends_at=datetime(2099, 1, 1, tzinfo=UTC),
        reason="stolen",
    )
    listed = clients.call(police, "put_on_list", body=listing)
    assert listed.status_code == 201
    found = clients.call(police, "get_listing", listed.parsed.id)
    assert found.parsed.reason == "stolen"
    answers: list[Any] = []

    def is_refused() -> bool:
        answers.append(paid(number))
        return bool(answers[-1].status_code == 402)

    eventually(is_refused, "it is refused")
    refused = answers[-1]
    assert refused.parsed.fraud_status is True
    why_it_was: list[Any] = []

    def is_told_why() -> bool:
        asked = clients.call(police, "get_decision", refused.parsed.transaction_id)
        why_it_was.append(asked.parsed)
        return bool(asked.status_code == 200)

    eventually(is_told_why, "it is shown why")
    why = why_it_was[-1]
    assert (why.is_fraud, why.client, why.card) == (True, "boss", "visa 0006")
    eventually(lambda: clients.call("alertman", "get_alerts").parsed.items, "somebody is told")


def test_a_generated_client_is_shown_the_pages(clients: Clients, business: Business) -> None:
    seen = {"consistency_token": business.token}
    for service in ("billing", "compliance", "vip_customers"):
        assert "<html" in clients.call(service, "get_page", **seen).parsed
    page = clients.call("billing", "get_invoice_page", business.account_id, **seen)
    assert "Blue" in page.parsed
    form = clients.model("compliance", "PostFormForm")(
        agent_id=business.agent_id,
        action=clients.model("compliance", "PostFormFormAction").BLOCK,
        key=uuid4(),
    )
    pressed = clients.call("compliance", "post_form", body=form)
    assert (pressed.status_code, pressed.headers["location"]) == (303, "/?")


def test_a_generated_client_sets_a_price_with_the_second_factor_only(clients: Clients) -> None:
    price = clients.model("set_price", "PostPrice")(
        region=clients.model("set_price", "Region").EMEA,
        from_day=date(2999, 1, 1),
        price_per_hour="2.5",
    )
    assert clients.call("set_price", "set_price", body=price, two_fa="guess").status_code == 403
    done = clients.call("set_price", "set_price", body=price, two_fa=FACTOR)
    assert (done.status_code, done.parsed.price_per_hour) == (201, "2.5000")
    token = done.headers["consistency-token"]
    listed = clients.call("billing", "get_prices", consistency_token=token).parsed.items
    assert [(one.from_day, one.price_per_hour) for one in listed] == [(date(2999, 1, 1), "2.5000")]


def test_a_generated_client_erases_with_the_second_factor_only(
    clients: Clients, business: Business
) -> None:
    refused = clients.call("create_account", "erase_db", two_fa="guess")
    assert refused.status_code == 403
    erased = clients.call("create_account", "erase_db", two_fa=FACTOR)
    assert erased.status_code == 202
    token = erased.headers["consistency-token"]
    gone = clients.call(
        "fetch_accounts", "get_account", business.account_id, consistency_token=token
    )
    assert gone.status_code == 404


def test_a_generated_client_watches_over_processes(clients: Clients) -> None:
    for service in GENERATED:
        assert clients.call(service, "get_healthz", part="operations").parsed.status == "alive"
        metrics = clients.call(service, "get_metrics", part="operations")
        assert "orderly_http_requests_total" in metrics.parsed

        def is_ready(service: str = service) -> bool:
            return bool(clients.call(service, "get_readyz", part="operations").status_code == 200)

        eventually(is_ready, f"{service} is ready")
