"""Flagged transactions: whoever has to know is told of each once, and sees what became of it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import httpx
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from codebase.engine.reactions.target import InDoubtError
from codebase.foundation.errors import ConfigurationError
from codebase.model.payments.alert import Channel
from codebase.operations import intents as operations
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.alertman import digests
from codebase.services.alertman.alerting import alerts_of
from codebase.services.alertman.at_work import mailbox_of, smtp_sender
from codebase.services.alertman.service import REACTIONS
from codebase.services.alertman.sms import DEADLINE_SECONDS, SmsSender, parts_of
from codebase.views.payments.settings import PaymentSettings
from tests.clocks import on_a_pushed_clock, push_the_clock
from tests.integration.alerts import (
    REASON,
    SERVICES,
    TO,
    are_alerted,
    flag,
    have_come_to,
    make_due,
    settings_of,
    topics,
)
from tests.integration.answering import answering
from tests.integration.flow import query
from tests.integration.jobs import on_a_loop
from tests.integration.mail_server import OK, Delivered, MailServer, mail_server
from tests.integration.payments import paying
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS
from tests.unit.test_alert_rules import ABOUT, sent_of

if TYPE_CHECKING:
    from tests.databases import Databases

Story = Callable[[httpx.AsyncClient], Awaitable[None]]
MOMENT_SECONDS = 0.02


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[MailServer]:
    with mail_server(free_port()) as opened:
        yield opened


@pytest.fixture
def settings(databases: Databases, server: MailServer) -> PaymentSettings:
    return settings_of(databases, smtp_url=server.url)


@pytest.fixture
def far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a digest does so until it is made due."""
    monkeypatch.setattr(digests, "APART", timedelta(seconds=NEVER_SECONDS))


def tell(settings: PaymentSettings, story: Story) -> None:
    """Have the story happen; whatever it was, the log and all that follows from it agree."""

    async def told() -> None:
        async with paying(settings, *SERVICES) as payer:
            await story(payer.client)

    asyncio.run(told())
    found = verify(
        settings,
        SYSTEM.aggregates,
        [SYSTEM.read_model],
        reactions=list(REACTIONS),
        say=lambda _: None,
    )
    assert found == []


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it is others that do it
            await asyncio.sleep(MOMENT_SECONDS)


async def listed(client: httpx.AsyncClient, path: str = "/alerts", **query: str) -> list[Any]:
    """What is shown, with everything that the log holds by now."""
    answer = await client.get(path, params=query, headers={"Consistency-Token": "latest"})
    found: list[Any] = answer.raise_for_status().json()["items"]
    return found


def test_a_flagged_transaction_is_a_mail_and_alerted(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: are_alerted(databases, [transaction]))
        await eventually(lambda: have_come_to(databases, [transaction], "alert.sent"))
        [mail] = server.delivered
        assert str(transaction) in mail.text
        assert mail.message_id == f"<{transaction}.email@shop.test>"
        [shown] = await listed(client)
        moments = {name: shown.pop(name) for name in ("id", "raised_at", "state_at")}
        assert moments["raised_at"] <= moments["state_at"]
        assert shown == {
            "transactionID": str(transaction),
            "channel": "email",
            "client": "shop",
            "state": "sent",
            "amount": "123.00",
            "currency": "INR",
            "card": {"brand": "visa", "last_four": "1111"},
            "score": "60",
            "rules": [REASON.rule],
            "reason": None,
            "refused": [],
        }
        assert await listed(client, state="sent") == [{**shown, **moments}]
        assert not await listed(client, state="dead")

    tell(settings, story)


def test_without_a_mail_server_mails_are_files_that_the_page_shows(
    databases: Databases, tmp_path: Path
) -> None:
    settings = settings_of(databases, orderly_home=tmp_path)

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: are_alerted(databases, [transaction]))
        await eventually(lambda: have_come_to(databases, [transaction], "alert.sent"))
        [file] = (tmp_path / "mails").iterdir()
        assert file.name == f"{transaction}.email.eml"
        page = await client.get("/", headers={"Consistency-Token": "latest"})
        assert page.status_code == 200
        for text in (f'href="/mails/{transaction}"', "Fraud: 1 transaction of shop", ">sent<"):
            assert text in page.text
        # A form sends an empty text for "all".
        for state, is_listed in (("", True), ("sent", True), ("dead", False)):
            answer = await client.get("/", params={"state": state})
            assert (answer.status_code, f">{transaction}<" in answer.text) == (200, is_listed)
        assert (await client.get(f"/mails/{transaction}")).text == file.read_text("utf-8")
        assert (await client.get(f"/mails/{uuid4()}")).status_code == 404

    tell(settings, story)


def test_a_refusal_is_dead_with_code_and_text_until_it_is_retried(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    server.on_data = lambda _: "554 5.7.1 no fraud here please"

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: have_come_to(databases, [transaction], "alert.died"))
        [shown] = await listed(client, state="dead")
        assert shown["reason"] == "554 5.7.1 no fraud here please"
        assert len(server.delivered) == 1
        assert topics(databases)[transaction] == "transaction.fraudulent"
        server.on_data = lambda _: OK
        asked = await client.post(f"/alerts/{shown['id']}/retry")
        assert (asked.status_code, asked.json()["state"]) == (202, "pending")
        await eventually_when_due(
            databases, lambda: have_come_to(databases, [transaction], "alert.sent")
        )
        assert len({mail.message_id for mail in server.delivered}) == 1
        refused = await client.post(f"/alerts/{shown['id']}/retry")
        assert (refused.status_code, refused.json()["state"]) == (409, "sent")
        assert (await client.post(f"/alerts/{uuid4()}/retry")).status_code == 404

    tell(settings, story)


async def eventually_when_due(databases: Databases, condition: Callable[[], bool]) -> None:
    """The same, whatever is to be sent because of what was sent."""

    def found() -> bool:
        make_due(databases)
        return condition()

    await eventually(found)


AGE = """
    UPDATE reaction.intent SET created_at = created_at - interval '1 day', due_at = created_at
    WHERE target = 'email' AND token IS NULL AND ended_at IS NULL
"""


def test_not_now_is_tried_again_for_a_day(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    server.on_data = lambda _: "451 4.7.1 greylisted"

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: have_come_to(databases, [transaction], "alert.delayed"))
        [shown] = await listed(client, state="retrying")
        assert shown["reason"] == "451 4.7.1 greylisted"
        with databases.as_owner() as owner:
            await eventually(lambda: bool(owner.execute(AGE).rowcount))
        await eventually(lambda: have_come_to(databases, [transaction], "alert.died"))
        [shown] = await listed(client, state="dead")
        assert shown["reason"] == "given up: 451 4.7.1 greylisted"

    tell(settings, story)


def counted(became: str) -> float:
    """How many alerts by e-mail have become that, in this process."""
    labels = {"channel": "email", "became": became}
    return REGISTRY.get_sample_value("orderly_alerts_total", labels) or 0.0


@pytest.mark.parametrize(
    ("second", "refused"),
    [(OK, []), ("550 nobody", ["recipient 2: 550 nobody"])],
    ids=["gets it", "never gets it"],
)
def test_who_is_refused_for_now_gets_it_later_and_others_get_it_once(
    databases: Databases, server: MailServer, second: str, refused: list[str]
) -> None:
    settings = settings_of(databases, smtp_url=server.url, alert_to=(TO, "two@bank.test"))
    greylisted, is_decided = "two@bank.test", threading.Event()
    server.on_recipient = lambda address, _: (
        OK if address != greylisted else second if is_decided.is_set() else "451 greylisted"
    )
    before = {became: counted(became) for became in ("sent", "dead")}

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: have_come_to(databases, [transaction], "alert.sent"))
        [shown] = await listed(client, state="sent")
        assert shown["refused"] == ["recipient 2: 451 greylisted"]
        is_decided.set()
        await eventually_when_due(
            databases, lambda: have_come_to(databases, [transaction], "alert.finished")
        )
        taken = [(TO,), (greylisted,)] if second == OK else [(TO,)]
        assert [mail.recipients for mail in server.delivered] == taken
        [shown] = await listed(client, state="sent")
        assert shown["refused"] == refused
        await eventually(lambda: not query(databases.as_owner(), OPEN))
        assert {became: counted(became) - before[became] for became in before} == {
            "sent": 1.0, "dead": 0.0
        }  # fmt: skip

    tell(settings, story)


@pytest.mark.usefixtures("far_apart")
@pytest.mark.parametrize("other", ["", "550 nobody"], ids=["one gets it", "nobody gets it"])
def test_a_mailbox_that_is_not_to_be_had_keeps_no_other_mail_waiting(
    databases: Databases, server: MailServer, other: str
) -> None:
    full = "two@bank.test"
    settings = settings_of(databases, smtp_url=server.url, alert_to=(TO, full))
    tries: list[int] = []

    def said(address: str, nth: int) -> str:
        if address != full:
            return OK if nth > 1 else other or OK
        tries.append(nth)
        return "452 mailbox full"

    server.on_recipient = said

    async def story(_: httpx.AsyncClient) -> None:
        [first] = flag(databases)
        state = "alert.delayed" if other else "alert.sent"
        await eventually(lambda: have_come_to(databases, [first], state))
        await eventually_when_due(databases, lambda: len(tries) > 1)
        [second] = flag(databases)
        await eventually(lambda: len(await_held(databases)) == 1)
        await eventually_when_due(databases, lambda: are_alerted(databases, [second]))
        assert [mail.recipients for mail in server.delivered if str(second) in mail.text] == [(TO,)]

    tell(settings, story)


@pytest.mark.usefixtures("far_apart")
def test_many_flags_of_a_client_come_as_one_digest_and_others_do_not_wait(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        many = flag(databases, 50)
        [other] = flag(databases, client="other")
        await eventually(lambda: are_alerted(databases, [other]))
        await eventually(lambda: len(topics(databases, "alert")) == len(many) + 1)
        await eventually(lambda: len(await_held(databases)) == len(many) - 1)
        await eventually_when_due(databases, lambda: are_alerted(databases, many))
        mails = [mail for mail in server.delivered if str(other) not in mail.text]
        assert len(mails) == 2
        named = [UUID(each) for mail in mails for each in NAMED.findall(mail.text)]
        assert sorted(named) == sorted(many)
        await eventually(lambda: have_come_to(databases, [*many, other], "alert.sent"))
        assert len(await listed(client)) == 50

    tell(settings, story)


OPEN = "SELECT FROM reaction.intent WHERE ended_at IS NULL"
REMINDERS = "SELECT FROM reaction.reminder"
NAMED = re.compile(r"^Transaction (\S+)", re.MULTILINE)


def await_held(databases: Databases) -> list[Any]:
    """What waits for a digest."""
    statement = "SELECT state -> 'held' FROM reaction.subject WHERE reaction = 'alerts_email'"
    with databases.as_owner() as owner:
        return [each for (held,) in owner.execute(statement).fetchall() for each in held]


def all_are_sent(databases: Databases) -> bool:
    """Whether they are by now, where nothing waits for a digest."""
    make_due(databases)
    return set(topics(databases, "alert").values()) == {"alert.sent"}


@pytest.mark.parametrize(
    ("matcher", "silenced"),
    [({"client": "shop"}, {"shop luhn", "shop card_velocity"}), ({"rule": "luhn"}, {"shop luhn"}),
     ({"client": "shop", "rule": "luhn"}, {"shop luhn"})],
)  # fmt: skip
def test_nobody_is_told_of_what_is_silenced(
    databases: Databases, settings: PaymentSettings, server: MailServer, matcher: dict[str, str],
    silenced: set[str],
) -> None:  # fmt: skip
    async def story(client: httpx.AsyncClient) -> None:
        wanted = {"matcher": matcher, "ends_at": "2999-01-01T00:00:00Z", "reason": "a test"}
        begun = await client.post("/silences", json=wanted)
        assert begun.status_code == 201, begun.text
        [shown] = await listed(client, "/silences")
        assert begun.headers["Location"] == f"/silences/{shown['id']}"
        assert (await client.get(begun.headers["Location"])).json() == shown
        assert (await client.get(f"/silences/{uuid4()}")).status_code == 404
        asked = {"client": None, "rule": None, **matcher}
        assert begun.json() == {
            **wanted, "id": shown["id"], "matcher": asked, "author": "local"
        }  # fmt: skip
        assert shown == {
            **begun.json(), "ends_at": "2999-01-01T00:00:00+00:00",
            "begun_at": shown["begun_at"], "ended_at": None, "ended_by": None,
        }  # fmt: skip
        made = {"other": flag(databases, client="other"), "shop luhn": flag(databases, rule="luhn")}
        await eventually(lambda: len(topics(databases, "alert")) == 2)
        # Nor does it wait for a digest: what is silenced is none of its client's mails.
        made["shop card_velocity"] = flag(databases)
        ended = sorted("alert.silenced" if each in silenced else "alert.sent" for each in made)
        await eventually(lambda: sorted(topics(databases, "alert").values()) == ended)
        quiet = {each["transactionID"] for each in await listed(client, state="silenced")}
        assert quiet == {str(made[name][0]) for name in silenced}
        named = {each for mail in server.delivered for each in NAMED.findall(mail.text)}
        assert named == {str(each) for [each] in made.values()} - quiet
        over = await client.delete(f"/silences/{begun.json()['id']}")
        assert over.status_code == 204
        [shown] = await listed(client, "/silences")
        assert shown["ended_by"] == "local"
        assert (await client.get(begun.headers["Location"])).json() == shown
        # What was silenced is told when somebody wants it told after all.
        for one in await listed(client, state="silenced"):
            assert (await client.post(f"/alerts/{one['id']}/retry")).status_code == 202
        await eventually(lambda: all_are_sent(databases))

    tell(settings, story)


@pytest.mark.usefixtures("far_apart")
def test_what_is_held_when_a_log_is_adopted_is_dead_and_told_when_somebody_wants_it_told(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        first = flag(databases)
        await eventually(lambda: are_alerted(databases, first))
        held = flag(databases, 2)
        await eventually(lambda: len(await_held(databases)) == 2)
        await eventually(lambda: not query(databases.as_owner(), OPEN))
        await eventually(lambda: len(query(databases.as_owner(), REMINDERS)) == 1)
        adopt = partial(operations.adopt, settings, REACTIONS, skip_open=True)
        assert (await asyncio.to_thread(adopt)).reminders == 1
        await eventually(lambda: list(topics(databases, "alert").values()).count(DEAD) == 2)
        dead = await listed(client, state="dead")
        assert {each["transactionID"] for each in dead} == set(map(str, held))
        assert {each["reason"] for each in dead} == {operations.LEFT_OUT}
        assert not await_held(databases), "or the next flag would tell of them by itself"
        for each in dead:
            assert (await client.post(f"/alerts/{each['id']}/retry")).status_code == 202
        await eventually(lambda: all_are_sent(databases))
        named = [each for mail in server.delivered for each in NAMED.findall(mail.text)]
        assert sorted(named) == sorted(map(str, first + held))

    tell(settings, story)


def test_what_is_held_behind_a_mail_that_is_left_out_is_left_out_as_well(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    server.on_greeting = "421 too busy"

    async def story(_: httpx.AsyncClient) -> None:
        made = flag(databases)
        await eventually(lambda: have_come_to(databases, made, "alert.delayed"))
        made += flag(databases, 2)
        await eventually(lambda: len(await_held(databases)) == 2)
        adopt = partial(operations.adopt, settings, REACTIONS, skip_open=True)
        # What raises the others is open as well until it is settled.
        await eventually(lambda: len(query(databases.as_owner(), OPEN)) == 1)
        assert (await asyncio.to_thread(adopt)).skipped == 1
        await eventually(lambda: have_come_to(databases, made, DEAD))
        assert not server.delivered

    tell(settings, story)


@pytest.mark.usefixtures("far_apart")
def test_what_may_have_been_told_where_the_log_came_from_is_told_though_a_silence_has_begun(
    databases: Databases, settings: PaymentSettings, server: MailServer
) -> None:
    """The digest of a reminder that is older than the adoption: the first attempt is in doubt."""

    async def story(client: httpx.AsyncClient) -> None:
        made = flag(databases)
        await eventually(lambda: are_alerted(databases, made))
        made.extend(flag(databases, rule="luhn") + flag(databases))
        await eventually(lambda: len(await_held(databases)) == 2)
        adopt = partial(operations.adopt, settings, REACTIONS, skip_open=False)
        assert (await asyncio.to_thread(adopt)).skipped == 0
        await client.post("/silences", json=HUSH)
        assert len(await listed(client, "/silences")) == 1
        await eventually_when_due(databases, lambda: not await_held(databases))
        await eventually(lambda: not query(databases.as_owner(), OPEN))
        sent = {each["transactionID"] for each in await listed(client, state="sent")}
        assert sent == set(map(str, made))
        assert {each for mail in server.delivered for each in NAMED.findall(mail.text)} == sent

    tell(settings, story)


DEAD = "alert.died"
HUSH = {"matcher": {"rule": "luhn"}, "ends_at": "2999-01-01T00:00:00Z", "reason": "a test"}


@pytest.mark.usefixtures("far_apart")
@pytest.mark.parametrize("is_silenced", [False, True], ids=["begins", "ends"])
def test_what_may_have_been_told_is_told_again_whatever_silence_begins_or_ends(
    databases: Databases, settings: PaymentSettings, server: MailServer, *, is_silenced: bool
) -> None:
    """The reply to a digest is lost; one of its alerts matches a silence that changes then."""

    def lose(delivered: Delivered) -> str:
        if len(NAMED.findall(delivered.text)) > 1 and not is_put_off.is_set():
            for transport in server.transports:
                transport.abort()
        return OK

    def digests() -> list[Delivered]:
        return [mail for mail in server.delivered if len(NAMED.findall(mail.text)) > 1]

    is_put_off = threading.Event()
    server.on_data = lose

    async def story(client: httpx.AsyncClient) -> None:
        async def begin() -> str:
            begun = await client.post("/silences", json=HUSH)
            await listed(client, "/silences")
            return f"/silences/{begun.json()['id']}"

        begun = await begin() if is_silenced else ""
        made = flag(databases)
        await eventually(lambda: are_alerted(databases, made))
        made += flag(databases, rule="luhn")
        await eventually(lambda: len(await_held(databases)) == 1)
        made += flag(databases, 2)
        await eventually(lambda: len(await_held(databases)) == 3)
        with databases.as_owner() as owner:
            await eventually_when_due(
                databases, lambda: owner.execute(PUT_OFF, [DOUBTFUL]).rowcount == 1
            )
        is_put_off.set()
        if is_silenced:
            assert (await client.delete(begun)).status_code == 204
        else:
            await begin()
        assert len(await listed(client, "/silences")) == 1
        with databases.as_owner() as owner:
            await eventually(lambda: owner.execute(TRY_AGAIN).rowcount == 1)
        await eventually(lambda: not query(databases.as_owner(), OPEN))
        # On a slow machine it has gone by itself before it was put off, and was lost once more.
        first, *_, last = digests()
        assert {(each.message_id, each.text) for each in digests()} == {
            (last.message_id, last.text)
        }
        told = set(NAMED.findall(first.text))
        assert told == set(map(str, made[2:] if is_silenced else made[1:]))
        sent = {each["transactionID"] for each in await listed(client, state="sent")}
        assert sent == told | {str(made[0])}

    tell(settings, story)


DOUBTFUL = "the connection to the mail server broke"
# As soon as it waits: it would go once more by itself.
PUT_OFF = """
    UPDATE reaction.intent SET due_at = due_at + interval '1 day'
    WHERE token IS NULL AND in_doubt AND reason = %s
"""
TRY_AGAIN = "UPDATE reaction.intent SET due_at = now() WHERE token IS NULL AND in_doubt"


def bad(**changes: object) -> dict[str, object]:
    good = {"matcher": {"client": "shop"}, "ends_at": "2999-01-01T00:00:00Z", "reason": "a test"}
    return {**good, **changes}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (bad(matcher={}), 422, "matcher"),
        (bad(matcher={"client": "a\r\nBcc: b"}), 422, "matcher.client"),
        (bad(matcher={"rule": None}), 422, "matcher"),
        (bad(matcher={"else": "x"}), 422, "matcher.else"),
        (bad(ends_at="tomorrow"), 422, "ends_at"),
        (bad(ends_at="2999-01-01T00:00:00"), 422, "ends_at"),
        (bad(ends_at=5), 422, "ends_at"),
        (bad(reason=""), 422, "reason"),
        (bad(reason="card 4111111111111111"), 422, "reason"),
        (bad(ends_at="2001-01-01T00:00:00Z"), 409, None),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(
    settings: PaymentSettings, body: Any, status: int, field: str | None  # noqa: ANN401 - JSON
) -> None:  # fmt: skip
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post("/silences", json=body)
        assert answer.status_code == status, answer.text
        assert field is None or field in answer.json()["errors"], answer.text
        assert "4111" not in answer.text
        assert (await client.delete(f"/silences/{uuid4()}")).status_code == 404

    tell(settings, story)


def test_pages_of_alerts_follow_each_other(databases: Databases, settings: PaymentSettings) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        made = flag(databases, 7)
        await eventually(lambda: len(topics(databases, "alert")) == len(made))
        found: list[str] = []
        reference: dict[str, str] = {}
        while page := await listed(client, size="3", **reference):
            found += [each["transactionID"] for each in page]
            reference = {"last_reference": page[-1]["id"]}
        assert sorted(found) == sorted(map(str, made))
        unknown = await client.get("/alerts", params={"last_reference": str(uuid4())})
        assert unknown.status_code == 404

    tell(settings, story)


def test_who_has_nobody_to_tell_does_not_start(databases: Databases) -> None:
    nowhere = settings_of(databases, development=False)
    with pytest.raises(ConfigurationError, match=r"^SMTP_URL is not set"):
        mailbox_of(nowhere)
    with pytest.raises(ConfigurationError, match=r"ALERT_TO"):
        smtp_sender(settings_of(databases, alert_to=()), "smtp://mail.test")
    missing = settings_of(databases, smtp_ca_file=Path("/nowhere.pem"))
    with pytest.raises(ConfigurationError, match=r"^SMTP_CA_FILE"):
        smtp_sender(missing, "smtps://mail.test")


@dataclass
class Carrier:
    """Passes short messages on, or says what it is told to say."""

    url: str
    taken: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """(`Idempotency-Key`, body) of each request."""
    asked: list[str] = field(default_factory=list)
    """Path and query of each."""
    status: int = 200

    hangs: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends what hangs."""

    async def take(self, request: web.Request) -> web.Response:
        self.taken.append((request.headers["Idempotency-Key"], await request.json()))
        self.asked.append(request.raw_path)
        if self.hangs:
            await self.released.wait()
        return web.json_response({"detail": "not you, a@b.test"}, status=self.status)


@pytest.fixture
def carrier(free_port: Callable[[], int]) -> Iterator[Carrier]:
    port = free_port()
    opened = Carrier(f"http://127.0.0.1:{port}/sms")

    routes = [web.post(path, opened.take) for path in ("/sms", "/sms/")]
    with on_a_loop(lambda: answering(port, *routes, closing=opened.released.set)):
        yield opened


def test_each_channel_tells_once_and_waits_for_no_other(
    databases: Databases, server: MailServer, carrier: Carrier
) -> None:
    settings = settings_of(databases, smtp_url=server.url, sms_webhook_url=carrier.url)
    server.on_data = lambda _: "451 greylisted"

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: are_alerted(databases, [transaction]))
        await eventually(
            lambda: sorted(topics(databases, "alert").values()) == ["alert.delayed", "alert.sent"]
        )
        [(key, body)] = carrier.taken
        assert UUID(key)
        text = f"Fraud: 1 transaction of shop: 123.00 INR, {transaction}"
        assert body == {"id": f"{transaction}.sms", "text": text}
        shown = {each["channel"]: each["state"] for each in await listed(client)}
        assert shown == {"sms": "sent", "email": "retrying"}

    tell(settings, story)


def test_texts_that_wait_are_dead_once_nobody_is_configured_to_pass_them_on(
    databases: Databases, server: MailServer, carrier: Carrier
) -> None:
    carrier.status = 503

    async def waits(_: httpx.AsyncClient) -> None:
        flag(databases)
        states = ["alert.delayed", "alert.sent"]
        await eventually(lambda: sorted(topics(databases, "alert").values()) == states)

    async def is_dead(client: httpx.AsyncClient) -> None:
        with databases.as_owner() as owner:

            def is_over() -> bool:
                owner.execute(DUE)
                return sorted(topics(databases, "alert").values()) == [DEAD, "alert.sent"]

            await eventually(is_over)
        [shown] = await listed(client, state="dead")
        assert shown["reason"] == "no way to send by sms is configured any more"
        # Nor is anybody told of more by it.
        flag(databases, client="other")
        await eventually(
            lambda: len(topics(databases, "alert")) > 2 and not query(databases.as_owner(), OPEN)
        )
        assert len(topics(databases, "alert")) == 3

    tell(settings_of(databases, smtp_url=server.url, sms_webhook_url=carrier.url), waits)
    tell(settings_of(databases, smtp_url=server.url), is_dead)


DUE = "UPDATE reaction.intent SET due_at = now() WHERE token IS NULL AND ended_at IS NULL"


def test_a_short_message_that_is_refused_is_dead(
    databases: Databases, server: MailServer, carrier: Carrier
) -> None:
    settings = settings_of(databases, smtp_url=server.url, sms_webhook_url=carrier.url)
    carrier.status = 400

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(
            lambda: sorted(topics(databases, "alert").values()) == ["alert.died", "alert.sent"]
        )
        await eventually(lambda: are_alerted(databases, [transaction]))
        [shown] = await listed(client, state="dead")
        assert (shown["channel"], shown["reason"]) == ("sms", "400 not you, …")
        assert len(carrier.taken) == 1

    tell(settings, story)


def test_who_takes_short_messages_and_says_nothing_is_given_up(carrier: Carrier) -> None:
    """The clock is pushed once the message has been taken; nothing else would end this."""
    carrier.hangs = True
    sent = sent_of(replace(ABOUT, channel=Channel.SMS))

    async def story() -> None:
        async with aiohttp.ClientSession() as session:
            delivering = asyncio.create_task(
                SmsSender(session, carrier.url).deliver(sent, alerts_of(sent))
            )
            await eventually(lambda: bool(carrier.taken))
            assert not delivering.done()
            push_the_clock(DEADLINE_SECONDS + 1.0)
            with pytest.raises(InDoubtError, match=r"^no answer in 5 s"):
                await delivering

    on_a_pushed_clock(story())


def test_a_short_message_is_named_by_the_first_transaction_that_it_tells_of(
    carrier: Carrier,
) -> None:
    alerts = [replace(ABOUT, channel=Channel.SMS, transaction_id=uuid4()) for _ in range(3)]

    async def story() -> None:
        async with aiohttp.ClientSession() as session:
            await SmsSender(session, carrier.url).deliver(sent_of(*alerts), alerts[1:])

    asyncio.run(story())
    assert [body["id"] for _, body in carrier.taken] == [f"{alerts[1].transaction_id}.sms"]


@pytest.mark.parametrize("rest", ["", "/", "?token=a%26b", "/?token=a%26b"])
def test_the_webhook_is_asked_by_all_of_its_address(carrier: Carrier, rest: str) -> None:
    sent = sent_of(replace(ABOUT, channel=Channel.SMS))

    async def story() -> None:
        async with aiohttp.ClientSession() as session:
            sender = SmsSender(session, f"{carrier.url}{rest}")
            assert (await sender.deliver(sent, alerts_of(sent))).refused is None

    asyncio.run(story())
    assert carrier.asked == [f"/sms{rest}"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "geheim",
        "sms.test/geheim",
        "ftp://sms.test/geheim",
        "http:///geheim",
        "http://sms.test:99999/geheim",
        "http://sms.test:0/geheim",
        "https://sms.test/ge heim",
        "https://sms.test/gehe\u00efm",
    ],
)
def test_what_is_no_address_of_a_webhook_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^SMS_WEBHOOK_URL: must be") as raised:
        parts_of(url)
    assert "geh" not in str(raised.value)
