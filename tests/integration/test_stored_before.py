"""Stores that an earlier release wrote open today, and are answered from as they were then.

`stored_before_0_2/README.md` tells how they were made. Everything goes through the `orderly`
command and the services' ports, so that where the code lies makes no difference here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from codebase.services.billing.kept_months import TABLES as KEPT
from tests import processes
from tests.acceptance.conftest import PROJECT, Service, System, until
from tests.databases import Databases, settings_for

if TYPE_CHECKING:
    from tests.conftest import PostgresUnderTest

STORED = Path(__file__).parent / "stored_before_0_2"
STORES = ("write_model", "read_model")
PARTITIONS = 1
"""Of the log that was stored, whatever the other tests run on."""

ROLES = {"alice": "client", "bob": "client", "boss": "admin"}
SERVICES = {
    "shop": (
        "btc_price",
        "create_buy_order",
        "fetch_buy_orders",
        "account_management",
        "read_model_sync",
    ),
    "billing": ("billing",),
    "compliance": ("compliance",),
    "vip_customers": ("vip_customers",),
}
PROJECTORS = {"read_model_sync", "billing", "compliance", "vip_customers"}
NAME = "consistency-token"
TOLD = ("location", "outcome", "idempotent-replayed", NAME)
"""The headers that belong to an answer."""
TAKEN_OVER_FROM = "compliance_request"
"""What was asked of compliance: it goes into the log, and its view, when compliance starts."""
CHANGED_BY_THAT = {
    TAKEN_OVER_FROM,
    "compliance_asked",
    "event",
    "log_head",
    "claim",
    "projection_checkpoint",
    "projection_attempt",
}
ADDED = {"duration", "parts", "prices"}
"""Fields that stand beside those that answers had then."""

TABLES = """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'public' AND table_name NOT LIKE '%yoyo%' ORDER BY 1
"""
SCHEMA = {
    "columns": """
        SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' ORDER BY 1, 2
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
    """,
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2
    """,
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
        WHERE NOT tgisinternal ORDER BY 1, 2
    """,
    "rights": """
        SELECT relname, acl.grantee::regrole::text, acl.privilege_type
        FROM pg_class, aclexplode(relacl) AS acl
        WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2, 3
    """,
    "rights to come": """
        SELECT defaclrole::regrole::text, defaclobjtype, acl.grantee::regrole::text,
               acl.privilege_type
        FROM pg_default_acl, aclexplode(defaclacl) AS acl ORDER BY 1, 2, 3, 4
    """,
}


class Told(NamedTuple):
    """What matters of an answer."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Office:
    """Every service over two databases, and three people with tokens who ask them."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.databases = system.databases
        self.services = {name: system.another(*names) for name, names in SERVICES.items()}
        entries = [
            f"{name}:{role}:{sha256(_token(name)).hexdigest()}" for name, role in ROLES.items()
        ]
        system.environment |= {
            # What is stored there is older than what is kept by default.
            "COMPLIANCE_REQUESTS_DAYS": "36500",
            "API_TOKENS": ",".join(entries),
            "SERVICE_TOKEN": _token("boss").decode(),
            "BTC_PRICE_URL": self.services["shop"].url,
            # Nobody listens there: what compliance has not sent yet is not sent now.
            "BLOCK_AGENT_URL": system["event_relay"].url,
        }

    def open(self, *names: str, **environment: str) -> Office:
        """Start services, by default all of them, and wait until they are ready."""
        chosen = [self.services[name] for name in names or SERVICES]
        for service in chosen:
            service.start(**environment)
        for service in chosen:
            service.wait_until_ready()
        return self

    def ask(self, request: Mapping[str, Any], token: str | None = None) -> Told:
        """The answer to a stored request; to a query with `token`, as of that position or later."""
        service: Service = self.services[request["service"]]
        headers = {"X-Token": _token(request["as"]).decode()}
        headers |= {"Idempotency-Key": request["key"]} if "key" in request else {}
        headers |= {"Consistency-Token": token} if token else {}
        answer = httpx.request(
            request["method"],
            f"{service.url}{request['path']}",
            json=request.get("body"),
            headers=headers,
        )
        body: Any = answer.json() if answer.content else None
        if answer.is_error:
            body.pop("instance")  # it names the request
        told = {name: answer.headers[name] for name in TOLD if name in answer.headers}
        if NAME in told:
            # Tokens did not say then of which log they are.
            told[NAME] = told[NAME].removeprefix(f"{self.log_id()}_")
        return Told(answer.status_code, told, _as_then(body))

    def orderly(self, *arguments: str) -> str:
        """What a command prints; it must succeed."""
        done = processes.run(arguments, self.system.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def open_and_take_over(self) -> dict[str, list[tuple[Any, ...]]]:
        """Start every service; every row of both stores, when all is taken over and projected.

        Whatever that is not about is as it was, and the log has become longer.
        """
        before = self.contents()
        assert before[TAKEN_OVER_FROM]
        self.open().until_projected()
        after = self.contents()
        assert not after[TAKEN_OVER_FROM]
        assert set(before["event"]) < set(after["event"])
        for table in before.keys() - CHANGED_BY_THAT:
            assert before[table] == after[table], table
        return after

    def verified(self) -> set[str]:
        """The projectors whose tables are as the log says."""
        sentence, _, names = self.orderly("verify").strip().partition(": ")
        assert sentence == "everything is as the log says"
        return set(names.split(", "))

    def token(self) -> str:
        """The end of the log."""
        return f"{self.log_id()}_0.{self.head()}"

    def log_id(self) -> str:
        [(log_id,)] = rows(self.databases.as_owner(), "SELECT id FROM log_identity")
        return str(log_id)

    def head(self) -> int:
        [(position,)] = rows(self.databases.as_owner(), "SELECT position FROM log_head")
        return int(position)

    def checkpoints(self) -> dict[str, int]:
        statement = "SELECT projector, position FROM projection_checkpoint"
        return dict(rows(self.databases.as_read_model_owner(), statement))

    def until_projected(self) -> None:
        """Wait until every projector is at the end of the log."""
        expected = dict.fromkeys(PROJECTORS, self.head())
        until(lambda: self.checkpoints() == expected, lambda: f"{self.checkpoints()}")

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of both stores, but for what a projector finds out when it begins."""
        found = {}
        for connect in (self.databases.as_owner, self.databases.as_read_model_owner):
            for (table,) in rows(connect(), TABLES):
                select = sql.SQL(
                    "SELECT (to_jsonb(row) - 'log_id')::text FROM {} AS row ORDER BY 1"
                )
                with connect() as connection:
                    found[table] = connection.execute(
                        select.format(sql.Identifier(table))
                    ).fetchall()
        return found


Clone = Callable[..., Databases]
OfficeOf = Callable[[Databases], AbstractContextManager[Office]]


def _token(name: str) -> bytes:
    return f"the token of {name}".encode()


def rows(connection: psycopg.Connection[Any], statement: str) -> list[Any]:
    with connection:
        return connection.execute(statement.encode()).fetchall()


def schema_of(connect: Callable[[], psycopg.Connection[Any]]) -> dict[str, list[Any]]:
    return {what: rows(connect(), statement) for what, statement in SCHEMA.items()}


def stored_answers(kind: str) -> list[dict[str, Any]]:
    answers: dict[str, list[dict[str, Any]]] = json.loads((STORED / "answers.json").read_text())
    return answers[kind]


def _as_then(body: Any) -> Any:  # noqa: ANN401 - JSON
    """Without the fields that answers did not have then; whatever they had is still there."""
    match body:
        case dict():
            return {name: _as_then(one) for name, one in body.items() if name not in ADDED}
        case list():
            return [_as_then(one) for one in body]
        case _:
            return body


def told(stored: Mapping[str, Any]) -> Told:
    return Told(**stored["answer"])


def said(command: Mapping[str, Any], answer: Told) -> Told:
    """An answer; requests were in no log then, so that their tokens told nothing."""
    if command["service"] != "compliance":
        return answer
    return answer._replace(headers={**answer.headers, NAME: ""})


# For the session: a worker that takes over others' tests may come back to this module.
@pytest.fixture(scope="session")
def stored(postgres_server: PostgresUnderTest, templates: tuple[str, str]) -> tuple[str, str]:
    """Both stores as they were, to clone; the roles that they name were made with `templates`."""
    assert templates
    names = ("stored_write_model", "stored_read_model")
    for store, name in zip(STORES, names, strict=True):
        postgres_server.create_database(name)
        with psycopg.connect(postgres_server.owner_url(name)) as connection:
            connection.execute((STORED / f"{store}.sql").read_bytes())
    return names


@pytest.fixture
def clone(postgres_server: PostgresUnderTest) -> Iterator[Clone]:
    """Call it for databases made from two templates, of one partition; they go with the test."""
    made: list[str] = []

    def of(*templates: str) -> Databases:
        write_model, read_model = names = [f"{store}_{uuid4().hex}" for store in STORES]
        for name, template in zip(names, templates, strict=True):
            postgres_server.create_database(name, template)
            made.append(name)
        settings = settings_for(postgres_server, write_model, read_model)
        return Databases(postgres_server, settings.model_copy(update={"partitions": PARTITIONS}))

    yield of
    for name in made:
        postgres_server.drop_database(name)


@pytest.fixture
def office_of(tmp_path: Path, free_port: Callable[[], int]) -> OfficeOf:
    """Call it with databases for an office, whose services end on leaving it."""

    @contextmanager
    def made(databases: Databases) -> Iterator[Office]:
        system = System(tmp_path, databases, None, free_port)
        try:
            yield Office(system)
        finally:
            system.stop()

    return made


@pytest.fixture
def office(clone: Clone, stored: tuple[str, str], office_of: OfficeOf) -> Iterator[Office]:
    """Over the stores as they were; nothing is started, nothing is migrated."""
    with office_of(clone(*stored)) as made:
        yield made


@pytest.fixture
def migrated(office: Office) -> Office:
    """Over the stores with the schema of today."""
    office.orderly("migrate")
    return office


def test_migrations_apply_what_is_missing_and_lead_to_the_schema_of_a_new_store(
    office: Office, clone: Clone, templates: tuple[str, str]
) -> None:
    databases, new = office.databases, clone(*templates)
    statement = "SELECT migration_id FROM _yoyo_migration"
    missing: list[str] = []
    for store, connect in zip(
        STORES, (databases.as_owner, databases.as_read_model_owner), strict=True
    ):
        files = (PROJECT / "migrations" / store).glob("*.sql")
        known = {path.stem for path in files if not path.stem.endswith(".rollback")}
        applied = {migration for (migration,) in rows(connect(), statement)}
        assert applied
        assert applied <= known, "a migration that a store has had is still there, by its name"
        missing += (f"{store}/{migration}" for migration in sorted(known - applied))
    assert office.orderly("migrate").split("\n")[:-1] == (missing or ["nothing to migrate"])
    assert schema_of(databases.as_owner) == schema_of(new.as_owner)
    assert schema_of(databases.as_read_model_owner) == schema_of(new.as_read_model_owner)


def test_verify_finds_no_difference(migrated: Office) -> None:
    assert migrated.checkpoints() == dict.fromkeys(PROJECTORS, migrated.head())
    assert migrated.verified() == PROJECTORS


def test_every_query_is_answered_as_it_was_then(migrated: Office) -> None:
    before = migrated.open_and_take_over()
    for query in stored_answers("queries"):
        assert migrated.ask(query, migrated.token()) == told(query), query["path"]
    after = migrated.contents()
    # Months that are over are added up by who asks for them first, and nothing else is written.
    assert all(after.pop(table) and not before.pop(table) for table in KEPT)
    assert after == before


def test_every_command_is_a_repeat_and_answered_as_it_was_then(migrated: Office) -> None:
    before = migrated.open_and_take_over()
    for command in stored_answers("commands"):
        assert said(command, migrated.ask(command)) == said(command, told(command))
    after = migrated.contents()
    # It was not known by which keys requests were made that are taken over; now it is.
    noted = set(after.pop("command_note")) - set(before.pop("command_note"))
    assert len(noted) == len(before["compliance_asked"])
    assert after == before


def test_the_log_alone_brings_back_every_view(
    clone: Clone,
    stored: tuple[str, str],
    templates: tuple[str, str],
    office_of: OfficeOf,
) -> None:
    """Into an empty read model, which is how a new one is made."""
    with office_of(clone(stored[0], templates[1])) as office:
        office.orderly("migrate")
        office.open().until_projected()
        for query in stored_answers("queries"):
            # What was asked of compliance was in no log.
            if not query["path"].startswith("/requests"):
                assert office.ask(query) == told(query), query["path"]
        assert office.verified() == PROJECTORS


def test_rebuilding_a_view_changes_no_row(migrated: Office) -> None:
    migrated.open_and_take_over()
    for view in ("buy_orders", "accounts", "agents", "compliance_agents", "compliance_requests"):
        assert ", 0 rows had been different" in migrated.orderly("rebuild", view), view


def test_streams_go_on_where_they_ended(migrated: Office) -> None:
    migrated.open()
    end = migrated.head()
    page = {"service": "shop", "as": "boss", "method": "GET", "path": "/agents?size=100"}
    agents = migrated.ask(page).body["items"]
    for agent in agents:
        word = "unblock_agent" if agent["blocked"] else "block_agent"
        command = page | {"method": "POST", "path": f"/agents/{word}/{agent['id']}"}
        answer = migrated.ask(command | {"key": str(uuid4())})
        assert (answer.status, answer.headers["outcome"]) == (202, "done")
    order = {"currency": "GBP", "amount": "12.34", "idempotence_key": str(uuid4())}
    placed = migrated.ask(page | {"method": "PUT", "path": "/buy_order", "body": order})
    assert placed.status == 200
    assert placed.headers["consistency-token"] == f"0.{end + len(agents) + 1}"
    shown = migrated.ask(page, migrated.token()).body["items"]
    assert shown == [each | {"blocked": not each["blocked"]} for each in agents]
    newest = migrated.ask(page | {"path": "/buy_orders?page_size=1"}, migrated.token())
    assert newest.body["rows"] == [placed.body["buy_order"]]
    migrated.until_projected()
    assert migrated.verified() == PROJECTORS


def test_addresses_are_still_taken_and_those_of_who_has_gone_are_free(migrated: Office) -> None:
    migrated.open("shop")
    created = [one for one in stored_answers("commands") if one["answer"]["status"] == 201]
    [account] = {one["path"] for one in created if one["body"].get("name") == "Anna"}
    # One agent was removed, one went with its account; other addresses of it are in use again.
    free = {"ivy@green.example", "hal@short.example"}
    for one in created:
        path = one["path"] if one["path"] == "/accounts" else account
        again = one | {"as": "alice", "path": path, "key": str(uuid4())}
        expected = 201 if one["body"]["email"] in free else 409
        assert migrated.ask(again).status == expected, one["body"]


def test_compliance_sends_what_it_had_not_sent_yet(migrated: Office) -> None:
    page = {"service": "compliance", "as": "boss", "method": "GET", "path": "/requests"}
    migrated.open("shop")
    migrated.open("compliance", BLOCK_AGENT_URL=migrated.services["shop"].url)

    def states() -> list[str]:
        return [each["state"] for each in migrated.ask(page).body["items"]]

    before = [
        each["state"]
        for query in stored_answers("queries")
        if query["path"] == page["path"]
        for each in query["answer"]["body"]["items"]
    ]
    assert before.count("waiting") == 1
    expected = [state.replace("waiting", "done") for state in before]
    until(lambda: states() == expected, lambda: f"{states()}")
