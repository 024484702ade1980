"""Which messages tell the truth about the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from codebase.engine.projections.feed import Delivery
from codebase.engine.projections.logged_events import LoggedEvent


class NoticeCheck:
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

    def open_within(self, after: int, until: int) -> Collection[int]:
        """The positions that they speak of, as far as they are between these."""
        return [position for position in self._open if after < position <= until]

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
