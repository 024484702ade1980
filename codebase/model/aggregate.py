"""What every aggregate is made of: a decision, a fold, and the claims its events make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

from codebase.model.actor import Actor
from codebase.model.refusals import Conflict, Rejected


@dataclass(frozen=True, slots=True)
class Claim:
    """This stream takes `value` of `kind` for itself; no other stream can have it."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Release:
    """This stream gives back what it had claimed."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Spend:
    """`amount` is taken from the budget `name`, which never exceeds its limit."""

    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Require:
    """Some stream holds `value` of `kind`; it goes on doing so until this is written."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Vacate:
    """Nobody holds a value of `kind` any more once this is written.

    Whoever claims one has to `Require` something that is released together with this, or it could
    be claimed again right after.
    """

    kind: str


Guard = Claim | Release | Spend | Require | Vacate

Command = TypeVar("Command")
Event = TypeVar("Event")
State = TypeVar("State")


def no_guards(_event: Any) -> Sequence[Guard]:  # noqa: ANN401 - fits every aggregate
    """For aggregates whose events claim nothing beyond their own stream."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Aggregate(Generic[Command, Event, State]):
    """One consistency boundary: everything the engine needs to know of it.

    Args:
        category: the kind of stream, the first word of the routing key.
        events: every event class, in the order in which they came to be.
        decide: (command, state or None before the first event) -> new events; a repeat is `[]`.
        evolve: (state or None, event) -> the state after it.
        guards: event -> rules that span streams.
        topic: event -> routing key, `<category>.<event>.<qualifiers>`.
        owner: state -> the client that it belongs to; None: all of it is in everybody's reach.
        refusals: guard kind or budget name -> what the sender is told when it says no.
    """

    category: str
    events: tuple[type[Event], ...]
    decide: Callable[[Command, State | None], list[Event]]
    evolve: Callable[[State | None, Event], State]
    topic: Callable[[Event], str]
    guards: Callable[[Event], Sequence[Guard]] = no_guards
    owner: Callable[[State], str] | None = None
    refusals: dict[str, Callable[[str], Rejected]] = field(default_factory=dict)

    def fold(self, events: Sequence[Event], state: State | None = None) -> State | None:
        """The state after `events`, starting from `state`."""
        for event in events:
            state = self.evolve(state, event)
        return state

    def is_within_reach(self, actor: Actor, state: State | None) -> bool:
        """Whether the actor may know of what is there; nothing is there for everybody."""
        if state is None or self.owner is None:
            return True
        return actor.may_act_for(self.owner(state))

    def refusal(self, guard: str, detail: str) -> Rejected:
        """The answer for a guard that said no; `detail` is what is left, or the value taken."""
        refuse = self.refusals.get(guard)
        return refuse(detail) if refuse else Conflict(f"{guard} is taken: {detail}")
