"""The buttons of alertman's page: the same commands as by JSON, once for each press."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.model.payments.silence import Matcher, SilenceBegun
from tests.integration.alerts import SERVICES, flag, have_come_to, settings_of
from tests.integration.flow import meta, write
from tests.integration.payments import paying
from tests.integration.test_alerts import eventually, listed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Databases

CALLERS = {"boss": "admin", "watcher": "operator", "shop": "client"}
TOKENS = tuple(
    f"{name}:{role}:{sha256(name.encode()).hexdigest()}" for name, role in CALLERS.items()
)
LATEST = {"Consistency-Token": "latest", "Accept": "text/html"}
SILENCE = {"client": "shop", "rule": "", "hours": "4", "reason": "a load test"}


def tell(
    databases: Databases, folder: Path, story: Callable[[httpx.AsyncClient], Awaitable[None]]
) -> None:
    settings = settings_of(databases, api_tokens=TOKENS, alert_mail_folder=folder / "mails")

    async def told() -> None:
        async with paying(settings, *SERVICES) as payer:
            payer.client.headers["X-Token"] = "boss"
            await story(payer.client)

    asyncio.run(told())


def test_a_field_that_is_there_twice_is_refused_by_name(
    databases: Databases, tmp_path: Path
) -> None:
    form = f"client=shop&client=bank&rule=&hours=4&reason=x&key={uuid4()}"

    async def story(client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await client.post("/forms/silence", content=form, headers=headers)
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == ["client"]

    tell(databases, tmp_path, story)


async def press(
    client: httpx.AsyncClient, name: str, form: dict[str, str], **headers: str
) -> httpx.Response:
    return await client.post(f"/forms/{name}", data=form, headers=headers)


def pressed(page: str, name: str) -> list[dict[str, str]]:
    """What the forms of this name send, as far as they are filled in."""
    forms = re.findall(rf'<form [^>]*action="/forms/{name}\?[^>]*>.*?</form>', page, re.DOTALL)
    hidden = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]+)">')
    return [dict(hidden.findall(form)) for form in forms]


def test_what_is_silenced_by_a_button_is_silenced_until_another_ends_it(
    databases: Databases, tmp_path: Path
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        [form] = pressed((await client.get("/", headers=LATEST)).text, "silence")
        for _ in range(2):
            answer = await press(client, "silence", {**form, **SILENCE})
            assert (answer.status_code, answer.headers["location"]) == (303, "/?"), answer.text
        [silence] = await listed(client, "/silences")
        assert (silence["matcher"], silence["reason"], silence["author"]) == (
            {"client": "shop", "rule": None}, "a load test", "boss"
        )  # fmt: skip
        transactions = flag(databases)
        await eventually(lambda: have_come_to(databases, transactions, "alert.silenced"))
        page = (await client.get("/", headers=LATEST)).text
        [end], [retry] = pressed(page, "end_silence"), pressed(page, "retry")
        for _ in range(2):
            assert (await press(client, "end_silence", end)).status_code == 303
        [silence] = await listed(client, "/silences")
        assert silence["ended_by"] == "boss"
        for _ in range(2):
            assert (await press(client, "retry", retry)).status_code == 303
        await eventually(lambda: have_come_to(databases, transactions, "alert.sent"))
        page = (await client.get("/", headers=LATEST)).text
        assert pressed(page, "retry") == pressed(page, "end_silence") == []
        # Of another day, when it has been sent.
        late = await press(client, "retry", {**retry, "key": str(uuid4())}, Accept="text/html")
        assert late.status_code == 409
        assert late.headers["content-type"] == "text/html; charset=utf-8"

    tell(databases, tmp_path, story)


def begun(databases: Databases, client: str, ends_at: datetime) -> NewEvent:
    """A silence as it was begun, also one of long ago."""
    event = SilenceBegun(
        matcher=Matcher(client=client), ends_at=ends_at, reason="a test", author="boss"
    )
    silence_id = uuid4()
    return NewEvent(
        unit=0,
        partition=partition_of(silence_id, databases.settings.partitions),
        stream_id=silence_id,
        category="silence",
        version=1,
        type=type(event).__name__,
        idempotence_key=None,
        data=encode(event),
        meta=meta("silence.begun"),
        guards=(),
    )


def test_a_silence_that_holds_is_shown_with_its_button_however_many_are_over(
    databases: Databases, tmp_path: Path
) -> None:
    holds = begun(databases, "the quiet one", datetime(2999, 1, 1, tzinfo=UTC))
    lapsed = [begun(databases, "over", datetime(2001, 1, 1, tzinfo=UTC)) for _ in range(101)]
    write(databases, [holds, *lapsed])

    async def story(client: httpx.AsyncClient) -> None:
        page = (await client.get("/", headers=LATEST)).text
        assert "the quiet one" in page
        assert "over" not in re.findall(r'data-label="Client">([^<]*)<', page)
        [end] = pressed(page, "end_silence")
        assert end["silence_id"] == str(holds.stream_id)
        assert (await press(client, "end_silence", end)).status_code == 303
        assert not pressed((await client.get("/", headers=LATEST)).text, "end_silence")

    tell(databases, tmp_path, story)


def changed(**fields: str) -> dict[str, str]:
    return {**SILENCE, "key": str(uuid4()), **fields}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (changed(client=""), "client"),
        (changed(hours="5"), "hours"),
        (changed(reason=""), "reason"),
        (changed(reason="card 1234 5678 8765 4321"), "reason"),
        (changed(client="1234567887654321"), "client"),
        (changed(rule="4111-1111-1111-1111"), "rule"),
        (changed(key="1"), "key"),
        (changed(author="me"), "author"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_by_field_and_not_repeated(
    databases: Databases, tmp_path: Path, form: dict[str, str], field: str
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await press(client, "silence", form)
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == [field]
        assert "4321" not in answer.text
        assert await listed(client, "/silences") == []

    tell(databases, tmp_path, story)


def test_only_administrators_press_buttons_and_only_on_our_page(
    databases: Databases, tmp_path: Path
) -> None:
    forms: dict[str, dict[str, str]] = {
        "silence": changed(),
        "retry": {"alert_id": str(uuid4()), "key": str(uuid4())},
        "end_silence": {"silence_id": str(uuid4()), "key": str(uuid4())},
    }

    async def story(client: httpx.AsyncClient) -> None:
        for name, form in forms.items():
            for token in ("watcher", "shop"):
                answer = await press(client, name, form, **{"X-Token": token})
                assert answer.status_code == 403, (name, token)
            for foreign in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
                assert (await press(client, name, form, **foreign)).status_code == 403
            as_json: dict[str, Any] = {"json": form}
            assert (await client.post(f"/forms/{name}", **as_json)).status_code == 415
        assert await listed(client, "/silences") == []
        page = await client.get("/", headers={**LATEST, "X-Token": "watcher"})
        assert page.status_code == 200
        assert "<form" in page.text
        assert "/forms/" not in page.text
        for name in ("retry", "end_silence"):
            assert (await press(client, name, forms[name])).status_code == 404

    tell(databases, tmp_path, story)
