"""Somebody is told of a transaction that was flagged, by one channel.

    PENDING ──▶ RETRYING ──▶ SENT | DEAD | SILENCED        PENDING ──▶ SENT | DEAD | SILENCED
    DEAD | SILENCED ──▶ PENDING    when an administrator has it tried again

Nothing leads away from SENT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """It did not go out at once, and is tried again; `reason` is that of the first time."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertSent:
    """Whoever passes it on has taken it; `refused` says which recipients it did not take, and why.

    Recipients are told by their number in the configuration, never by their address.
    """

    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertDied:
    """Nobody will be told, unless it is tried again; `reason` has the code and the text."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertSilenced:
    """Somebody had asked not to be told of such transactions."""

    silence_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRetried:
    """An administrator has it tried again."""

    alert: Alert
    by: str


Event = AlertRaised | AlertDelayed | AlertSent | AlertDied | AlertSilenced | AlertRetried


@dataclass(frozen=True, kw_only=True, slots=True)
class RaiseAlert:
    """Have somebody told."""

    alert: Alert


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDelay:
    """It could not be sent yet."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSent:
    """It was sent."""

    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDeath:
    """It cannot be sent."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSilence:
    """A silence kept it from being sent."""

    silence_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAlert:
    """Try it again."""

    by: str


Command = RaiseAlert | RecordDelay | RecordSent | RecordDeath | RecordSilence | RetryAlert


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The alert, how far it is, and why."""

    alert: Alert
    state: AlertState = AlertState.PENDING
    reason: str | None = None
    refused: tuple[str, ...] = ()


def evolve(state: State | None, event: Event) -> State:
    """The alert after an event."""
    if isinstance(event, AlertRaised):
        return State(alert=event.alert)
    assert state is not None, "an alert begins by being raised"  # noqa: S101 - an invariant
    match event:
        case AlertDelayed(reason=reason):
            return replace(state, state=AlertState.RETRYING, reason=reason)
        case AlertSent(refused=refused):
            return replace(state, state=AlertState.SENT, reason=None, refused=refused)
        case AlertDied(reason=reason):
            return replace(state, state=AlertState.DEAD, reason=reason)
        case AlertSilenced(silence_id=silence):
            return replace(state, state=AlertState.SILENCED, reason=f"silence {silence}")
        case AlertRetried():
            return replace(state, state=AlertState.PENDING, reason=None)
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
    return _not_sent(command, state)


def _not_sent(command: RecordDelay | RecordDeath | RecordSilence, state: State) -> list[Event]:
    match command:
        case RecordDelay(reason=reason):
            return [AlertDelayed(reason=reason)] if state.state is AlertState.PENDING else []
        case RecordDeath(reason=reason):
            return [AlertDied(reason=reason)] if state.state in ON_ITS_WAY else []
        case RecordSilence(silence_id=silence):
            return [AlertSilenced(silence_id=silence)] if state.state in ON_ITS_WAY else []
        case _:
            assert_never(command)


def _retried(command: RetryAlert, state: State) -> list[Event]:
    if state.state is AlertState.SENT:
        raise Conflict("it was sent: whoever is to read it has it", state=state.state.value)
    if state.state in ON_ITS_WAY:
        return []
    return [AlertRetried(alert=state.alert, by=command.by)]


TOPICS: dict[type[Event], str] = {
    AlertDelayed: "alert.delayed",
    AlertSent: "alert.sent",
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
    events=(AlertRaised, AlertDelayed, AlertSent, AlertDied, AlertSilenced, AlertRetried),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
