"""What tells a projector that there may be something new in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


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
