"""Company reports are read and sent page by page, however many agents there are."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from starlette.types import ASGIApp, Message

from codebase.services.fetch_accounts import report
from codebase.services.fetch_accounts import service as fetch_accounts
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.personal import HIDDEN
from codebase.web.shell import assemble
from tests.integration.test_account_views import FILL_AGENTS, INSERT_ACCOUNT
from tests.integration.test_metrics import value
from tests.integration.test_roles import TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.databases import Databases

PAGE = 10
AGENTS = 45
CLOSE = "UPDATE account SET closed_at = now()"
REMOVE = "UPDATE agent SET removed_at = now() WHERE account_id = %s"
LISTED = """
    SELECT id FROM agent WHERE account_id = %s AND removed_at IS NULL ORDER BY name, id
"""


@pytest.fixture
def account_id(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> UUID:
    """An account whose agents fill four pages and a half; of fifty every tenth has gone."""
    monkeypatch.setattr(report, "PAGE", PAGE)
    made = uuid4()
    with databases.as_read_model_owner() as owner:
        owner.execute("INSERT INTO projection_checkpoint VALUES ('read_model_sync', 0, 7)")
        owner.execute(INSERT_ACCOUNT, [made, "Blue"])
        owner.execute(FILL_AGENTS, [made, 50])
    return made


class Asked:
    """A request for a report, by a client that takes each part of the answer when it likes."""

    def __init__(self, app: ASGIApp, account_id: UUID, headers: dict[str, str]) -> None:
        path = f"/accounts/generate_company_report/{account_id}"
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [
                (name.encode(), text.encode()) for name, text in {"host": "x", **headers}.items()
            ],
            "client": ("127.0.0.1", 1),
        }
        self._app = app
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._taken = asyncio.Event()
        self.status = 0

    async def _receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the client stays")

    async def _send(self, message: Message) -> None:
        self._taken.clear()
        self._sent.put_nowait(message)
        await self._taken.wait()

    async def parts(self) -> AsyncIterator[str]:
        """The parts of the body; the next one is taken when it is asked for."""
        answering = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        answering.add_done_callback(lambda _: self._sent.put_nowait({"type": "over"}))
        while (message := await self._sent.get())["type"] != "over":
            self.status = self.status or message["status"]
            if message.get("body"):
                yield message["body"].decode()
            self._taken.set()
        await answering


def with_reports(databases: Databases, story: Any, **settings: object) -> None:  # noqa: ANN401
    configured = databases.settings.model_copy(update={"read_connections": 1, **settings})

    async def opened() -> None:
        async with ConsistentReads.open(configured, "read_model_sync") as reads:
            await story(assemble([fetch_accounts.create_app(reads)], configured))

    asyncio.run(opened())


def pages_read() -> float:
    return value("orderly_read_batch_size_count") or 0


def test_a_page_is_read_when_its_client_has_taken_the_one_before(
    databases: Databases, account_id: UUID
) -> None:
    before, parts = pages_read(), list[str]()

    async def story(app: ASGIApp) -> None:
        async for part in Asked(app, account_id, {}).parts():
            parts.append(part)
            if part != "]}":
                assert part.count('"account_id"') <= PAGE
                assert pages_read() - before == len(parts)
                assert value("orderly_read_connections", state="busy") == 0

    with_reports(databases, story)
    told = json.loads("".join(parts))
    with databases.as_read_model_owner() as owner:
        there = [str(row[0]) for row in owner.execute(LISTED, [account_id])]
    assert [agent["id"] for agent in told["agents"]] == there
    assert len(there) == AGENTS
    assert {name: told[name] for name in ("id", "name")} == {"id": str(account_id), "name": "Blue"}


@pytest.mark.parametrize("agents", [0, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_a_report_is_whole_wherever_its_last_page_ends(
    databases: Databases, account_id: UUID, agents: int
) -> None:
    with databases.as_read_model_owner() as owner:
        there = [str(row[0]) for row in owner.execute(LISTED, [account_id])]
        owner.execute("DELETE FROM agent WHERE id <> ALL (%s::uuid[])", [there[:agents]])

    async def story(app: ASGIApp) -> None:
        told = json.loads("".join([part async for part in Asked(app, account_id, {}).parts()]))
        assert [agent["id"] for agent in told["agents"]] == there[:agents]

    with_reports(databases, story)


def test_an_account_that_is_closed_meanwhile_ends_its_report(
    databases: Databases, account_id: UUID
) -> None:
    parts: list[str] = []

    async def story(app: ASGIApp) -> None:
        async for part in Asked(app, account_id, {}).parts():
            parts.append(part)
            with databases.as_read_model_owner() as owner, owner.transaction():
                owner.execute(CLOSE)
                owner.execute(REMOVE, [account_id])

    with_reports(databases, story)
    assert len(json.loads("".join(parts))["agents"]) == PAGE


def test_operators_see_nothing_personal_on_any_page(databases: Databases, account_id: UUID) -> None:
    async def story(app: ASGIApp) -> None:
        asked = Asked(app, account_id, {"authorization": "Bearer watch"})
        told = json.loads("".join([part async for part in asked.parts()]))
        assert len(told["agents"]) == AGENTS
        shown = {told["name"], told["email"]}
        shown |= {agent[field] for agent in told["agents"] for field in ("name", "email")}
        assert shown == {HIDDEN}

    with_reports(databases, story, api_tokens=TOKENS)


def test_what_goes_wrong_later_breaks_the_answer_instead_of_ending_it(
    databases: Databases, account_id: UUID
) -> None:
    """Half a report must not pass for a whole one."""

    parts: list[str] = []

    async def take(asked: Asked) -> None:
        async for part in asked.parts():
            parts.append(part)
            with databases.as_read_model_owner() as owner:
                owner.execute("REVOKE SELECT ON agent FROM query_service")

    async def story(app: ASGIApp) -> None:
        asked = Asked(app, account_id, {})
        with pytest.raises(Exception, match="permission denied"):
            await take(asked)
        assert (asked.status, len(parts)) == (200, 1)

    with_reports(databases, story)
