"""Whom alerts are sent to: a channel, and the log that remembers what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from codebase.engine.commands.bus import CommandBus
from codebase.engine.reactions.bus_target import BusTarget, CommandOn
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.target import FailedError, InDoubtError, NotSentError
from codebase.foundation.validation import adapter
from codebase.model.payments.alert import (
    ALERT,
    Alert,
    Channel,
    RaiseAlert,
    RecordDeath,
    RecordDelay,
    RecordSent,
    RecordSilence,
)
from codebase.model.payments.transaction import TRANSACTION, RecordAlert
from codebase.services.alertman.alerting import LOG, RAISE, alerts_of, as_json
from codebase.services.alertman.sending import Sender
from codebase.services.alertman.silencing import Silences
from codebase.views.payments.look import look_at

logger = logging.getLogger(__name__)

CHANNEL_DEADLINE_SECONDS = 25.0
"""Of which the sender takes 10 at most; the rest is for the silences before, and a note after."""
LOG_DEADLINE_SECONDS = 60.0
"""For as many commands as a digest has transactions, twice."""
DELAY = "delay"
ALERTS = Counter("orderly_alerts", "Alerts, by what became of them.", ["channel", "became"])
BECAME = ("sent", "dead", "silenced")
DELAYS_NOTED = 2
"""Attempts after which it is noted that something is delayed: the first may have been cut off."""


def command(sent: Sent) -> CommandOn:
    """What is sent to the log, one command at a time.

    Raises:
        ValueError: the log knows no such action.
    """
    data = sent.send.data
    part = f"{sent.send.action} {data['of']}"
    wanted: Any
    match sent.send.action:
        case "raise":
            wanted = RaiseAlert(alert=adapter(Alert).validate_python(data["alert"]))
        case "delay":
            wanted = RecordDelay(reason=data["reason"])
            part = f"{part} {sent.attempts}"
        case "sent":
            wanted = RecordSent(refused=tuple(data["refused"]))
        case "dead":
            wanted = RecordDeath(reason=data["reason"])
        case "silenced":
            wanted = RecordSilence(silence_id=UUID(data["silence"]))
        case "alerted":
            wanted = RecordAlert(by=data["channel"])
        case _:
            raise ValueError("the log knows no such action")
    aggregate = TRANSACTION if isinstance(wanted, RecordAlert) else ALERT
    return CommandOn(aggregate=aggregate, stream_id=UUID(data["of"]), command=wanted, part=part)


class Notes:
    """The log, told many things together, each once.

    Args:
        bus: of this process.
        reaction: in whose name.
    """

    def __init__(self, bus: CommandBus, reaction: str) -> None:
        self._log = BusTarget(bus, reaction, command)

    async def take(self, sent: Sent, sends: Sequence[Send]) -> Answer:
        """Have all of these decided because of `sent`; what is refused is one answer.

        Raises:
            InDoubtError: the log did not answer; all of it may be sent again.
        """
        answers = await asyncio.gather(
            *(self._log.send(replace(sent, send=send)) for send in sends)
        )
        refused = [answer.refused for answer in answers if answer.refused is not None]
        if refused:
            logger.warning("the log refuses %s notes of an alert: %s", len(refused), refused[0])
        return Answer(refused=refused[0] if refused else None)


class LogTarget:
    """Raises alerts, and notes what became of them.

    Args:
        bus: of this process.
        reaction: in whose name.
        channels: those by which somebody can be told.
    """

    def __init__(self, bus: CommandBus, reaction: str, channels: Collection[Channel]) -> None:
        self._bus = bus
        self._notes = Notes(bus, reaction)
        self._channels = channels
        self.deadline_seconds = LOG_DEADLINE_SECONDS

    async def send(self, sent: Sent) -> Answer:
        """Have it noted.

        Raises:
            NotSentError, InDoubtError: the log did not answer.
        """
        if sent.send.action == RAISE:
            return await self._notes.take(sent, await self._raised(sent))
        data = sent.send.data
        answer = await self._notes.take(sent, list(noted(data)))
        for became in BECAME:
            ALERTS.labels(data["channel"], became).inc(len(data.get(became, ())))
        return answer

    async def inquire(self, sent: Sent) -> Answer | None:  # noqa: ARG002 - as every target
        """Nothing to ask: a repeat of a command is answered as the command was."""
        return None

    async def _raised(self, sent: Sent) -> list[Send]:
        asked = (await look_at(self._bus, sent.subject)).state.requested
        alerts = [
            Alert(
                transaction_id=sent.subject,
                channel=channel,
                client=asked.client,
                amount=asked.amount,
                currency=asked.currency,
                card_brand=asked.card.brand,
                card_last_four=asked.card.last_four,
                score=sent.send.data["score"],
                rules=tuple(sent.send.data["rules"]),
            )
            for channel in self._channels
        ]
        return [
            Send(LOG, RAISE, {"of": str(alert.id), "alert": as_json(alert)}) for alert in alerts
        ]


def noted(data: Mapping[str, Any]) -> Iterator[Send]:
    """The commands for what became of a message: see `alerting.became`."""
    for alert, transaction in data.get("sent", {}).items():
        yield Send(LOG, "alerted", {"of": transaction, "channel": data["channel"]})
        yield Send(LOG, "sent", {"of": alert, "refused": data["refused"]})
    for alert in data.get("dead", ()):
        yield Send(LOG, "dead", {"of": alert, "reason": data["reason"]})
    for alert in data.get("delayed", ()):
        yield Send(LOG, DELAY, {"of": alert, "reason": data["reason"]})
    for alert, silence in data["silenced"].items():
        yield Send(LOG, "silenced", {"of": alert, "silence": silence})


class ChannelTarget:
    """Tells people, but for what is silenced.

    Args:
        sender: passes messages on.
        silences: those that hold.
        notes: where it is noted that something is delayed.
    """

    def __init__(self, sender: Sender, silences: Silences, notes: Notes) -> None:
        self._sender = sender
        self._silences = silences
        self._notes = notes
        self.deadline_seconds = CHANNEL_DEADLINE_SECONDS

    async def send(self, sent: Sent) -> Answer:
        """Have them told.

        Raises:
            NotSentError, FailedError, InDoubtError: it is to be tried again.
        """
        alerts = alerts_of(sent)
        silenced = await self._silences.of(alerts)
        told = [alert for alert in alerts if alert.id not in silenced]
        answer = await self._deliver(sent, told) if told else Answer()
        by_silence = {str(alert): str(silence) for alert, silence in silenced.items()}
        return replace(answer, data={**answer.data, "silenced": by_silence})

    async def inquire(self, sent: Sent) -> Answer | None:  # noqa: ARG002 - as every target
        """Nobody can tell whether a mail was taken: it goes once more, with the same Message-ID."""
        return None

    async def _deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        try:
            return await self._sender.deliver(sent, alerts)
        except (NotSentError, FailedError, InDoubtError) as error:
            if sent.attempts <= DELAYS_NOTED:
                await self._note_delay(sent, alerts, str(error))
            raise

    async def _note_delay(self, sent: Sent, alerts: Sequence[Alert], reason: str) -> None:
        delays = [Send(LOG, DELAY, {"of": str(each.id), "reason": reason}) for each in alerts]
        try:
            await self._notes.take(sent, delays)
        except InDoubtError as error:
            logger.warning("that an alert is delayed cannot be noted: %s", error)
