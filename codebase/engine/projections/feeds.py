"""What tells a projector that there may be something new in the log."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from codebase.engine.projections.projection import LoggedEvent
from codebase.foundation.backoff import Rests


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What a message says of itself: this event stands at this place in the log."""

    partition: int
    position: int
    stream_id: UUID
    event_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A message that waits for its acknowledgement.

    `notice` is None when the message could not be read; `problem` then says why.
    `connection` and `tag` tell the feed which message it is.
    """

    connection: int
    tag: int
    routing_key: str
    body: bytes
    notice: Notice | None
    problem: str | None = None


class Feed(Protocol):
    """Where a projector's worker rests until there may be something to do."""

    def open(self) -> None:
        """The log is the one that the settings speak of: from now on, listen."""

    def take(self, *, found: bool) -> Sequence[Delivery]:
        """Wait for messages; none means: look at the log.

        Args:
            found: whether the last look at the log found events.
        """

    def settle(self, taken: Sequence[Delivery], rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Acknowledge `taken`, whose effect is committed; dead-letter `rejected` with reasons."""

    def wake(self) -> None:
        """End a wait in `take`, because the worker is asked to stop."""


class LogFeed:
    """No broker: the log is polled, quickly while there is work and slowly when idle.

    Args:
        stop: ends a rest.
        idle_poll_seconds: the longest rest.
    """

    def __init__(self, stop: threading.Event, idle_poll_seconds: float) -> None:
        self._stop = stop
        self._rests = Rests(idle_poll_seconds)

    def open(self) -> None:
        """There is nothing to listen to."""

    def take(self, *, found: bool) -> Sequence[Delivery]:
        """Rest, then say: look at the log."""
        rest = self._rests.after(found=found)
        if rest:
            self._stop.wait(rest)
        return ()

    def settle(self, taken: Sequence[Delivery], rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Nothing was taken, so nothing is owed."""

    def wake(self) -> None:
        """The stop event ends the rest."""


class Verdicts:
    """Which of the messages taken tell the truth.

    A message for a position that is projected already is a repeat, whatever it says.
    """

    def __init__(self, taken: Sequence[Delivery], partition: int, checkpoint: int) -> None:
        self.rejected: list[tuple[Delivery, str]] = []
        self._open: dict[int, list[Delivery]] = {}
        for delivery in taken:
            notice = delivery.notice
            if notice is None:
                self.rejected.append((delivery, delivery.problem or "unreadable"))
            elif notice.partition != partition:
                self.rejected.append((delivery, f"not an event of partition {partition}"))
            elif notice.position > checkpoint:
                self._open.setdefault(notice.position, []).append(delivery)

    @property
    def open(self) -> bool:
        """Whether there are messages that the log has not been asked about."""
        return bool(self._open)

    def judge(self, events: Sequence[LoggedEvent]) -> None:
        """Compare messages with what the log holds at their positions."""
        if not self._open:
            return
        for event in events:
            for delivery in self._open.pop(event.position, ()):
                self._compare(delivery, event)

    def _compare(self, delivery: Delivery, event: LoggedEvent) -> None:
        notice = delivery.notice
        assert notice is not None, "only readable messages are open"  # noqa: S101 - an invariant
        if notice.stream_id != event.stream_id:
            self.rejected.append((delivery, "the log holds another stream at this position"))
        elif str(notice.event_id) != event.event_id:
            self.rejected.append((delivery, "the log holds another event at this position"))

    def judge_the_rest(self) -> None:
        """The log ends before the positions that are still open."""
        for deliveries in self._open.values():
            self.rejected += [(each, "the log has no such position") for each in deliveries]
        self._open.clear()
