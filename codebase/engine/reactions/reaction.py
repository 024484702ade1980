"""What a reaction is: pure functions that say what events cause. Somebody else does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from codebase.model.aggregate import Aggregate

State = Any
"""What a reaction remembers of a subject, as JSON knows it; None before the first event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """An event, with what is known of it.

    Args:
        event: of one of the reaction's aggregates.
        stream_id: whose event it is.
        version: of the stream after it.
        recorded_at: when it was recorded, in UTC. There is no other clock in a reaction.
    """

    event: Any
    stream_id: UUID
    version: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Send:
    """Have a target do something: decide a command, or take a call.

    Args:
        target: one of those that the service opens.
        action: what it is to do, by the target's own name for it.
        data: what it needs for that, as JSON knows it.
        in_doubt: whether it may have been done, by whoever did what this follows from: it is asked
            first whether it was, and not before that has come to its end.
    """

    target: str
    action: str
    data: Mapping[str, Any] = field(default_factory=dict)
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Remind:
    """Be asked again at `due_at`; a reminder of the same name is replaced.

    Args:
        name: of the reminder, for its subject.
        due_at: when, in UTC.
        data: what is to be known then, as JSON knows it.
    """

    name: str
    due_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forget:
    """Do without a reminder, if there is one."""

    name: str


Intent = Send | Remind | Forget


@dataclass(frozen=True, kw_only=True, slots=True)
class Reminder:
    """A reminder that is due.

    Args:
        subject: whom it is about.
        name: of the reminder.
        due_at: when it was.
        data: what was to be known now.
        is_busy: whether something is still to be done for the subject: what is sent now waits for
            that, and would be done even if that is left out.
    """

    subject: UUID
    name: str
    due_at: datetime
    data: Mapping[str, Any]
    is_busy: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """Something that was sent to a target.

    Args:
        key: names the effect; it is the same in each attempt.
        subject: whom it concerns.
        send: what is to be done.
        attempts: how often that has been tried, this time included.
        age_seconds: how long ago it was caused.
        in_doubt: whether it may have been done before.
    """

    key: UUID
    subject: UUID
    send: Send
    attempts: int = 1
    age_seconds: float = 0.0
    in_doubt: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a target says became of it.

    Args:
        refused: None if it is done, otherwise why it never will be.
        data: what else was answered, as JSON knows it.
        is_news: whether it tells that the target answers at this moment, and was not known without
            it, nor said before something else was done.
    """

    refused: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    is_news: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a target is tried that says "later" for hours, and that nobody has to be asked.

    Args:
        first_seconds: between the first attempt and the second; twice as long each time after that,
            and up to half of it shorter.
        longest_seconds: between two attempts.
        at_most_seconds: after so long it counts as refused, once it was tried again.
    """

    first_seconds: float
    longest_seconds: float
    at_most_seconds: float


def nothing_to_remember(state: State, _happened: Happened) -> State:
    """For reactions that need no state."""
    return state


def nothing_changed(_reminder: Reminder, state: State) -> State:
    """For reactions that remember nothing of their reminders."""
    return state


def nothing_due(_reminder: Reminder, _state: State) -> Sequence[Intent]:
    """For reactions without reminders."""
    return ()


def no_outcome(_sent: Sent, _answer: Answer) -> Sequence[Intent]:
    """For reactions that nobody has to be told about."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """How events cause something else. All of its functions are pure.

    Args:
        name: names the checkpoint, the queues and the keys of effects; it never changes.
        aggregates: whose events it follows.
        events: of these, the classes that it is told of, the others are passed over; None: all.
        rest_seconds: after a look at the log that has found something: what comes meanwhile is read
            and written together, and costs a part of what it would cost alone. Of a reminder that
            is forgotten in the same look nothing is kept.
        errand_rest_seconds: the same of what is to be done and was done. Answers wait for that too,
            before anything follows from them: it must be far below `LEASE_MARGIN_SECONDS`.
        subject: event -> whom it is about; None: the event is of no interest. What is caused for
            one subject is done in order.
        react: (event, state of its subject, this event included) -> what is to be done.
        evolve: (state, event) -> the state after it.
        remind: (reminder, state) -> what is to be done now; nothing when its reason is gone.
        reminded: (reminder, state) -> the state after it has fired.
        outcome: (what was sent, the target's answer) -> what is to be done about that, usually a
            command on the stream that it concerns.
        takes_refusals: whether `outcome` is told of refusals as well. Otherwise what is refused is
            parked, and what comes after it for the same subject waits.
        stays_in_the_log: whether all that it causes are commands in the log that it follows: these
            are done also in a log that was restored or copied, whatever is left out there, because
            nobody else does them.
        since: what was recorded before this moment, in UTC, causes nothing; it is remembered all
            the same. None: the first event of the log causes what the last one does. It never
            changes: whoever moved it back would find that what was read is not read again.
        insists_on: targets that are asked again and again, however often they have failed, because
            only they know what became of it. For others there is an end, and then it is parked.
        patience: target -> how long it is tried, instead of a number of attempts.
    """

    name: str
    aggregates: tuple[Aggregate[Any, Any, Any], ...]
    subject: Callable[[Happened], UUID | None]
    react: Callable[[Happened, State], Sequence[Intent]]
    events: tuple[type[Any], ...] | None = None
    rest_seconds: float = 0.0
    errand_rest_seconds: float = 0.0
    evolve: Callable[[State, Happened], State] = nothing_to_remember
    remind: Callable[[Reminder, State], Sequence[Intent]] = nothing_due
    reminded: Callable[[Reminder, State], State] = nothing_changed
    outcome: Callable[[Sent, Answer], Sequence[Intent]] = no_outcome
    takes_refusals: bool = False
    stays_in_the_log: bool = False
    since: datetime | None = None
    insists_on: frozenset[str] = frozenset()
    patience: Mapping[str, Patience] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a moment that is one thing here and another there.

        Raises:
            ValueError: `since` has no time zone.
        """
        if self.since is not None and self.since.tzinfo is None:
            raise ValueError(f"reaction {self.name}: since has no time zone")

    def is_told_of(self, event: type[Any]) -> bool:
        """Whether a class of events of its aggregates is one of `events`."""
        return self.events is None or event in self.events

    @property
    def passes_over(self) -> frozenset[str]:
        """Types of events of its aggregates that it is not told of."""
        known = (event for aggregate in self.aggregates for event in aggregate.events)
        return frozenset(event.__name__ for event in known if not self.is_told_of(event))

    @property
    def remembers(self) -> bool:
        """Whether it has a state at all."""
        return self.evolve is not nothing_to_remember

    def fold(self, happened: Sequence[Happened], state: State = None) -> State:
        """The state of a subject after these events, which are all about it."""
        for each in happened:
            state = self.evolve(state, each)
        return state

    def caused_by(self, happened: Happened, state: State) -> Sequence[Intent]:
        """What an event causes, if it is not too old for that."""
        if self.since is not None and happened.recorded_at < self.since:
            return ()
        return self.react(happened, state)

    def after(self, *happened: Happened) -> Sequence[Intent]:
        """What the last of these events causes, all of which are about one subject: for tests."""
        return self.caused_by(happened[-1], self.fold(happened))
