"""What each process of a service has counted, where the others find it.

Each writes a file of its own now and then, and before it tells what it has read in all of them. So
what anybody was told stays in a file, and no counter ever goes back. Who takes the place of a
process that has died goes on from what that one had counted; at most what it had not yet written
is lost.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client.metrics_core import Metric

from codebase.foundation.background import in_background
from codebase.foundation.observability.figures import (
    decoded,
    encoded,
    together,
    what_was_counted,
)
from codebase.foundation.standing import Standing

PUBLISH_SECONDS = 1.0

Source = Callable[[], Awaitable[Iterable[Metric]]]


async def nothing() -> Iterable[Metric]:
    """What is told before there is somebody who counts."""
    return ()


class SharedFigures:
    """The figures of one process, and those of all.

    Args:
        folder: which the processes of one service share.
        number: whose place among them it has, from 1 on.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._file = folder / f"{number}.json"
        self._standing = Standing("operating_system", "share figures")
        self.source: Source = nothing
        """Tells what this process has counted, and how it is."""
        self._before = what_was_counted(_read(self._file))

    def bury(self) -> None:
        """Keep what the process, which is gone, had counted, and nothing else."""
        self._write(self._before)

    def taken_with(self, families: Iterable[Metric]) -> list[Metric]:
        """Let the others know what this process tells; what all of them do."""
        own = self._publish(families)
        others = sorted(set(self._folder.glob("*.json")) - {self._file})
        return together([own, *map(_read, others)])

    @asynccontextmanager
    async def published(self) -> AsyncIterator[None]:
        """Inside, and once more at the end, the others are told what `source` tells."""
        try:
            async with in_background(self._publish_for_ever(), "figures"):
                yield
        finally:
            self._publish(await self.source())

    async def _publish_for_ever(self) -> None:
        while True:
            self._publish(await self.source())
            await asyncio.sleep(PUBLISH_SECONDS)

    def _publish(self, families: Iterable[Metric]) -> list[Metric]:
        own = together([self._before, families])
        try:
            self._write(own)
        except OSError as error:
            self._standing.failed(os.strerror(error.errno or 0), error)
        else:
            self._standing.succeeded()
        return own

    def _write(self, families: Iterable[Metric]) -> None:
        # Renamed into its place, so that nobody reads half of it, whenever we are killed.
        new = self._file.with_suffix(".new")
        new.write_bytes(encoded(families))
        new.replace(self._file)


def _read(file: Path) -> list[Metric]:
    """What one process told; nothing before it has."""
    try:
        return decoded(file.read_bytes())
    except FileNotFoundError:
        return []
