"""A browser keeps its cookie, whatever becomes of the log: it reads, and reads what it wrote."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.engine.log.extent import Extent
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.settings import Settings
from codebase.services.create_account.service import create_app as account_commands
from codebase.services.fetch_accounts.service import create_app as account_queries
from codebase.web.consistency_token import LATEST, parse
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble
from tests.integration.flow import (
    eventually,
    heads,
    is_projected,
    problem_of,
    projecting,
    truncate_log,
)
from tests.logs import ANOTHER, OURS, name_log
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

NAME = "Consistency-Token"


class Browser:
    """Keeps what it is given, and sends it to whoever answers at this address."""

    def __init__(self, client: httpx.AsyncClient, reads: ConsistentReads, bus: CommandBus) -> None:
        self._client = client
        self.reads = reads
        self.bus = bus

    @property
    def cookie(self) -> str | None:
        return self._client.cookies.get(NAME)

    @cookie.setter
    def cookie(self, token: str) -> None:
        self._client.cookies.clear()
        self._client.cookies.set(NAME, token, domain="127.0.0.1", path="/")

    def forget(self) -> None:
        self._client.cookies.clear()

    async def open_account(self, token: str | None = None, access: str | None = None) -> str:
        """Where the account can be read."""
        body = {"name": "A", "email": f"{uuid4()}@example.com", "region": "emea", "vip": False}
        headers = headers_of(token, access)
        answer = await self._client.post("/accounts", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        assert self.cookie == answer.headers[NAME]
        return str(answer.headers["location"])

    async def get(
        self, path: str, token: str | None = None, access: str | None = None
    ) -> httpx.Response:
        return await self._client.get(path, headers=headers_of(token, access))

    async def reads_every_page(self) -> bool:
        answers = [await self.get(path) for path in ("/accounts", "/accounts?size=1")]
        return [answer.status_code for answer in answers] == [200, 200]


def headers_of(token: str | None, access: str | None) -> dict[str, str]:
    headers = {NAME: token, "X-Token": access}
    return {name: value for name, value in headers.items() if value is not None}


async def somebody_waits(databases: Databases) -> None:
    """Until a request waits for the read model: how far it is is asked then only."""

    def is_asked() -> bool:
        with databases.as_read_model_owner() as owner:
            return bool(
                owner.execute(
                    "SELECT FROM pg_stat_activity"
                    " WHERE application_name LIKE '% checkpoints' AND datname = current_database()"
                ).fetchall()
            )

    await asyncio.to_thread(eventually, is_asked)


@asynccontextmanager
async def browsing(settings: Settings) -> AsyncIterator[Browser]:
    async with (
        CommandBus.open(settings) as bus,
        ConsistentReads.open(settings, READ_MODEL) as reads,
    ):
        app = assemble([account_commands(bus), account_queries(reads)], settings)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield Browser(client, reads, bus)


def browse(settings: Settings, story: Callable[[Browser], Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def told() -> Any:  # noqa: ANN401
        async with asyncio.timeout(PATIENCE_SECONDS), browsing(settings) as browser:
            return await story(browser)

    return asyncio.run(told())


async def write(browser: Browser) -> str | None:
    for _ in range(8):
        await browser.open_account()
    return browser.cookie


def test_what_was_written_is_read(databases: Databases) -> None:
    name_log(databases, OURS)

    async def story(browser: Browser) -> None:
        for _ in range(5):
            path = await browser.open_account()
            assert (await browser.get(path)).status_code == 200
        token = browser.cookie
        assert token is not None
        assert parse(token) == Extent(OURS, {p: at for p, at in heads(databases).items() if at})

    with projecting(databases.settings):
        browse(databases.settings, story)


@pytest.mark.parametrize(
    ("foreign", "knows_the_end"),
    [
        (f"{ANOTHER}_0.999-9.1", True),
        (f"{ANOTHER}_0.999-9.1", False),
        ("0.999-9.1", True),
        ("0.999-9.1", False),
        (f"{OURS}_0.999-9.1", True),
    ],
)
def test_a_cookie_of_another_system_keeps_nobody_from_reading_and_is_not_given_back(
    databases: Databases, foreign: str, *, knows_the_end: bool
) -> None:
    name_log(databases, OURS)
    settings = databases.settings
    if not knows_the_end:
        settings = settings.model_copy(update={"write_model_head_url": None})

    async def story(browser: Browser) -> None:
        path = await browser.open_account()
        assert (await browser.get(path)).status_code == 200
        browser.cookie = foreign
        assert await browser.reads_every_page()
        token, _, _ = foreign.partition("-")
        assert (await browser.get("/accounts", token)).status_code == 200
        await browser.open_account()
        assert browser.cookie is not None
        given = parse(browser.cookie)
        assert given.log_id == OURS
        assert all(at <= heads(databases)[each] for each, at in given.positions.items())

    with projecting(databases.settings):
        browse(settings, story)


def test_a_log_that_was_restored_and_is_shorter_leaves_its_browsers_alone(
    databases: Databases,
) -> None:
    name_log(databases, OURS)
    with projecting(databases.settings):
        cookie = browse(databases.settings, write)
        eventually(lambda: is_projected(databases))
    truncate_log(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute("TRUNCATE account, projection_checkpoint")

    async def return_with_the_cookie(browser: Browser) -> None:
        browser.cookie = cookie
        assert await browser.reads_every_page()
        path = await browser.open_account()
        assert browser.cookie is not None
        given = parse(browser.cookie).positions
        assert all(at <= heads(databases)[each] for each, at in given.items())
        assert (await browser.get(path)).status_code == 200

    with projecting(databases.settings):
        browse(databases.settings, return_with_the_cookie)


def test_a_service_that_is_not_restarted_learns_that_the_log_was_restored(
    databases: Databases,
) -> None:
    async def story(browser: Browser) -> None:
        await write(browser)
        await asyncio.to_thread(truncate_log, databases)
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity"
                " WHERE application_name = 'command_bus'",
                [int(PATIENCE_SECONDS * 1000)],
            )
        path = await browser.open_account()
        assert browser.cookie is not None
        given = parse(browser.cookie).positions
        assert all(at <= heads(databases)[each] for each, at in given.items()), path

    browse(databases.settings, story)


def test_a_log_that_was_made_anew_leaves_its_browsers_alone(
    databases: Databases, new_databases: Callable[[], Databases]
) -> None:
    name_log(databases, OURS)
    with projecting(databases.settings):
        cookie = browse(databases.settings, write)
    anew = new_databases()
    name_log(anew, ANOTHER)

    async def return_with_the_cookie(browser: Browser) -> None:
        browser.cookie = cookie
        assert await browser.reads_every_page()
        path = await browser.open_account()
        assert browser.cookie is not None
        assert parse(browser.cookie).log_id == ANOTHER
        assert (await browser.get(path)).status_code == 200

    with projecting(anew.settings):
        browse(anew.settings, return_with_the_cookie)


def test_a_malformed_cookie_is_taken_back_and_a_malformed_header_refused(
    databases: Databases,
) -> None:
    async def story(browser: Browser) -> None:
        browser.cookie = "nonsense"
        answer = await browser.get("/accounts")
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].endswith("; Max-Age=0")
        assert browser.cookie is None
        refused = await browser.get("/accounts", "nonsense")
        assert refused.status_code == 422
        assert list(refused.json()["errors"]) == [NAME]
        assert "set-cookie" not in refused.headers

    name_log(databases, OURS)
    browse(databases.settings, story)


def test_a_partition_that_the_log_does_not_have_is_refused_at_once_in_a_header(
    databases: Databases,
) -> None:
    """Also by a service that was asked nothing before."""
    name_log(databases, OURS)
    unknown = f"{OURS}_0.0-{databases.settings.partitions}.1"

    async def story(browser: Browser) -> None:
        refused = await browser.get("/accounts", token=unknown)
        assert refused.status_code == 422
        assert list(refused.json()["errors"]) == [NAME]
        browser.cookie = unknown
        assert (await browser.get("/accounts")).status_code == 200

    with projecting(databases.settings) as team:
        eventually(lambda: problem_of(team) is None)
        browse(databases.settings, story)


def test_who_waits_too_often_is_told_so_and_others_are_not_kept(databases: Databases) -> None:
    name_log(databases, OURS)
    settings = databases.settings.model_copy(
        update={"consistency_waiting_max_per_caller": 2, "write_model_head_url": None}
    )

    async def story(browser: Browser) -> None:
        token = f"{OURS}_0.1"
        asked = [asyncio.create_task(browser.get("/accounts", token)) for _ in range(3)]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        [refused] = [task.result() for task in done]
        assert refused.status_code == 503
        assert refused.json()["type"] == "/problems/too-many-waiting"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await browser.get("/accounts")).status_code == 200
        while not heads(databases)[0]:
            await browser.open_account()
        with projecting(settings):
            answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200, 200]

    browse(settings, story)


def test_what_a_process_has_written_itself_costs_no_look_at_the_log(databases: Databases) -> None:
    name_log(databases, OURS)

    async def story(browser: Browser) -> None:
        for _ in range(8):
            await browser.open_account()
        written = heads(databases)
        with databases.as_owner() as owner:
            owner.execute("REVOKE SELECT ON log_identity FROM command_service")
        extent = await browser.bus.extent_for(Extent(OURS, written))
        assert extent.own(Extent(OURS, written)) == written
        await browser.bus.extent_for(Extent(ANOTHER, {0: 10**6}))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await browser.bus.extent_for(Extent(OURS, {0: 10**6}))

    browse(databases.settings, story)


@pytest.mark.parametrize("knows_the_end", [True, False])
def test_a_team_that_takes_commands_gives_back_what_is_of_the_log_of_its_tables(
    databases: Databases, *, knows_the_end: bool
) -> None:
    """It writes to no log, and answers whatever was seen."""
    name_log(databases, OURS)
    settings = databases.settings
    if not knows_the_end:
        settings = settings.model_copy(update={"write_model_head_url": None})

    async def story(browser: Browser) -> None:
        path = await browser.open_account()
        assert (await browser.get(path)).status_code == 200
        assert browser.reads.extent.log_id == OURS
        mine, foreign = Extent(OURS, heads(databases)), Extent(ANOTHER, {0: 1})
        for seen, own in ((mine, mine.positions), (foreign, {})):
            assert (await browser.reads.extent_for(seen)).own(seen) == own
        beyond = Extent(OURS, {0: 10**6})
        own = (await browser.reads.extent_for(beyond)).own(beyond)
        assert own == ({} if knows_the_end else beyond.positions)

    with projecting(databases.settings):
        browse(settings, story)


def test_whoever_asks_for_the_latest_reads_all_that_was_in_the_log_before(
    databases: Databases,
) -> None:
    """Whoever wrote it: nothing is known of that here."""
    name_log(databases, OURS)

    async def story(browser: Browser) -> None:
        await write(browser)
        async with browsing(databases.settings) as stranger:
            answer = asyncio.create_task(stranger.get("/accounts", LATEST))
            await somebody_waits(databases)
            with projecting(databases.settings):
                page = await answer
        assert page.status_code == 200, page.text
        assert len(page.json()["items"]) == 8

    browse(databases.settings.model_copy(update={"consistency_wait_ms": 60_000}), story)


def test_whoever_asks_for_the_latest_is_told_that_the_log_is_away(databases: Databases) -> None:
    name_log(databases, OURS)
    away = "postgresql://log_head_reader@127.0.0.1:9/nowhere"

    async def story(browser: Browser) -> None:
        refused = await browser.get("/accounts", LATEST)
        assert refused.status_code == 503
        assert refused.json()["type"] == "/problems/service-unavailable"
        assert "write_model" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert (await browser.get("/accounts")).status_code == 200

    for url in (None, away):
        browse(databases.settings.model_copy(update={"write_model_head_url": url}), story)


def test_a_command_takes_the_word_latest_for_having_seen_nothing(databases: Databases) -> None:
    name_log(databases, OURS)

    async def story(browser: Browser) -> None:
        await browser.open_account(token=LATEST)
        assert browser.cookie is not None
        browser.cookie = LATEST
        answer = await browser.get("/accounts")
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].endswith("; Max-Age=0"), "a cookie is a token"

    with projecting(databases.settings):
        browse(databases.settings, story)


def test_a_client_that_keeps_no_token_reads_what_it_wrote_through_the_same_process(
    databases: Databases,
) -> None:
    name_log(databases, OURS)
    tokens = [
        f"{name}:client:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("one", "two")
    ]
    settings = databases.settings.model_copy(
        update={"api_tokens": tokens, "consistency_wait_ms": 60_000}
    )

    async def story(browser: Browser) -> None:
        path = await browser.open_account(access="one")
        browser.forget()
        assert (await browser.get("/accounts", access="two")).status_code == 200
        answer = asyncio.create_task(browser.get(path, access="one"))
        await somebody_waits(databases)
        with projecting(databases.settings):
            assert (await answer).status_code == 200

    browse(settings, story)
