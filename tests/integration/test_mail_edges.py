"""Mail servers at their worst: what they close, drip and pretend; and very many flags at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from psycopg.types.json import Jsonb

from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import InDoubtError, LaterError, NotSentError
from codebase.model.payments.alert import Alert
from codebase.services.alertman import at_work, targets
from codebase.services.alertman.digests import MAILS_MAX, WITHIN
from codebase.services.alertman.smtp import Relay, SmtpSender
from tests.clocks import on_a_pushed_clock, push_the_clock
from tests.integration.alerts import (
    FROM,
    TO,
    are_alerted,
    flag,
    have_come_to,
    make_due,
    settings_of,
    telling,
    topics,
)
from tests.integration.flow import eventually as it_comes_to
from tests.integration.flow import query
from tests.integration.jobs import on_a_loop
from tests.integration.mail_server import OK, Delivered, MailServer, mail_server
from tests.integration.test_alert_kills import check
from tests.integration.test_alert_mail import ALERT, delivered_by, said, says, sender, sent_of
from tests.integration.test_alert_mail import TO as THREE
from tests.integration.test_alerts import MOMENT_SECONDS, NAMED, OPEN, eventually, listed, tell
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

TWO = "two@bank.test"
CLOSES = "421 4.3.2 closing for a while"
IN_AN_HOUR = """
    UPDATE reaction.intent SET due_at = clock_timestamp() + interval '1 hour'
    WHERE target = 'email' AND token IS NULL AND ended_at IS NULL
"""
NOW = """
    UPDATE reaction.intent SET due_at = clock_timestamp()
    WHERE target = 'email' AND token IS NULL AND ended_at IS NULL
"""
IN_DOUBT = "SELECT FROM reaction.intent WHERE target = 'email' AND in_doubt AND token IS NULL"


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[MailServer]:
    with mail_server(free_port()) as opened:
        yield opened


@pytest.mark.parametrize("nth", range(len(THREE)))
def test_who_closes_instead_of_answering_for_a_recipient_is_away_and_nothing_is_in_doubt(
    server: MailServer, nth: int
) -> None:
    server.on_recipient = lambda address, _: CLOSES if address == THREE[nth] else OK
    with pytest.raises(NotSentError, match=f"^{CLOSES}$") as raised:
        delivered_by(sender(server.url), ALERT)
    assert not isinstance(raised.value, LaterError), "it is left alone for a while"
    assert not server.delivered


def test_who_closes_at_the_one_who_is_to_get_it_later_keeps_nobody_else_waiting(
    server: MailServer,
) -> None:
    server.on_recipient = lambda _address, _nth: CLOSES
    answer = delivered_by(sender(server.url), ALERT, only=[2])
    assert answer == said(f"recipient 2: {CLOSES}", again=[2], nobody=True)


@pytest.mark.parametrize("where", ["recipient", "data"])
def test_a_mail_at_which_the_server_closes_goes_later_once_and_others_meanwhile(
    databases: Databases, server: MailServer, where: str
) -> None:
    settings = settings_of(databases, smtp_url=server.url, alert_to=(TO, TWO))
    says(server, where, CLOSES)
    if where == "recipient":
        server.on_recipient = lambda address, _: CLOSES if address == TWO else OK
    taken: list[Delivered] = []

    def take(mail: Delivered) -> str:
        taken.append(mail)
        return OK

    async def story(client: httpx.AsyncClient) -> None:
        [closed] = flag(databases)
        await eventually(lambda: have_come_to(databases, [closed], "alert.delayed"))
        [shown] = await listed(client, state="retrying")
        assert shown["reason"] == CLOSES
        with databases.as_owner() as owner:
            await eventually(lambda: owner.execute(IN_AN_HOUR).rowcount == 1)
            assert not query(databases.as_owner(), IN_DOUBT), "nobody has taken it"
            server.on_recipient, server.on_data = (lambda _address, _nth: OK), take
            [other] = flag(databases, client="other")
            await eventually(lambda: are_alerted(databases, [other]))
            assert [named_in(mail) for mail in taken] == [[other]]
            await eventually(lambda: owner.execute(NOW).rowcount == 1)
        await eventually(lambda: have_come_to(databases, [closed, other], "alert.sent"))
        await eventually(lambda: not query(databases.as_owner(), OPEN))
        assert [named_in(mail) for mail in taken] == [[other], [closed]]
        assert {mail.recipients for mail in taken} == {(TO, TWO)}

    tell(settings, story)


def named_in(mail: Delivered) -> list[UUID]:
    return [UUID(each) for each in NAMED.findall(mail.text)]


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(port: int, talk: Talk) -> AsyncIterator[None]:
    """A server on a loopback port, all of whose talks are over when it is."""
    talks: set[asyncio.Task[Any]] = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        talks.add(own)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(begin, "127.0.0.1", port):
        try:
            yield
        finally:
            for each in talks:
                each.cancel()
            await asyncio.gather(*talks, return_exceptions=True)
            await asyncio.sleep(0)


@dataclass
class Drip:
    """A server that always says something more, in its manner, and never what is waited for."""

    manner: str
    said: int = 0
    """How many pieces."""

    async def say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One piece more."""
        if self.manner == "bytes":
            writer.write(b"2")
        elif self.manner == "lines":
            writer.write(b"220-wait\r\n")
        elif not self.said:
            writer.write(b"220 mail.test\r\n")
        elif (await reader.readline()).startswith(b"DATA"):
            writer.write(b"354 go ahead\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 OK\r\n")
        else:
            writer.write(b"250 OK\r\n")
        await writer.drain()
        self.said += 1


@pytest.mark.parametrize("manner", ["bytes", "lines", "answers"])
def test_a_server_that_says_a_little_more_again_and_again_has_a_deadline_over_all_of_it(
    free_port: Callable[[], int], manner: str
) -> None:
    """Each piece comes long before the deadline, on a clock that is pushed at each."""
    port, drip = free_port(), Drip(manner)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await drip.say(reader, writer)
            push_the_clock(NEVER_SECONDS / 6)
            await asyncio.sleep(0)

    async def story() -> None:
        sending = sender(f"smtp://127.0.0.1:{port}", deadline=NEVER_SECONDS)
        async with listening(port, say):
            with pytest.raises(InDoubtError, match=f"^no answer in {NEVER_SECONDS:g} s$"):
                await sending.deliver(sent_of(ALERT), [ALERT])

    on_a_pushed_clock(story())
    assert drip.said > 1


@contextmanager
def dripping(port: int) -> Iterator[Drip]:
    """It drips a byte at a time for as long as anybody listens."""
    drip = Drip("bytes")

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await drip.say(reader, writer)
            await asyncio.sleep(MOMENT_SECONDS)

    with on_a_loop(lambda: listening(port, say)):
        yield drip


@dataclass
class Relays:
    """Mails about `shop` go by one that drips, until it is replaced; others as ever."""

    other: SmtpSender
    of_shop: SmtpSender

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        way = self.of_shop if alerts[0].client == "shop" else self.other
        return await way.deliver(sent, alerts)


def test_a_mail_that_a_server_drips_at_is_given_up_for_now_and_others_go_on(
    databases: Databases,
    server: MailServer,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    slow = f"smtp://127.0.0.1:{port}"
    relays = Relays(
        SmtpSender(Relay.read(server.url), FROM, (TO,), deadline_seconds=NEVER_SECONDS),
        SmtpSender(Relay.read(slow), FROM, (TO,), deadline_seconds=0.2),
    )
    monkeypatch.setattr(at_work, "smtp_sender", lambda *_: relays)

    async def story(client: httpx.AsyncClient) -> None:
        [slowed] = flag(databases)
        await eventually(lambda: have_come_to(databases, [slowed], "alert.delayed"))
        [shown] = await listed(client, state="retrying")
        assert shown["reason"] == "no answer in 0.2 s"
        await eventually(lambda: bool(query(databases.as_owner(), IN_DOUBT)))
        [other] = flag(databases, client="other")
        await eventually(lambda: are_alerted(databases, [other]))
        assert [named_in(mail) for mail in server.delivered] == [[other]]
        relays.of_shop = relays.other

        def is_told() -> bool:
            with databases.as_owner() as owner:
                owner.execute(NOW)
            return have_come_to(databases, [slowed, other], "alert.sent")

        await eventually(is_told)
        await eventually(lambda: not query(databases.as_owner(), OPEN))
        assert [named_in(mail) for mail in server.delivered] == [[other], [slowed]]

    with dripping(port) as drip:
        tell(settings_of(databases, smtp_url=slow), story)
    assert drip.said


@dataclass
class Wire:
    """What a client says on its way to a server, as anybody on that way would hear it."""

    url: str
    heard: bytearray = field(default_factory=bytearray)
    is_over: bool = False


@contextmanager
def wire_to(server: MailServer, port: int) -> Iterator[Wire]:
    wire = Wire(f"127.0.0.1:{port}")

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                heard.extend(piece)
                # Who is said to hears no more: what is said all the same is of interest here.
                with suppress(OSError):
                    writer.write(piece)
                    await writer.drain()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        back = asyncio.create_task(pass_on(answers, writer, bytearray()))
        try:
            await pass_on(reader, to_server, wire.heard)
            wire.is_over = True
        finally:
            to_server.transport.abort()
            back.cancel()

    with on_a_loop(lambda: listening(port, between)):
        yield wire


PASSWORD = "geheim"  # noqa: S105 - of a test
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("certificate_for", "ends", "reason"),
    [
        ("127.0.0.1", None, None),
        ("127.0.0.1", LONG_AGO, "certificate has expired"),
        ("elsewhere.test", None, "certificate is not valid for '127.0.0.1'"),
    ],
    ids=["a good one", "an expired one", "somebody else's"],
)
def test_with_a_bad_certificate_nothing_is_said_in_clear_and_the_reason_is_told(
    free_port: Callable[[], int],
    tmp_path: Path,
    certificate_for: str,
    ends: datetime | None,
    reason: str | None,
) -> None:
    trusted = tmp_path / "ca.pem"
    server_of = mail_server(
        free_port(), certificate_for=certificate_for, certificate_ends=ends, demands_password=True
    )
    with server_of as server, wire_to(server, free_port()) as wire:
        server.ca.cert_pem.write_to_path(str(trusted))
        server.lets_in = True
        sending = sender(f"smtp+starttls://orderly:{PASSWORD}@{wire.url}", ca_file=trusted)
        if reason is None:
            assert delivered_by(sending, ALERT).refused is None
            assert [mail.was_encrypted for mail in server.delivered] == [True]
        else:
            with pytest.raises(NotSentError, match=reason):
                delivered_by(sending, ALERT)
            assert not server.delivered
        it_comes_to(lambda: wire.is_over)
    clear, _, encrypted = bytes(wire.heard).partition(b"STARTTLS\r\n")
    assert clear == b"EHLO shop.test\r\n"
    kinds = kinds_of_records(encrypted)
    assert kinds[0] == HANDSHAKE
    assert set(kinds) <= RECORDS


HANDSHAKE = 22
RECORDS = {20, 21, HANDSHAKE, 23}
"""Of TLS: section 5.1 of RFC 8446."""


def kinds_of_records(said: bytes) -> list[int]:
    """Whatever is none shows as a kind that there is not."""
    kinds = []
    while said:
        kinds.append(said[0] if said[1:2] == b"\3" else -1)
        said = said[5 + int.from_bytes(said[3:5]) :]
    return kinds


def test_an_alert_waits_for_a_server_with_a_good_certificate_and_says_so(
    databases: Databases, free_port: Callable[[], int], tmp_path: Path
) -> None:
    trusted = tmp_path / "ca.pem"

    async def story(client: httpx.AsyncClient) -> None:
        [transaction] = flag(databases)
        await eventually(lambda: have_come_to(databases, [transaction], "alert.delayed"))
        [shown] = await listed(client, state="retrying")
        assert "certificate has expired" in shown["reason"]

    expired = mail_server(free_port(), certificate_for="127.0.0.1", certificate_ends=LONG_AGO)
    with expired as server:
        server.ca.cert_pem.write_to_path(str(trusted))
        url = server.url.replace("smtp:", "smtp+starttls:")
        tell(settings_of(databases, smtp_url=url, smtp_ca_file=trusted), story)
        assert not server.delivered


LOCK_WAITING = """
    SELECT subject.id, subject.state, reminder.due_at, reminder.data,
           reminder.due_at - clock_timestamp()
    FROM reaction.subject
    JOIN reaction.reminder ON reminder.reaction = subject.reaction
        AND reminder.subject = subject.id AND reminder.name = 'digest'
    WHERE subject.reaction = 'alerts_email' AND subject.state -> 'open' = '[]'
    FOR UPDATE OF subject SKIP LOCKED
"""
WRITE_STATE = """
    UPDATE reaction.subject SET state = %s WHERE reaction = 'alerts_email' AND id = %s
"""
WRITE_REMINDER = """
    UPDATE reaction.reminder SET due_at = %s, data = %s
    WHERE reaction = 'alerts_email' AND subject = %s AND name = 'digest'
"""


@dataclass
class Ahead:
    """The clock of one client's mails: what is stored grows older, as if time had passed."""

    databases: Databases
    by: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def go_on(self) -> None:
        """To when the digest is due, if one waits for nothing else."""
        with self.databases.as_owner() as owner, owner.transaction():
            for client, state, due_at, data, left in owner.execute(LOCK_WAITING).fetchall():
                by = max(left, timedelta())
                # Before anybody can see it: no mail about this client begins until then.
                self.by += by
                aged = {
                    **state,
                    "mails": [earlier(each, by) for each in state["mails"]],
                    "due": earlier(state["due"], by),
                }
                owner.execute(WRITE_STATE, [Jsonb(aged), client])
                told = {**data, "due": earlier(data["due"], by)}
                owner.execute(WRITE_REMINDER, [due_at - by, Jsonb(told), client])


def earlier(moment: str, by: timedelta) -> str:
    return (datetime.fromisoformat(moment) - by).isoformat()


def test_a_thousand_flags_of_a_client_are_three_mails_in_ten_minutes_that_name_each_once(
    databases: Databases, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the log, the reaction's store and a mail server, on a clock that is put forward."""
    sending = SmtpSender(Relay.read(server.url), FROM, (TO,), deadline_seconds=NEVER_SECONDS)
    monkeypatch.setattr(at_work, "smtp_sender", lambda *_: sending)
    monkeypatch.setattr(targets, "CHANNEL_DEADLINE_SECONDS", NEVER_SECONDS)
    clock, times = Ahead(databases), list[datetime]()

    def take(_mail: Delivered) -> str:
        times.append(clock.now())
        return OK

    server.on_data = take

    async def story(_: httpx.AsyncClient) -> None:
        made: list[UUID] = []

        def are_told() -> bool:
            if len(topics(databases, "alert")) == len(made):
                clock.go_on()
            return are_alerted(databases, made)

        for count in (700, 100, 100, 100):
            made += flag(databases, count)
            await eventually(are_told)
        await eventually(lambda: have_come_to(databases, made, "alert.sent"))
        named = [each for mail in server.delivered for each in named_in(mail)]
        assert sorted(named) == sorted(made)
        assert len(times) > MAILS_MAX
        apart = [fourth - first for first, fourth in zip(times, times[MAILS_MAX:], strict=False)]
        assert min(apart) >= WITHIN

    tell(settings_of(databases, smtp_url=server.url), story)


AT_WORK = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'alerts_email dispatcher'
"""
DOUBTS = """
    SELECT data -> 'alert' ->> 'transaction_id' FROM event
    WHERE type = 'AlertRaised' AND stream_id IN (
        SELECT stream_id FROM event
        WHERE type = 'AlertDelayed' AND (data ->> 'may_have_gone')::boolean
          AND data ->> 'reason' LIKE 'no answer in %'
    )
"""
CLIENTS = 40
WORKERS = ("one@shop.test", "two@shop.test")


def test_two_workers_at_once_tell_of_each_once(databases: Databases, server: MailServer) -> None:
    """Each signs with a name of its own; only what had no answer in time may come once more."""
    settings = settings_of(databases, smtp_url=server.url, reaction_in_flight=4)
    made: list[UUID] = []

    def are_told() -> bool:
        return make_due(databases) and have_come_to(databases, made, "alert.sent")

    one, two = (telling(settings, ALERT_FROM=name) for name in WORKERS)
    with one, two:
        it_comes_to(lambda: len(query(databases.as_owner(), AT_WORK)) == len(WORKERS))
        while {str(mail.mail["From"]) for mail in server.delivered} != set(WORKERS):
            for _ in range(CLIENTS):
                made += flag(databases, client=f"client {len(made)}")
            it_comes_to(are_told)
        it_comes_to(lambda: are_alerted(databases, made))
        it_comes_to(lambda: query(databases.as_owner(), OPEN) == [])
    check(databases, server, made, [doubt for (doubt,) in query(databases.as_owner(), DOUBTS)])
