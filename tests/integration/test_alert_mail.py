"""Mails and mail servers: what each answer means, and that nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import uvloop

from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.target import (
    InDoubtError,
    LaterError,
    NotAllowedError,
    NotSentError,
)
from codebase.foundation.errors import ConfigurationError
from codebase.model.payments.alert import Alert, Channel
from codebase.services.alertman.alerting import SEND, as_json
from codebase.services.alertman.smtp import Relay, SmtpSender
from tests.clocks import on_a_pushed_clock, push_the_clock
from tests.integration.mail_server import OK, mail_server
from tests.patience import NEVER_SECONDS

FROM, TO = "orderly@shop.test", ("one@bank.test", "two@bank.test", "three@bank.test")
NOW = datetime(2026, 11, 29, 9, 30, tzinfo=UTC)
ALERT = Alert(
    transaction_id=UUID("6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11"),
    channel=Channel.EMAIL,
    client="shop",
    amount=Decimal("123.00"),
    currency="INR",
    card_brand="visa",
    card_last_four="1111",
    score="60",
    rules=("card_velocity", "luhn"),
)
MESSAGE_ID = "<6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11.email@shop.test>"


def sent_of(*alerts: Alert, only: list[int] | None = None) -> Sent:
    data = {"alerts": [as_json(alert) for alert in alerts], **({"only": only} if only else {})}
    return Sent(key=uuid4(), subject=uuid4(), send=Send("email", SEND, data))


def said(*refused: str, again: Sequence[int] = (), nobody: bool = False) -> Answer:
    told = {"refused": list(refused), "again": list(again)}
    return Answer(data={**told, "at": NOW.isoformat(), "nobody": nobody})


def sender(url: str, *, ca_file: Path | None = None, deadline: float = NEVER_SECONDS) -> SmtpSender:
    return SmtpSender(
        Relay.read(url), FROM, TO, ca_file=ca_file, now=lambda: NOW, deadline_seconds=deadline
    )


def delivered_by(sending: SmtpSender, *alerts: Alert, only: list[int] | None = None) -> Answer:
    """What is answered, on the loop that services run on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(sending.deliver(sent_of(*alerts, only=only), alerts))


def test_a_mail_says_what_has_to_be_known_and_nothing_else(free_port: Callable[[], int]) -> None:
    with mail_server(free_port()) as server:
        assert delivered_by(sender(server.url), ALERT) == said()
        [taken] = server.delivered
        assert taken.recipients == TO
        assert taken.message_id == MESSAGE_ID
        assert dict(taken.mail) | {"X-Peer": "", "X-MailFrom": "", "X-RcptTo": ""} == {
            "From": FROM,
            "To": ", ".join(TO),
            "Subject": "Fraud: 1 transaction of shop",
            "Date": "Sun, 29 Nov 2026 09:30:00 +0000",
            "Message-ID": MESSAGE_ID,
            "Auto-Submitted": "auto-generated",
            "Content-Type": 'text/plain; charset="utf-8"',
            "Content-Transfer-Encoding": "7bit",
            "MIME-Version": "1.0",
            "X-Peer": "",
            "X-MailFrom": "",
            "X-RcptTo": "",
        }
        assert taken.text.splitlines() == [
            "The fraud police takes this transaction of shop for fraud. No money moved.",
            "",
            "Transaction 6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
            "  123.00 INR, visa card ending in 1111",
            "  score 60: card_velocity, luhn",
        ]


def test_a_digest_names_every_transaction_once_and_is_named_by_the_first_it_tells_of(
    free_port: Callable[[], int],
) -> None:
    alerts = [ALERT, *(replace(ALERT, transaction_id=uuid4()) for _ in range(999))]
    with mail_server(free_port()) as server:
        # Of which the first is silenced: its name is left for its retry.
        asyncio.run(sender(server.url).deliver(sent_of(*alerts), alerts[1:]))
        [taken] = server.delivered
        assert taken.message_id == f"<{alerts[1].transaction_id}.email@shop.test>"
        delivered_by(sender(server.url), ALERT)
        assert server.delivered[1].message_id == MESSAGE_ID
        assert taken.mail["Subject"] == "Fraud: 999 transactions of shop"
        named = [line.split()[1] for line in taken.text.splitlines() if line.startswith("Trans")]
        assert named == [str(alert.transaction_id) for alert in alerts[1:]]


def test_a_mail_has_seven_bits_whatever_a_client_is_called(free_port: Callable[[], int]) -> None:
    """Others may be asked for only of a server that says that it takes them."""
    with mail_server(free_port()) as server:
        delivered_by(sender(server.url), replace(ALERT, client="ü中"))
        [taken] = server.delivered
        assert taken.raw.isascii()
        assert taken.mail["Subject"] == "Fraud: 1 transaction of ü中"
        assert "transaction of ü中 for fraud" in taken.text


@pytest.mark.parametrize("evil", ["shop\r\nBcc: thief@x.test", "shop\nX-Evil: 1", "shop\u2028\x00"])
def test_a_client_s_name_is_no_header(free_port: Callable[[], int], evil: str) -> None:
    with mail_server(free_port()) as server:
        delivered_by(sender(server.url), replace(ALERT, client=evil, rules=(evil,)))
        [taken] = server.delivered
        assert taken.recipients == TO
        assert not {"Bcc", "X-Evil"} & set(taken.mail.keys())
        assert not any(line.startswith((b"Bcc", b"X-Evil")) for line in taken.raw.splitlines())


@pytest.mark.parametrize("where", ["mail", "recipient", "data"])
@pytest.mark.parametrize("code", ["450", "451", "452"])
def test_not_now_is_tried_later(free_port: Callable[[], int], where: str, code: str) -> None:
    with mail_server(free_port()) as server:
        says(server, where, f"{code} 4.2.0 come again, {TO[0]}")
        with pytest.raises(LaterError, match=rf"^{code} 4\.2\.0 come again, …"):
            delivered_by(sender(server.url), ALERT)


@pytest.mark.parametrize("where", ["mail", "recipient", "data"])
@pytest.mark.parametrize("code", ["550", "552", "554"])
def test_never_is_an_answer_with_its_code_and_text(
    free_port: Callable[[], int], where: str, code: str
) -> None:
    with mail_server(free_port()) as server:
        says(server, where, f"{code} 5.1.1 <{TO[0]}> is nobody here")
        refused = delivered_by(sender(server.url), ALERT).refused
        assert refused is not None
        assert refused.startswith(f"{code} 5.1.1 <…> is nobody here")
        assert "@" not in refused


def says(server: object, where: str, text: str) -> None:
    if where == "mail":
        server.on_mail = text  # type: ignore[attr-defined]
    elif where == "recipient":
        server.on_recipient = lambda _address, _nth: text  # type: ignore[attr-defined]
    else:
        server.on_data = lambda _delivered: text  # type: ignore[attr-defined]


def test_recipients_who_are_refused_alone_are_told_by_their_numbers(
    free_port: Callable[[], int],
) -> None:
    refusals = {TO[1]: f"550 no {TO[1]} here", TO[2]: "451 greylisted"}
    with mail_server(free_port()) as server:
        server.on_recipient = lambda address, nth: refusals.get(address, OK) if nth == 1 else OK
        answer = delivered_by(sender(server.url), ALERT)
        texts = ["recipient 2: 550 no … here", "recipient 3: 451 greylisted"]
        assert answer == said(*texts, again=[3])
        # The one who was not refused for ever gets it when it is tried again, and nobody else.
        assert delivered_by(sender(server.url), ALERT, only=[3]).refused is None
        assert [taken.recipients for taken in server.delivered] == [(TO[0],), (TO[2],)]
        assert {taken.message_id for taken in server.delivered} == {MESSAGE_ID}


@pytest.mark.parametrize("where", ["mail", "recipient", "data"])
def test_who_is_alone_in_not_getting_it_yet_holds_nobody_s_turn(
    free_port: Callable[[], int], where: str
) -> None:
    with mail_server(free_port()) as server:
        says(server, where, "451 greylisted")
        answer = delivered_by(sender(server.url), ALERT, only=[3])
        assert answer == said("recipient 3: 451 greylisted", again=[3], nobody=True)


def test_where_all_are_refused_those_who_may_get_it_later_are_told_by_their_numbers(
    free_port: Callable[[], int],
) -> None:
    refusals = {TO[0]: "550 nobody", TO[1]: "451 greylisted", TO[2]: "550 nobody"}
    with mail_server(free_port()) as server:
        server.on_recipient = lambda address, _nth: refusals[address]
        texts = [
            "recipient 1: 550 nobody",
            "recipient 2: 451 greylisted",
            "recipient 3: 550 nobody",
        ]
        expected = said(*texts, again=[2], nobody=True)
        assert delivered_by(sender(server.url), ALERT) == expected


@pytest.mark.parametrize("where", ["greeting", "mail", "data"])
def test_a_server_that_closes_is_away(free_port: Callable[[], int], where: str) -> None:
    with mail_server(free_port()) as server:
        if where == "greeting":
            server.on_greeting = "421 too busy"
        else:
            says(server, where, "421 closing")
        with pytest.raises(NotSentError, match=r"^421") as raised:
            delivered_by(sender(server.url), ALERT)
        assert not isinstance(raised.value, LaterError), "it is left alone for a while"


def test_nobody_there_is_away(free_port: Callable[[], int]) -> None:
    with pytest.raises(NotSentError):
        delivered_by(sender(f"smtp://127.0.0.1:{free_port()}"), ALERT)


@pytest.mark.parametrize("where", ["connect", "mail", "data"])
def test_a_server_that_says_nothing_is_given_up(free_port: Callable[[], int], where: str) -> None:
    """The clock is pushed once the server has been reached; nothing else would end this."""

    async def story(url: str, reached: Callable[[], bool]) -> None:
        sending = sender(url, deadline=10.0)
        delivering = asyncio.create_task(sending.deliver(sent_of(ALERT), [ALERT]))
        while not reached():  # noqa: ASYNC110 - it is another thread that does it
            await asyncio.sleep(0.001)
        assert not delivering.done()
        push_the_clock(11.0)
        with pytest.raises(InDoubtError, match=r"no answer in 10 s"):
            await delivering

    async def hole(port: int) -> None:
        taken: list[asyncio.StreamWriter] = []
        open_server = await asyncio.start_server(
            lambda _, writer: taken.append(writer), "127.0.0.1", port
        )
        async with open_server:
            await story(f"smtp://127.0.0.1:{port}", lambda: bool(taken))
            for writer in taken:
                writer.close()

    if where == "connect":
        on_a_pushed_clock(hole(free_port()))
        return
    with mail_server(free_port()) as server:
        server.hangs_at = where
        on_a_pushed_clock(story(server.url, lambda: server.stands_still))


def test_starttls_is_required_and_the_certificate_is_checked(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    with mail_server(free_port(), certificate_for="127.0.0.1") as server:
        trusted, url = tmp_path / "ca.pem", server.url.replace("smtp:", "smtp+starttls:")
        server.ca.cert_pem.write_to_path(str(trusted))
        assert delivered_by(sender(url, ca_file=trusted), ALERT).refused is None
        [taken] = server.delivered
        assert taken.was_encrypted
        with pytest.raises(NotSentError, match=r"CERTIFICATE_VERIFY_FAILED|certificate"):
            delivered_by(sender(url), ALERT)
        assert len(server.delivered) == 1
    with mail_server(free_port(), certificate_for="elsewhere.test") as server:
        server.ca.cert_pem.write_to_path(str(trusted))
        url = server.url.replace("smtp:", "smtp+starttls:")
        with pytest.raises(NotSentError):
            delivered_by(sender(url, ca_file=trusted), ALERT)
        assert not server.delivered
    with mail_server(free_port()) as server:
        with pytest.raises(NotSentError, match=r"STARTTLS"):
            delivered_by(sender(server.url.replace("smtp:", "smtp+starttls:")), ALERT)
        assert not server.delivered


def test_a_wrong_password_is_no_word_on_the_mail(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    server_of = mail_server(free_port(), certificate_for="127.0.0.1", demands_password=True)
    with server_of as server:
        trusted = tmp_path / "ca.pem"
        server.ca.cert_pem.write_to_path(str(trusted))
        url = server.url.replace("smtp://", "smtp+starttls://user:wrong@")
        with pytest.raises(NotAllowedError, match=r"^535"):
            delivered_by(sender(url, ca_file=trusted), ALERT)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.test",
        "http://u:geheim@mail.test",
        "smtp://",
        "smtp://u:geheim@a:99999",
        "smtp://a/b",
        "smtp://a:0",
        "smtp://u:25#geheim@mail.test",
        "smtp://u:geheim@mail test",
        "smtp://u:geheim@m\u00e4il.test",
        "smtp://u:geheim@one.test,two.test",
    ],
)
def test_what_is_no_address_of_a_mail_server_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^SMTP_URL: must be") as raised:
        Relay.read(url)
    assert "geheim" not in str(raised.value)


def test_a_password_may_hold_any_character() -> None:
    relay = Relay.read("smtp+starttls://user%40x:p%3Aw%2F@mail.test")
    assert (relay.username, relay.password) == ("user@x", "p:w/")
    assert (relay.host, relay.port, relay.scheme) == ("mail.test", 587, "smtp+starttls")
    assert "p:w/" not in repr(relay)
    assert Relay.read("smtp://[::1]:25").host == "::1"
