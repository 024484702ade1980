"""Somebody is told of a transaction that was flagged, by one channel.

    PENDING ──▶ RETRYING ──▶ SENT | DEAD | SILENCED        PENDING ──▶ SENT | DEAD | SILENCED
    DEAD | SILENCED ──▶ PENDING    when an administrator has it tried again

Nothing leads away from SENT: there only the last word on some of its recipients follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate
from codebase.model.refusals import Conflict, NotFound

ALERTS = UUID("c0a1f0de-31f4-4c53-8f27-5b6a4f2c9d71")
"""The namespace of alerts' ids."""


class Channel(StrEnum):
    """How somebody is told."""

    EMAIL = "email"
    SMS = "sms"


class AlertState(StrEnum):
    """How far an alert is."""

    PENDING = "pending"
    RETRYING = "retrying"
    SENT = "sent"
    DEAD = "dead"
    SILENCED = "silenced"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """What is told of a transaction; of its card there is its brand and its last four digits."""

    transaction_id: UUID
    channel: Channel
    client: str
    amount: Decimal
    currency: str
    card_brand: str
    card_last_four: str
    score: str
    rules: tuple[str, ...]

    @property
    def id(self) -> UUID:
        """Of its stream."""
        return alert_id(self.transaction_id, self.channel)


def alert_id(transaction_id: UUID, channel: Channel) -> UUID:
    """The stream of the one alert that there is for a transaction and a channel."""
    return uuid5(ALERTS, f"{transaction_id}.{channel}")


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRaised:
    """Somebody is to be told."""

    alert: Alert


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertDelayed:
    """It did not go out at once, and is tried again; `reason` is that of the first time.

    With `may_have_gone` nobody knows whether it did: it is told again as it was told then.
    """

    reason: str
    may_have_gone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertSent:
    """Whoever passes it on has taken it; `refused` says which recipients it did not take, and why.

    Some of those may get it later. Recipients are told by their number in the configuration, never
    by their address.
    """

    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertFinished:
    """It was sent, and is tried for nobody any more; `refused` says whom it never reached, and why.

    It comes only where that is not what `AlertSent` said.
    """

    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertDied:
    """Nobody will be told, unless it is tried again; `reason` has the code and the text."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertSilenced:
    """Somebody had asked not to be told of such transactions.

    Args:
        silence_id: by which silence.
        alert: of whom it was to be told, and how.
        counted_at: when the message was counted among its client's that did not go out, because
            there was nothing else in it; None if it went out, or nobody knows.
    """

    silence_id: UUID
    alert: Alert | None = None
    counted_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRetried:
    """An administrator has it tried again."""

    alert: Alert
    by: str


Event = (
    AlertRaised
    | AlertDelayed
    | AlertSent
    | AlertFinished
    | AlertDied
    | AlertSilenced
    | AlertRetried
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RaiseAlert:
    """Have somebody told."""

    alert: Alert


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDelay:
    """It could not be sent yet, as far as anybody knows."""

    reason: str
    may_have_gone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSent:
    """It was sent."""

    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFinish:
    """It is tried for nobody any more; `refused` as in `AlertFinished`."""

    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDeath:
    """It cannot be sent."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSilence:
    """A silence kept it from being sent; `counted_at` as in `AlertSilenced`."""

    silence_id: UUID
    counted_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAlert:
    """Try it again."""

    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LookAt:
    """How does it stand? Changes nothing."""


Command = (
    RaiseAlert
    | RecordDelay
    | RecordSent
    | RecordFinish
    | RecordDeath
    | RecordSilence
    | RetryAlert
    | LookAt
)


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The alert, how far it is, and why; `may_have_gone` as in `AlertDelayed`."""

    alert: Alert
    state: AlertState = AlertState.PENDING
    reason: str | None = None
    refused: tuple[str, ...] = ()
    may_have_gone: bool = False


def evolve(state: State | None, event: Event) -> State:
    """The alert after an event."""
    if isinstance(event, AlertRaised):
        return State(alert=event.alert)
    assert state is not None, "an alert begins by being raised"  # noqa: S101 - an invariant
    match event:
        case AlertDelayed(reason=reason, may_have_gone=doubt):
            delayed = replace(state, state=AlertState.RETRYING, reason=reason)
            return replace(delayed, may_have_gone=state.may_have_gone or doubt)
        case AlertSent(refused=refused) | AlertFinished(refused=refused):
            return replace(state, state=AlertState.SENT, reason=None, refused=refused)
        case AlertDied(reason=reason):
            return replace(state, state=AlertState.DEAD, reason=reason)
        case AlertSilenced(silence_id=silence):
            return replace(state, state=AlertState.SILENCED, reason=f"silence {silence}")
        case AlertRetried():
            return State(alert=state.alert)
        case _:
            assert_never(event)


ON_ITS_WAY = frozenset({AlertState.PENDING, AlertState.RETRYING})


def decide(command: Command, state: State | None) -> list[Event]:
    """What changes; what comes again, or too late, changes nothing.

    Raises:
        NotFound: there is no such alert.
        Conflict: it was sent, so that it is not tried again.
    """
    if isinstance(command, RaiseAlert):
        return [AlertRaised(alert=command.alert)] if state is None else []
    if state is None:
        raise NotFound("there is no such alert")
    if isinstance(command, RetryAlert):
        return _retried(command, state)
    if isinstance(command, RecordSent):
        is_news = state.state is not AlertState.SENT
        return [AlertSent(refused=command.refused)] if is_news else []
    if isinstance(command, RecordFinish):
        is_news = state.state is AlertState.SENT and state.refused != command.refused
        return [AlertFinished(refused=command.refused)] if is_news else []
    return _not_sent(command, state)


def _not_sent(
    command: RecordDelay | RecordDeath | RecordSilence | LookAt, state: State
) -> list[Event]:
    match command:
        case RecordDelay():
            return _delayed(command, state)
        case RecordDeath(reason=reason):
            return [AlertDied(reason=reason)] if state.state in ON_ITS_WAY else []
        case RecordSilence(silence_id=silence, counted_at=counted_at):
            silenced = AlertSilenced(silence_id=silence, alert=state.alert, counted_at=counted_at)
            # What may have gone is not said to have been kept back.
            is_to_be = state.state in ON_ITS_WAY and not state.may_have_gone
            return [silenced] if is_to_be else []
        case LookAt():
            return []
        case _:
            assert_never(command)


def _delayed(command: RecordDelay, state: State) -> list[Event]:
    reason = state.reason or command.reason
    delayed = AlertDelayed(reason=reason, may_have_gone=command.may_have_gone)
    if state.state is AlertState.RETRYING:
        return [delayed] if command.may_have_gone and not state.may_have_gone else []
    return [delayed] if state.state is AlertState.PENDING else []


def _retried(command: RetryAlert, state: State) -> list[Event]:
    if state.state is AlertState.SENT:
        raise Conflict("it was sent: whoever is to read it has it", state=state.state.value)
    if state.state in ON_ITS_WAY:
        return []
    return [AlertRetried(alert=state.alert, by=command.by)]


TOPICS: dict[type[Event], str] = {
    AlertDelayed: "alert.delayed",
    AlertSent: "alert.sent",
    AlertFinished: "alert.finished",
    AlertDied: "alert.died",
    AlertSilenced: "alert.silenced",
}


def topic(event: Event) -> str:
    """The routing key of an event; what is to be sent is told by its channel."""
    match event:
        case AlertRaised(alert=alert):
            return f"alert.raised.{alert.channel}"
        case AlertRetried(alert=alert):
            return f"alert.retried.{alert.channel}"
        case _:
            return TOPICS[type(event)]


ALERT: Aggregate[Command, Event, State] = Aggregate(
    category="alert",
    events=(
        AlertRaised,
        AlertDelayed,
        AlertSent,
        AlertFinished,
        AlertDied,
        AlertSilenced,
        AlertRetried,
    ),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
