"""Requests that wait for what becomes of their transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from codebase.engine.commands.submission import Outcome
from codebase.model.payments.transaction import DECIDED


class Waiting:
    """Wakes whoever waits when this process hears how a transaction has ended."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, set[asyncio.Future[Outcome]]] = {}

    def hear(self, outcome: Outcome) -> None:
        """A step was taken; on the event loop."""
        if outcome.state is None or outcome.state.status not in DECIDED:
            return
        for one in self._waiting.get(outcome.stream_id, ()):
            if not one.done():
                one.set_result(outcome)

    @contextmanager
    def for_end_of(self, transaction_id: UUID) -> Iterator[asyncio.Future[Outcome]]:
        """Whatever is heard from now on, until this is left."""
        mine: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(transaction_id, set()).add(mine)
        try:
            yield mine
        finally:
            others = self._waiting[transaction_id]
            others.discard(mine)
            if not others:
                del self._waiting[transaction_id]
