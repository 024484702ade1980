"""Events as the command bus would append them, without a bus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.history import History
from codebase.engine.commands.round import Round
from codebase.engine.commands.submission import Pending, Submission
from codebase.engine.log.events import NewEvent

FINGERPRINTS = Fingerprints({"bench": bytes(32)})


def new_events(
    submissions: Sequence[Submission],
    histories: dict[UUID, History] | None = None,
    partitions: int = 1,
) -> list[NewEvent]:
    """What the commands come to, one after the other.

    Args:
        submissions: none of them is refused.
        histories: of streams that are not empty. What the commands do to these is added.
        partitions: how many the log has.
    """
    # Nothing waits for anything: the loop is there because a pending command has a future.
    loop = asyncio.new_event_loop()
    try:
        pending = [Pending(each, loop.create_future()) for each in submissions]
        return Round(pending, histories or {}, partitions, FINGERPRINTS).new_events
    finally:
        loop.close()
