"""The teams as processes: fed by commands, killed meanwhile, and right all the same."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from psycopg.rows import class_row

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.model.accounts.usage import Month
from codebase.registry import SYSTEM
from tests import processes
from tests.acceptance.conftest import Service, System, until
from tests.integration.histories import Happened, charged, hours

if TYPE_CHECKING:
    from tests.databases import Databases

COMMANDS = ("create_account", "create_agent", "block_agent")
AGGREGATES = {one.category: one for one in SYSTEM.aggregates}
TEAMS = ("billing", "vip_customers")
READ_LOG = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event ORDER BY recorded_at, partition, position
"""


class Company:
    """The command services in one process, the relay, and the teams in one process each."""

    def __init__(self, system: System, free_port: Callable[[], int]) -> None:
        self.system = system
        self.commands = Service(system, COMMANDS, free_port())
        self.relay = Service(system, ("event_relay",), free_port())
        self.teams = {name: Service(system, (name,), free_port()) for name in TEAMS}
        self.client = httpx.Client(base_url=self.commands.url)
        self._begun: list[Service] = []

    def start(self, *services: Service, **environment: str) -> None:
        for service in services:
            service.start(**environment)
            self._begun.append(service)
        for service in services:
            service.wait_until_ready()

    def start_all(self) -> Company:
        relay = [self.relay] if "BROKER_URL" in self.system.environment else []
        self.start(self.commands, *relay, *self.teams.values())
        return self

    def stop(self) -> None:
        self.client.close()
        for service in self._begun:
            service.kill()

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        answer = self.client.post(path, json=body)
        assert answer.status_code in {201, 202}, answer.text
        return dict(answer.json()) if answer.content else {}

    def open(self, region: str, *, vip: bool) -> str:
        body = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": region, "vip": vip}
        return str(self.post("/accounts", body)["id"])

    def hire(self, account_id: str) -> str:
        body = {"name": "Bo", "email": f"{uuid4()}@example.org"}
        return str(self.post(f"/accounts/{account_id}/agents", body)["id"])

    def happened(self) -> list[Happened]:
        """The log."""
        with (
            self.system.databases.as_owner() as log,
            log.cursor(row_factory=class_row(RecordedEvent)) as cursor,
        ):
            return [
                Happened(
                    row.recorded_at,
                    row.stream_id,
                    row.version,
                    decode(row, AGGREGATES[row.category]),
                )
                for row in cursor.execute(READ_LOG)
            ]

    def wait_until_the_teams_know(self) -> None:
        with self.system.databases.as_owner() as log:
            heads = dict(log.execute("SELECT partition, position FROM log_head").fetchall())
        for name in TEAMS:
            until(lambda name=name: checkpoints(self.system.databases, name) == heads, name)

    def ask(self, team: str, path: str, **parameters: str) -> Any:  # noqa: ANN401 - any JSON
        answer = httpx.get(f"{self.teams[team].url}{path}", params=parameters)
        return answer.raise_for_status().json()

    def orderly(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return processes.run(arguments, self.system.environment)


def checkpoints(databases: Databases, projector: str) -> dict[int, int]:
    statement = "SELECT partition, position FROM projection_checkpoint WHERE projector = %s"
    with databases.as_read_model_owner() as store:
        return dict(store.execute(statement, [projector]).fetchall())


@contextmanager
def company_of(system: System, free_port: Callable[[], int]) -> Iterator[Company]:
    with ExitStack() as stack:
        company = Company(system, free_port)
        stack.callback(company.stop)
        yield company


@pytest.fixture(params=["with a broker", "without a broker"])
def company(request: pytest.FixtureRequest, free_port: Callable[[], int]) -> Iterator[Company]:
    """Nothing is started yet."""
    name = "system" if request.param == "with a broker" else "system_without_broker"
    with company_of(request.getfixturevalue(name), free_port) as made:
        yield made


def live(company: Company, seed: int, steps: int) -> None:
    """A while of ordinary business."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    accounts = [company.open(region, vip=True) for region in ("emea", "nam", "apac")]
    accounts.append(company.open("nam", vip=False))
    agents = [company.hire(account) for account in accounts]
    for _ in range(steps):
        number = chance.random()
        if number < 0.2:
            agents.append(company.hire(chance.choice(accounts)))
        elif number < 0.22 and len(accounts) > 3:
            account = accounts.pop(chance.randrange(len(accounts)))
            assert company.client.delete(f"/accounts/{account}").status_code == 202
        else:
            word = chance.choice(["block_agent", "unblock_agent"])
            # An agent may have gone with its account; then there is none, and that is right.
            company.client.post(f"/agents/{word}/{chance.choice(agents)}")


def check(company: Company) -> None:
    """Invoices and turnover are those of the log, by another reckoning, to the microsecond."""
    company.wait_until_the_teams_know()
    happened, month = company.happened(), str(Month.of(datetime.now(UTC)))
    since = Month.parse(month).begin
    for account in {one.stream_id for one in happened if one.category == "account"}:
        invoice = company.ask("billing", f"/invoices/{account}", month=month)
        charged_until = datetime.fromisoformat(invoice["charged_until"])
        expected = [
            line for line in charged(happened, since, charged_until) if line.account_id == account
        ]
        found = {(line["agent_id"], line["hours"], line["amount"]) for line in invoice["lines"]}
        assert found == {
            (str(line.agent_id), hours(line.used), f"{line.amount:.2f}") for line in expected
        }
    (now,) = company.ask("vip_customers", "/months", month=month, count="1")["months"]
    lines = charged(happened, since, datetime.fromisoformat(now["counted_until"]))
    for one in now["regions"]:
        mine = [line.amount for line in lines if line.vip and line.region == one["region"]]
        assert one["turnover"] == f"{sum(mine, Decimal(0)):.2f}"
    assert company.system.verify() == ""


def test_teams_that_are_killed_all_the_time_reckon_rightly(company: Company) -> None:
    company.start_all()
    ended = threading.Event()
    chance = random.Random(4)  # noqa: S311 - repeatable
    killed: set[str] = set()

    def kill_and_start() -> None:
        while not ended.wait(0.1) or killed != set(TEAMS):
            team = company.teams[chance.choice(TEAMS)]
            team.kill()
            killed.add(team.name)
            team.start().wait_until_ready()

    killer = threading.Thread(target=kill_and_start)
    killer.start()
    try:
        live(company, seed=5, steps=400)
    finally:
        ended.set()
        killer.join()
    check(company)


def test_a_team_that_starts_late_gets_the_whole_history_and_goes_on_live(company: Company) -> None:
    relay = [company.relay] if "BROKER_URL" in company.system.environment else []
    company.start(company.commands, *relay)
    live(company, seed=6, steps=100)
    company.start(*company.teams.values())
    live(company, seed=7, steps=50)
    check(company)


def test_an_invoice_can_be_read_with_the_token_of_the_command(company: Company) -> None:
    company.start_all()
    for _ in range(20):
        opened = company.client.post(
            "/accounts",
            json={"name": "A", "email": f"{uuid4()}@x.org", "region": "emea", "vip": False},
        )
        token = {"Consistency-Token": opened.headers["Consistency-Token"]}
        address = f"{company.teams['billing'].url}/invoices/{opened.json()['id']}"
        assert httpx.get(address, headers=token).status_code == 200


def test_a_price_is_set_once_and_every_team_has_it(
    system_without_broker: System, free_port: Callable[[], int]
) -> None:
    factor = "a second factor of a test"
    body = {"region": "emea", "from_day": "2999-01-01", "price_per_hour": "2"}
    with company_of(system_without_broker, free_port) as company:
        pricing = Service(company.system, ("set_price",), free_port())
        company.start_all().start(pricing, TWO_FA=factor)
        live(company, seed=10, steps=20)
        sent = {"TWO-FA": factor, "Idempotency-Key": str(uuid4())}
        address = f"{pricing.url}/prices"
        assert httpx.post(address, json=body, headers={"TWO-FA": "guess"}).status_code == 403
        bad = httpx.post(address, json={**body, "from_day": "soon"}, headers=sent)
        assert (bad.status_code, list(bad.json()["errors"])) == (422, ["from_day"])
        for replayed in (None, "true"):
            answer = httpx.post(address, json=body, headers=sent)
            assert (answer.status_code, answer.json()["price_per_hour"]) == (201, "2.0000")
            assert answer.headers.get("Idempotent-Replayed") == replayed
        token = {"Consistency-Token": answer.headers["Consistency-Token"]}
        told = httpx.get(f"{company.teams['billing'].url}/prices", headers=token).json()["items"]
        assert [(one["from_day"], one["state"]) for one in told] == [("2999-01-01", "coming")]
        check(company)
        with company.system.databases.as_read_model_owner() as store:
            for table in ("billing_price", "vip_price"):
                rows = store.execute(f"SELECT region, per_hour::text FROM {table}").fetchall()  # noqa: S608 - ours
                assert rows == [("emea", "2.0000")]


def test_operators_look_after_every_team(
    system_without_broker: System, free_port: Callable[[], int]
) -> None:
    with company_of(system_without_broker, free_port) as company:
        company.start_all()
        live(company, seed=8, steps=50)
        company.wait_until_the_teams_know()
        verified = company.orderly("verify")
        assert verified.stdout == "everything is as the log says: billing, vip_customers\n"
        for view in (
            "billing_accounts",
            "billing_agents",
            "billing_prices",
            "vip_accounts",
            "vip_agents",
            "vip_prices",
        ):
            rebuilt = company.orderly("rebuild", view)
            assert rebuilt.returncode == 0, rebuilt.stderr
            assert "0 rows had been different" in rebuilt.stdout
        unknown = company.orderly("rebuild", "invoices")
        assert unknown.returncode == 2
        assert (
            "there is: billing_accounts, billing_agents, billing_prices, vip_accounts"
            in unknown.stderr
        )
        live(company, seed=9, steps=20)
        check(company)


def test_what_teams_parked_is_listed_retried_and_told_apart(
    system_without_broker: System, free_port: Callable[[], int]
) -> None:
    with company_of(system_without_broker, free_port) as company:
        with company.system.databases.as_read_model_owner() as owner:
            for table in ("billing_agent", "vip_agent"):
                owner.execute(f"ALTER TABLE {table} ADD CONSTRAINT picky CHECK (region <> 'emea')")
        company.start_all()
        agent = company.hire(company.open("emea", vip=True))
        plain = company.hire(company.open("emea", vip=False))
        company.wait_until_the_teams_know()
        listed = company.orderly("parked", "list").stdout.splitlines()
        assert sorted(line.partition(": ")[0] for line in listed) == sorted(
            f"{stream} agent, parked by {projector}"
            for stream, projector in (
                (agent, "billing"),
                (agent, "vip_customers"),
                (plain, "billing"),
            )
        )
        ambiguous = company.orderly("parked", "retry", agent)
        assert ambiguous.returncode == 2
        assert "billing and vip_customers: say which with --projector" in ambiguous.stderr
        failing = company.orderly("parked", "retry", plain)
        assert failing.returncode == 1
        assert "CheckViolation 23514 billing_agent picky" in failing.stderr
        all_failing = company.orderly("parked", "retry", "--all", "--projector", "billing")
        assert all_failing.returncode == 1
        assert "billing: 2 streams stay parked" in all_failing.stderr
        with company.system.databases.as_read_model_owner() as owner:
            for table in ("billing_agent", "vip_agent"):
                owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT picky")
        assert company.orderly("parked", "retry", plain).returncode == 0
        retried = company.orderly("parked", "retry", agent, "--projector", "vip_customers")
        assert retried.stdout == "1 events applied; the stream flows again\n"
        everything = company.orderly("parked", "retry", "--all")
        assert everything.stdout == "billing: 1 events applied; 1 streams flow again\n"
        nothing = company.orderly("parked", "retry", "--all")
        assert (nothing.returncode, nothing.stdout) == (0, "")
        assert "nothing is parked" in nothing.stderr
        assert company.orderly("parked", "retry", plain).returncode == 1
        assert company.orderly("parked", "list").stdout == ""
        check(company)
