"""A real mail server for tests, with manners of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.integration.jobs import on_a_loop

OK = "250 OK"


@dataclass(frozen=True)
class Delivered:
    """A mail that was taken, or was about to be."""

    recipients: tuple[str, ...]
    mail: EmailMessage
    raw: bytes
    was_encrypted: bool

    @property
    def message_id(self) -> str:
        return str(self.mail["Message-ID"])

    @property
    def text(self) -> str:
        return self.mail.get_content()


@dataclass
class MailServer:
    """What a server says to each command of a mail; it takes everything unless told otherwise."""

    port: int
    ca: trustme.CA = field(default_factory=trustme.CA)
    delivered: list[Delivered] = field(default_factory=list)
    """Every DATA that came, in order, whatever was said to it."""
    on_greeting: str = ""
    on_mail: str = OK
    on_recipient: Callable[[str, int], str] = lambda _address, _nth: OK
    """(address, how often it came) -> what is said."""
    on_data: Callable[[Delivered], str] = lambda _delivered: OK
    lets_in: bool = False
    """Whether a password is right, where one is demanded."""
    hangs_at: str = ""
    """`mail`, `data`: there nothing is said any more."""
    stands_still: bool = False
    """Whether it has come to where it hangs."""
    recipients_seen: list[str] = field(default_factory=list)
    transports: list[Any] = field(default_factory=list)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.hangs_at == "mail":
            self.stands_still = True
            await self.closing.wait()
        if self.on_mail == OK:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return self.on_mail

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        self.recipients_seen.append(address)
        said = self.on_recipient(address, self.recipients_seen.count(address))
        if said == OK:
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(  # noqa: N802 - aiosmtpd's
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        raw = envelope.content if isinstance(envelope.content, bytes) else b""
        mail = message_from_bytes(raw, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        delivered = Delivered(
            recipients=tuple(envelope.rcpt_tos),
            mail=mail,
            raw=raw,
            was_encrypted=session.ssl is not None,
        )
        with self.arrived:
            self.delivered.append(delivered)
            self.arrived.notify_all()
        if self.hangs_at == "data":
            self.stands_still = True
            await self.closing.wait()
        return self.on_data(delivered)


class Greeting(SMTP):
    """Says what the server is told to say when somebody comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.event_handler.transports.append(transport)
        super().connection_made(transport)

    async def push(self, status: Any) -> None:  # noqa: ANN401 - aiosmtpd's
        greeting = self.event_handler.on_greeting
        is_first = self.session is not None and self.session.host_name is None
        said = greeting if greeting and is_first and str(status).startswith("220") else status
        await super().push(said)
        if said is greeting and self.transport is not None:
            self.transport.close()


@contextmanager
def mail_server(
    port: int,
    *,
    certificate_for: str | None = None,
    certificate_ends: datetime | None = None,
    demands_password: bool = False,
) -> Iterator[MailServer]:
    """A server on a loopback port; with a certificate it offers STARTTLS."""
    server = MailServer(port)
    options: dict[str, Any] = {}
    if certificate_for is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = server.ca.issue_cert(certificate_for, not_after=certificate_ends)
        certificate.configure_cert(context)
        options["tls_context"] = context
    if demands_password:
        options |= {
            "authenticator": lambda *_: AuthResult(success=server.lets_in, handled=False),
            "auth_required": True,
        }

    @asynccontextmanager
    async def serving() -> AsyncIterator[MailServer]:
        loop = asyncio.get_running_loop()
        open_server = await loop.create_server(
            lambda: Greeting(server, hostname="mail.test", loop=loop, **options), "127.0.0.1", port
        )
        try:
            yield server
        finally:
            server.closing.set()
            open_server.close()
            # After a handshake that fails aiosmtpd leaves its own where it is.
            for transport in server.transports:
                transport.abort()
            await asyncio.sleep(0)

    with on_a_loop(serving):
        yield server
