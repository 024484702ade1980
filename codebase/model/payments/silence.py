"""Until some moment nobody is told of transactions of a client, or of those that a rule flagged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from codebase.model.aggregate import Aggregate
from codebase.model.refusals import Conflict, NotFound


@dataclass(frozen=True, kw_only=True, slots=True)
class Matcher:
    """Which alerts: of this client, flagged by this rule, or both; one of them is given."""

    client: str | None = None
    rule: str | None = None

    def matches(self, client: str, rules: Collection[str]) -> bool:
        """Whether an alert about this client, flagged by these rules, is one of them."""
        return self.client in {None, client} and (self.rule is None or self.rule in rules)


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class SilenceBegun:
    """From now on, up to a moment, nobody is told of what matches."""

    matcher: Matcher
    ends_at: datetime
    reason: str
    author: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SilenceEnded:
    """Before its time, by an administrator."""

    by: str


Event = SilenceBegun | SilenceEnded


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginSilence:
    """Be silent; `asked_at` is when that was asked for."""

    begun: SilenceBegun
    asked_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EndSilence:
    """Tell again."""

    by: str


Command = BeginSilence | EndSilence


@dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """What was asked for, and who ended it before its time."""

    begun: SilenceBegun
    ended_by: str | None = None


def evolve(state: Silence | None, event: Event) -> Silence:
    """The silence after an event."""
    match event:
        case SilenceBegun():
            return Silence(begun=event)
        case SilenceEnded(by=by):
            assert state is not None, "a silence has begun"  # noqa: S101 - an invariant
            return replace(state, ended_by=by)
        case _:
            assert_never(event)


def decide(command: Command, state: Silence | None) -> list[Event]:
    """A silence ends once.

    Raises:
        NotFound: there is no such silence.
        Conflict: it would be over already.
    """
    match command, state:
        case BeginSilence(begun=begun, asked_at=asked_at), None:
            if begun.ends_at <= asked_at:
                raise Conflict("ends_at has passed: the silence would be over before it begins")
            return [begun]
        case BeginSilence(), _:
            return []
        case EndSilence(), None:
            raise NotFound("there is no such silence")
        case EndSilence(by=by), Silence(ended_by=None):
            return [SilenceEnded(by=by)]
        case _:
            return []


def topic(event: Event) -> str:
    """The routing key of an event."""
    return "silence.begun" if isinstance(event, SilenceBegun) else "silence.ended"


SILENCE: Aggregate[Command, Event, Silence] = Aggregate(
    category="silence",
    events=(SilenceBegun, SilenceEnded),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
