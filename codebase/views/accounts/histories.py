"""What the stream of an account or an agent comes to by the model's fold.

Every view of them has its expected rows made from this, so that `verify` compares what SQL made of
the events with what the model says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.model.accounts.account import ACCOUNT, Account, AccountClosed, AccountOpened
from codebase.model.accounts.account import Event as AccountEvent
from codebase.model.accounts.agent import AGENT, Agent, AgentCreated, AgentRemoved
from codebase.model.accounts.agent import Event as AgentEvent
from codebase.model.aggregate import Aggregate

Event = TypeVar("Event")
State = TypeVar("State")


@dataclass(frozen=True, kw_only=True, slots=True)
class History(Generic[Event, State]):
    """A stream from its first event on.

    Args:
        state: what the events come to.
        events: each with the time when the log recorded it, in UTC, in log order.
        ended_at: when the account was closed or the agent removed; None while it is there.
        version: that of the last event.
    """

    state: State
    events: Sequence[tuple[datetime, Event]]
    ended_at: datetime | None
    version: int

    @property
    def began_at(self) -> datetime:
        """When the account was opened or the agent created."""
        return self.events[0][0]


def account_history(
    recorded: Sequence[RecordedEvent],
) -> History[AccountEvent, Account] | None:
    """The history of an account; None when its opening was set aside."""
    return _history(ACCOUNT, recorded, AccountOpened, AccountClosed)


def agent_history(recorded: Sequence[RecordedEvent]) -> History[AgentEvent, Agent] | None:
    """The history of an agent; None when its creation was set aside."""
    return _history(AGENT, recorded, AgentCreated, AgentRemoved)


def _history(
    aggregate: Aggregate[Any, Event, State],
    recorded: Sequence[RecordedEvent],
    first: type[Event],
    last: type[Event],
) -> History[Event, State] | None:
    """None without the first event: nothing follows from the rest."""
    events = [(row.recorded_at, decode(row, aggregate)) for row in recorded]
    if not events or not isinstance(events[0][1], first):
        return None
    state = aggregate.fold([event for _, event in events])
    assert state is not None, "it has begun"  # noqa: S101 - an invariant
    ends = [at for at, event in events if isinstance(event, last)]
    return History(
        state=state,
        events=events,
        ended_at=ends[0] if ends else None,
        version=recorded[-1].version,
    )
