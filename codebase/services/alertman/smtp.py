"""E-mail by SMTP: one connection for each mail, a deadline over all of it."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    InDoubtError,
    LaterError,
    NotAllowedError,
    NotSentError,
)
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.failpoints import failpoint
from codebase.model.payments.alert import Alert
from codebase.services.alertman.mail import mail_of
from codebase.services.alertman.sending import RECIPIENT, without_addresses

DEADLINE_SECONDS = 10.0
GOODBYE_SECONDS = 1.0
CLOSING = 421
PERMANENT = 500
HOST = re.compile(r"[a-z0-9_.:-]+", re.ASCII)
"""A name, with `xn--` where it has other letters, or an address."""
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True, kw_only=True, slots=True)
class Relay:
    """The server that takes our mail.

    Args:
        host: its name, which its certificate has to be for.
        port: its port.
        scheme: `smtp` (nothing is encrypted), `smtp+starttls` (required), or `smtps`.
        username: None: it asks for none.
        password: of that user.
    """

    host: str
    port: int
    scheme: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, url: str) -> Relay:
        """The server that SMTP_URL names.

        Raises:
            ConfigurationError: it names none; the URL is not repeated, it may hold a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        more = parts.path.strip("/") or parts.query or parts.fragment
        host = parts.hostname or ""
        if parts.scheme not in PORTS or not HOST.fullmatch(host) or more or port == 0:
            raise ConfigurationError(
                "SMTP_URL: must be smtp://, smtp+starttls:// or smtps://, with user:password@ or"
                " without, and a host and perhaps a port"
            )
        return cls(
            host=host,
            port=port or PORTS[parts.scheme],
            scheme=parts.scheme,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


class SmtpSender:
    """Sends mails to the same people every time.

    Args:
        relay: who takes them.
        sender: an e-mail address.
        recipients: e-mail addresses, which are told of by their numbers, from 1 on.
        ca_file: whom the relay's certificate has to come from; None: whom this machine trusts.
        now: for the date of a mail.
        deadline_seconds: for connecting, greeting, and handing over a mail together.
    """

    def __init__(
        self,
        relay: Relay,
        sender: str,
        recipients: Sequence[str],
        *,
        ca_file: Path | None = None,
        now: Clock = utc_now,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._relay = relay
        self._sender = sender
        self._recipients = recipients
        self._tls = None if relay.scheme == "smtp" else ssl.create_default_context(cafile=ca_file)
        self._now = now
        self._deadline_seconds = deadline_seconds

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        """Hand a mail over to the relay.

        Whoever is alone in not getting it yet is told of in the answer, and keeps nobody waiting.

        Raises:
            NotSentError, InDoubtError: it is to be tried again.
        """
        numbers = sent.send.data.get("only", range(1, len(self._recipients) + 1))
        to = {self._recipients[n - 1]: n for n in numbers if n <= len(self._recipients)}
        if not to:
            return Answer(refused="the recipient is not configured any more")
        mail = mail_of(alerts, self._sender, self._recipients, self._now())
        try:
            return await self._answer(mail, to)
        except (LaterError, ClosedError) as error:
            if "only" not in sent.send.data:
                raise
            texts = [f"{RECIPIENT.format(number)} {error}" for number in to.values()]
            return not_yet(texts, list(to.values()), self._now(), nobody=True)

    async def _answer(self, mail: EmailMessage, to: Mapping[str, int]) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                refused = await self._hand_over(mail, list(to))
        except SMTPRecipientsRefused as error:
            said = {to[one.recipient]: (one.code, one.message) for one in error.recipients}
            return all_refused(said, self._now())
        except SMTPResponseException as error:
            return refusal_of(error)
        except SMTPServerDisconnected as error:
            raise InDoubtError("the connection to the mail server broke") from error
        except TimeoutError as error:
            raise InDoubtError(f"no answer in {self._deadline_seconds:g} s") from error
        except (SMTPException, OSError) as error:
            raise NotSentError(without_addresses(f"{type(error).__name__}: {error}")) from error
        by_number = {to[address]: said for address, said in refused.items()}
        return some_refused(by_number, self._now())

    async def _hand_over(
        self, mail: EmailMessage, recipients: Sequence[str]
    ) -> dict[str, tuple[int, str]]:
        """Which recipients were refused while others were not: (code, text)."""
        client = _Client(
            hostname=self._relay.host,
            port=self._relay.port,
            use_tls=self._relay.scheme == "smtps",
            start_tls=False,
            tls_context=self._tls,
            # What this machine is called would be looked up for every mail.
            local_hostname=self._sender.rpartition("@")[2],
            # One deadline, which is ours: see DEADLINE_SECONDS.
            timeout=None,
        )
        await client.connect()
        # The one below TLS, if there will be any: after a handshake that fails nobody else has it.
        connection = client.transport
        try:
            await self._introduce(client)
            failpoint("alert_before_mail")
            refused, _ = await client.sendmail(self._sender, list(recipients), mail.as_bytes())
            failpoint("alert_after_mail")
            await _goodbye(client)
        finally:
            client.close()
            if connection is not None:
                cast("asyncio.WriteTransport", connection).abort()
        return {address: (said.code, said.message) for address, said in refused.items()}

    async def _introduce(self, client: aiosmtplib.SMTP) -> None:
        """Nothing is said in clear where that is not configured, and no password before that."""
        if self._relay.scheme == "smtp+starttls":
            await client.starttls()
        if self._relay.username is not None:
            await client.login(self._relay.username, self._relay.password or "")


class ClosedError(NotSentError):
    """The server closed when it was shown a recipient."""


class _ClosedAtRecipient(SMTPResponseException):
    """The same, as the client says it."""


class _Client(aiosmtplib.SMTP):
    """Whoever closes instead of answering for a recipient says nothing of that recipient.

    To aiosmtplib it is one that is refused. It closes and goes on, and what it finds then is a
    connection that broke: a mail that was never shown to anybody would be in doubt.
    """

    async def rcpt(self, recipient: str, /, **options: Any) -> SMTPResponse:  # noqa: ANN401 - aiosmtplib's
        try:
            return await super().rcpt(recipient, **options)
        except SMTPRecipientRefused as error:
            if error.code != CLOSING:
                raise
            raise _ClosedAtRecipient(error.code, error.message) from error


async def _goodbye(client: aiosmtplib.SMTP) -> None:
    """Who has taken a mail has taken it, whether he hears this or not."""
    with suppress(SMTPException, OSError, TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            await client.quit()


def refusal_of(error: SMTPResponseException) -> Answer:
    """What the relay's refusal means.

    Raises:
        NotSentError: it is to be tried again.
    """
    said = without_addresses(f"{error.code} {error.message}")
    if isinstance(error, SMTPAuthenticationError):
        # It is about our password, and not about this mail.
        raise NotAllowedError(said) from error
    if isinstance(error, _ClosedAtRecipient):
        raise ClosedError(said) from error
    if error.code == CLOSING:
        raise NotSentError(said) from error
    if error.code < PERMANENT:
        raise LaterError(said) from error
    return Answer(refused=said)


Refusals = Mapping[int, tuple[int, str]]
"""Number of a recipient -> (code, text)."""


def all_refused(refusals: Refusals, now: datetime) -> Answer:
    """Nobody may get it: never, or not yet.

    Raises:
        LaterError: not yet, whoever of them it is.
    """
    codes = [code for code, _ in refusals.values()]
    if max(codes) >= PERMANENT > min(codes):
        return some_refused(refusals, now, nobody=True)
    said = "; ".join(without_addresses(f"{code} {text}") for code, text in refusals.values())
    if min(codes) < PERMANENT:
        raise LaterError(said)
    return Answer(refused=said)


def some_refused(refusals: Refusals, now: datetime, *, nobody: bool = False) -> Answer:
    """By the numbers of those who do not get it, why, and who of them may get it later."""
    texts = [
        without_addresses(f"{RECIPIENT.format(number)} {code} {text}")
        for number, (code, text) in sorted(refusals.items())
    ]
    again = [number for number, (code, _) in sorted(refusals.items()) if code < PERMANENT]
    return not_yet(texts, again, now, nobody=nobody)


def not_yet(texts: Sequence[str], again: Sequence[int], now: datetime, *, nobody: bool) -> Answer:
    """As `Sender.deliver` says it."""
    data = {"refused": list(texts), "again": list(again), "at": now.isoformat(), "nobody": nobody}
    return Answer(data=data)
