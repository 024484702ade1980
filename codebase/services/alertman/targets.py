"""Whom alerts are sent to: a channel, and the log that remembers what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import prometheus_client

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Submission
from codebase.engine.messages.command_message import Became
from codebase.engine.reactions.bus_target import BusTarget, CommandOn, actor_name
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.target import FailedError, InDoubtError, NotSentError, Repeatable
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.validation import adapter
from codebase.model.actor import Actor
from codebase.model.payments.alert import (
    ALERT,
    Alert,
    AlertState,
    Channel,
    LookAt,
    RaiseAlert,
    RecordDeath,
    RecordDelay,
    RecordFinish,
    RecordSent,
    RecordSilence,
    State,
)
from codebase.model.payments.transaction import TRANSACTION, RecordAlert
from codebase.services.alertman import alerting
from codebase.services.alertman.alerting import (
    LOG,
    RAISE,
    SILENCED,
    alerts_of,
    as_json,
    kept_back,
)
from codebase.services.alertman.sending import Sender
from codebase.services.alertman.silencing import Silences
from codebase.views.payments.look import look_at

logger = logging.getLogger(__name__)

CHANNEL_DEADLINE_SECONDS = 25.0
"""Of which the sender takes 10 at most; the rest is for the silences before, and a note after."""
LOG_DEADLINE_SECONDS = 60.0
"""For as many commands as a digest has transactions, twice."""
DELAY = "delay"
ALERTS = prometheus_client.Counter(
    "orderly_alerts", "Alerts, by what became of them.", ["channel", "became"]
)
BECAME = ("sent", "dead")
"""What is noted of those that were told."""
MAY_HAVE_GONE = "it may have been told, and is told once more"
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
        case "doubt":
            wanted = RecordDelay(reason=data["reason"], may_have_gone=True)
        case "sent":
            wanted = RecordSent(refused=tuple(data["refused"]))
        case "finished":
            wanted = RecordFinish(refused=tuple(data["refused"]))
        case "dead":
            wanted = RecordDeath(reason=data["reason"])
        case alerting.SILENCED:
            counted = data.get("counted")
            wanted = RecordSilence(
                silence_id=UUID(data["silence"]),
                counted_at=datetime.fromisoformat(counted) if counted else None,
            )
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
        self._bus = bus
        self._actor = Actor(actor_name(reaction), is_admin=True)
        self._log = BusTarget(bus, reaction, command)

    async def take(self, sent: Sent, sends: Sequence[Send]) -> Answer:
        """Have all of these decided because of `sent`; what is refused is one answer.

        `changed` of the answer says of each action how often there was anything to do.

        Raises:
            InDoubtError: the log did not answer; all of it may be sent again.
        """
        answers = await asyncio.gather(
            *(self._log.send(replace(sent, send=send)) for send in sends)
        )
        refused = [answer.refused for answer in answers if answer.refused is not None]
        if refused:
            logger.warning("the log refuses %s notes of an alert: %s", len(refused), refused[0])
        changed = Counter(
            send.action
            for send, answer in zip(sends, answers, strict=True)
            if answer.data.get("outcome") == Became.DONE.value
        )
        return Answer(refused=refused[0] if refused else None, data={"changed": changed})

    async def states(self, alerts: Sequence[Alert]) -> dict[UUID, State]:
        """How alerts stand, by their ids.

        Raises:
            ServiceUnavailable: the log did not answer.
        """
        outcomes = await asyncio.gather(
            *(
                self._bus.execute(Submission.without_key(ALERT, each.id, LookAt(), self._actor))
                for each in alerts
            )
        )
        return {each.id: outcome.state for each, outcome in zip(alerts, outcomes, strict=True)}


class LogTarget(Repeatable):
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
            ALERTS.labels(data["channel"], became).inc(answer.data["changed"][became])
        return answer

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
        # With the last word on it, if that is known, so that it does not matter which comes first.
        refused = data.get("finished", data["refused"])
        yield Send(LOG, "sent", {"of": alert, "refused": refused})
    for alert in data.get("dead", ()):
        yield Send(LOG, "dead", {"of": alert, "reason": data["reason"]})
    if "finished" in data:
        for alert in (*data.get("sent", ()), *data.get("dead", ())):
            yield Send(LOG, "finished", {"of": alert, "refused": data["finished"]})
    for alert in data.get("delayed", ()):
        yield Send(LOG, DELAY, {"of": alert, "reason": data["reason"]})
    # Stored by a release that noted them afterwards.
    for alert, silence in data.get("silenced", {}).items():
        yield Send(LOG, SILENCED, {"of": alert, "silence": silence, "counted": data.get("counted")})


class ChannelTarget:
    """Tells people, but for what is silenced.

    Nobody can tell whether a mail was taken: in doubt it goes once more, with the same Message-ID,
    and tells of the same. So the log knows what is left out before the rest goes, and that a mail
    may have gone before it goes once more.

    Args:
        sender: passes messages on.
        silences: those that hold.
        notes: where it is noted what is silenced, or delayed.
        now: tells when a message went.
    """

    def __init__(
        self, sender: Sender, silences: Silences, notes: Notes, now: Clock = utc_now
    ) -> None:
        self._now = now
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
        silenced = await self._silenced(sent, alerts)
        told = [alert for alert in alerts if alert.id not in silenced]
        answer = await self._deliver(sent, told) if told else Answer()
        left_out = sorted(map(str, silenced))
        return replace(
            answer, data={"at": self._now().isoformat(), **answer.data, "silenced": left_out}
        )

    async def inquire(self, sent: Sent) -> None:
        """Nobody to ask; but from now on no silence keeps back what may have been told.

        Raises:
            InDoubtError: the log did not answer.
        """
        doubts = [
            Send(LOG, "doubt", {"of": str(alert.id), "reason": MAY_HAVE_GONE})
            for alert in alerts_of(sent)
        ]
        await self._notes.take(sent, doubts)

    async def _silenced(self, sent: Sent, alerts: Sequence[Alert]) -> set[UUID]:
        """Which of these are left out, of which the log knows.

        Raises:
            NotSentError: the log did not answer.
        """
        try:
            # The first attempt as well: what was stopped in order was none, and where the log came
            # from all of it may have been told.
            stand = await self._notes.states(alerts)
            before = {each for each in stand if stand[each].state is AlertState.SILENCED}
            doubtful = {each for each in stand if stand[each].may_have_gone}
            free = [each for each in alerts if each.id not in before | doubtful]
            found = await self._silences.of(free)
            silenced = before | found.keys()
            nothing_else = len(silenced) == len(alerts)
            noted = await self._notes.take(sent, kept_back(sent, found, nothing_else=nothing_else))
        except (InDoubtError, ServiceUnavailable) as error:
            raise NotSentError(str(error)) from error
        ALERTS.labels(sent.send.target, SILENCED).inc(noted.data["changed"][SILENCED])
        return silenced

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
