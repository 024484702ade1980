"""Copies a log event by event, from wherever the target is; everything is committed as it goes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from codebase.engine.log.reading import read_heads
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Aggregate
from codebase.operations.log_copy.ends import is_closed, open_ends, prepare_target
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.log_copy.rows import read_rows, write_rows
from codebase.operations.log_copy.switch import (
    check_counts,
    check_writers,
    close_source,
    take_over,
)
from codebase.operations.log_copy.through import Rewrite, Through
from codebase.operations.terminal import Advance, Progress, no_progress

BATCH = 2_000
"""Events per transaction: some tens of milliseconds, and a snapshot is no older than that."""


@dataclass(kw_only=True)
class Copied:
    """What a run did.

    Args:
        events: how many it has copied.
        rewritten: how many of them are others now.
        heads: partition -> how far the target goes.
        finished: whether the target is the log from now on.
    """

    events: int = 0
    rewritten: int = 0
    heads: Mapping[int, int] = field(default_factory=dict)
    finished: bool = False

    def sentence(self) -> str:
        """For people."""
        reached = ", ".join(f"{part}:{head}" for part, head in sorted(self.heads.items()))
        done = f"{self.events} events copied, {self.rewritten} of them rewritten, up to {reached}"
        if self.finished:
            return f"{done}; the target is the log from now on, and this one is closed"
        return f"{done}; the target is closed until --finish"


def copy_log(
    settings: Settings,
    target_url: str,
    aggregates: Sequence[Aggregate[Any, Any, Any]],
    *,
    rewrite: Rewrite | None = None,
    finish: bool = False,
    follow: threading.Event | None = None,
    progress: Progress = no_progress,
) -> Copied:
    """Copy what the target lacks of the log.

    Args:
        settings: needs the write model's reader; its owner to finish.
        target_url: of the owner of a write model that is migrated, and empty or a copy.
        aggregates: whose streams the log may hold.
        rewrite: what every event goes through; None: it stays as it is.
        finish: close the log, copy the rest and what stands beside it, and open the target.
        follow: go on with what is appended, until this is set.
        progress: shown how far the events have been gone through.

    Raises:
        CopyError: it cannot be done, or an event cannot be copied; what was copied stays.
        ConfigurationError: an address is missing.
        psycopg.Error: a store is away or refuses.
    """
    address = "write_model_owner_url" if finish else "write_model_reader_url"
    with open_ends(settings.required(address), target_url) as (source, target):
        through = Through(rewrite, aggregates) if rewrite else None
        copy = _Copy(source, target, through)
        if not prepare_target(source, target):
            return copy.finished_before(finish=finish)
        if finish:
            check_writers(source)
        copy.lap(progress)
        if finish:
            copy.finish()
        while follow is not None and not follow.wait(settings.idle_poll_seconds):
            copy.lap(no_progress)
        return copy.outcome


class _Copy:
    def __init__(
        self, source: Connection[Any], target: Connection[Any], through: Through | None
    ) -> None:
        self._source = source
        self._target = target
        self._through = through
        self.outcome = Copied()

    def lap(self, progress: Progress) -> None:
        """Copy up to where the source is at the beginning."""
        goal, reached = read_heads(self._source), read_heads(self._target)
        with progress(sum(goal.values()) - sum(reached.values())) as advance:
            for partition, head in goal.items():
                self._copy_partition(partition, reached[partition], head, advance)
        self.outcome.heads = goal

    def _copy_partition(self, partition: int, after: int, until: int, advance: Advance) -> None:
        while after < until:
            rows = read_rows(self._source, partition, after=after, until=until, limit=BATCH)
            written = [self._through.row(row) for row in rows] if self._through else rows
            unchanged = [new.position for old, new in zip(rows, written, strict=True) if new is old]
            write_rows(self._source, self._target, written, unchanged)
            after = rows[-1].position
            self.outcome.events += len(rows)
            self.outcome.rewritten += len(rows) - len(unchanged)
            advance(len(rows))

    def finish(self) -> None:
        """The switch. What takes long was done before, or is done by `verify` after it."""
        check_counts(self._target, self.outcome.heads)
        close_source(self._source)
        self.lap(no_progress)
        take_over(self._source, self._target)
        self.outcome.finished = True

    def finished_before(self, *, finish: bool) -> Copied:
        """The same answer again, for whoever has not heard it.

        Raises:
            CopyError: there is nothing to be copied any more, or both logs take events.
        """
        if not is_closed(self._source):
            raise CopyError(
                "the target takes events already, and so does this log: where nobody works,"
                " SELECT close_log()"
            )
        if not finish:
            raise CopyError("this copy is finished: the target takes events, and this log does not")
        return Copied(heads=read_heads(self._target), finished=True)
