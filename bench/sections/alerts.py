"""Alerts: how soon after a transaction is flagged its mail is with the mail server."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID, uuid4

from bench.lab import Lab, as_owner
from bench.measure import BenchError, percentile
from bench.report import Result, below
from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.foundation.settings import Settings, extended
from codebase.model.actor import Actor
from codebase.model.payments.cards import Card
from codebase.model.payments.transaction import (
    TRANSACTION,
    Command,
    PaymentMethod,
    PaymentType,
    RecordDecision,
    RequestTransaction,
    TransactionRequested,
)
from codebase.registry import SYSTEM
from codebase.services.alertman.at_work import alerting
from codebase.views.payments.settings import PaymentSettings
from codebase.web.runtime import Runtime

SECONDS = 10.0
FLAGGED_PER_SECOND = 20
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 300.0
FRAUD = RecordDecision(is_fraud=True, score="60", reasons=())
ADOPT = "SELECT reaction.adopt()"
MESSAGE_ID = re.compile(rb"^Message-ID: <([0-9a-f-]{36})\.", re.MULTILINE | re.IGNORECASE)


def measure(lab: Lab) -> Iterator[Result]:
    """Each transaction of a client of its own, so that none waits for a digest."""
    settings = lab.stores("alerts")
    with as_owner(settings, "write_model") as owner:
        owner.execute(ADOPT)
    count = max(10, int(lab.effort.seconds(SECONDS) * FLAGGED_PER_SECOND))
    waits = asyncio.run(_waits(settings, count))
    for percent, target in ((50, below(200)), (99, None)):
        yield Result(
            name=f"from a flagged transaction to its mail, at {FLAGGED_PER_SECOND}/s, p{percent}",
            value=1000 * percentile(waits, percent),
            unit="ms",
            target=target,
        )


@dataclass
class MailServer:
    """Takes every mail, and remembers when."""

    taken_at: dict[UUID, float] = field(default_factory=dict)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as far as our own client needs it."""
        writer.write(b"220 bench\r\n")
        try:
            while command := await reader.readline():
                writer.write(await self._answer(command, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise BenchError("a mail broke off") from error
        finally:
            writer.close()

    async def _answer(
        self, command: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        match command[:4].upper():
            case b"DATA":
                writer.write(b"354 go on\r\n")
                mail = await reader.readuntil(b"\r\n.\r\n")
                found = MESSAGE_ID.search(mail)
                if found is None:
                    raise BenchError("a mail has no name")
                self.taken_at[UUID(found[1].decode())] = time.perf_counter()
                return b"250 taken\r\n"
            case b"QUIT":
                return b"221 bye\r\n"
            case _:
                return b"250 bench\r\n"


@asynccontextmanager
async def _telling(settings: Settings, server: MailServer) -> AsyncIterator[CommandBus]:
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    async with listening, Runtime.open(settings, SYSTEM.contexts) as runtime:
        port = listening.sockets[0].getsockname()[1]
        own = {
            "smtp_url": f"smtp://127.0.0.1:{port}",
            "alert_from": "bench@orderly.test",
            "alert_to": ("nobody@orderly.test",),
        }
        configured = extended(settings, PaymentSettings).model_copy(update=own)
        bus = await runtime.command_bus()
        async with alerting(runtime, configured, bus, None) as checks:
            for check in checks.values():
                while await check() is not None:  # noqa: ASYNC110 - it is threads that begin
                    await asyncio.sleep(POLL_SECONDS)
            yield bus


async def _waits(settings: Settings, count: int) -> list[float]:
    """Seconds from the commit of each decision to the end of its mail."""
    server, flagged_at = MailServer(), dict[UUID, float]()
    async with _telling(settings, server) as bus:
        began = time.perf_counter()
        for nth in range(count):
            await asyncio.sleep(began + nth / FLAGGED_PER_SECOND - time.perf_counter())
            transaction = uuid4()
            await bus.execute(_submission(transaction, _requested(f"client {nth}")))
            await bus.execute(_submission(transaction, FRAUD))
            flagged_at[transaction] = time.perf_counter()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(server.taken_at) < count:
            if time.monotonic() > deadline:
                raise BenchError("not everybody was told")
            await asyncio.sleep(POLL_SECONDS)
    return [max(0.0, server.taken_at[each] - at) for each, at in flagged_at.items()]


def _requested(client: str) -> RequestTransaction:
    card = Card(brand="visa", last_four="1111", luhn=True, fingerprints=("bench:" + "a" * 22,))
    requested = TransactionRequested(
        client=client,
        order_id="1",
        order_name="A lamp",
        order_cost=Decimal("123.00"),
        order_currency="INR",
        payment_method=PaymentMethod.ANY,
        payment_type=PaymentType.WALLET,
        amount=Decimal("123.00"),
        currency="INR",
        card=card,
        max_age_seconds=86_400.0,
    )
    return RequestTransaction(requested=requested)


def _submission(transaction: UUID, command: Command) -> Submission:
    return Submission(
        aggregate=TRANSACTION,
        stream_id=transaction,
        command=command,
        idempotence_key=None,
        content=Content.of("bench", None, {}),
        actor=Actor("bench", is_admin=True),
        command_id=uuid4().hex,
    )
