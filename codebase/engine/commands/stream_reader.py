"""Reads what a round of commands needs to know of its streams, however long they are.

A long stream costs what a short one costs: its state is kept, so that only what came since is read;
keys are found by an index; and an answer of long ago is folded from the milestone before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from codebase.engine.commands.fresh_streams import FreshStreams
from codebase.engine.commands.history import History, read_on
from codebase.engine.commands.log_connection import LogConnection, LogStanding
from codebase.engine.commands.long_streams import LongStreams
from codebase.engine.commands.submission import Submission
from codebase.engine.log.keys import read_keys
from codebase.engine.log.reading import read_streams
from codebase.model.aggregate import Aggregate

ROWS_PER_PAGE = 500
"""Events that are read and folded at a time; others have their turn in between."""
STREAMS_PER_PAGE = 50
"""Of so many streams at a time, which share the rows; most end within their part."""
COMMAND_EVENTS = 16
"""More than this many events are seldom one command's in one stream."""

Aggregates = Mapping[str, Aggregate[Any, Any, Any]]
Streams = dict[UUID, History]


class StreamReader:
    """Reads streams, and keeps of the long ones what need not be read again.

    One is shared by everybody who writes for a bus: what one of them has read the others know.

    Args:
        standing: of the log that they are in.
    """

    def __init__(self, standing: LogStanding) -> None:
        self._long = LongStreams()
        self.fresh = FreshStreams(standing)

    async def read(
        self,
        log: LogConnection,
        wanted: Iterable[UUID],
        submissions: Sequence[Submission],
        aggregates: Aggregates,
    ) -> Streams:
        """The histories of streams, with all that the commands at hand can ask of them.

        Args:
            log: where they are read.
            wanted: the streams.
            submissions: the commands at hand.
            aggregates: category -> its aggregate, of all that they are about.

        Raises:
            ServiceUnavailable: the log did not answer in time.
        """
        streams = {stream_id: self._long.history(stream_id) for stream_id in wanted}
        await self._read_on(log, streams, aggregates)
        # Afterwards: a command that was noted meanwhile is found, whatever came after it.
        await _find_keys(log, streams, submissions)
        for submission in submissions:
            history = streams.get(submission.stream_id)
            version = history.asked_of(submission) if history else None
            if history and version:
                await _recall(log, submission.stream_id, history, version, aggregates)
        return streams

    async def _read_on(self, log: LogConnection, streams: Streams, aggregates: Aggregates) -> None:
        """Read all of the streams to their ends, page by page."""
        waiting = deque(streams)
        while waiting:
            page = [waiting.popleft() for _ in range(min(len(waiting), STREAMS_PER_PAGE))]
            limit = ROWS_PER_PAGE // len(page)
            # The last event that is known is read again, to be sure that this is still its log.
            since = {stream_id: max(streams[stream_id].version, 1) for stream_id in page}
            pages = await log.do(partial(read_streams, since=since, limit=limit))
            for stream_id, rows in pages.items():
                history = streams[stream_id]
                if not history.is_continued_by(rows):
                    self._long.forget(stream_id)
                    streams[stream_id] = History()
                    waiting.append(stream_id)
                    continue
                read_on(history, rows[1:] if history.version else rows, aggregates)
                self._long.keep(stream_id, history)
                if len(rows) == limit and history.is_open:
                    waiting.append(stream_id)


async def _find_keys(
    log: LogConnection, streams: Streams, submissions: Sequence[Submission]
) -> None:
    """Tell the histories of the commands that were sent before with the same keys."""
    keys = {
        (submission.stream_id, submission.actor.name, submission.idempotence_key)
        for submission in submissions
        if submission.idempotence_key is not None and not submission.creates
    }
    if not keys:
        return
    for sent in await log.do(partial(read_keys, keys=list(keys))):
        history = streams[sent.stream_id]
        history.hear_of(sent.version)
        if sent.noted is None:
            history.keys.setdefault((sent.client, sent.idempotence_key, False), sent.version)
        else:
            history.notes[sent.client, sent.idempotence_key] = sent.noted, sent.version


async def _recall(
    log: LogConnection,
    stream_id: UUID,
    history: History,
    version: int,
    aggregates: Aggregates,
) -> None:
    """Read again what a repeat is answered with, if it is no longer there."""
    if history.milestones is None or history.category not in aggregates or not history.is_open:
        return
    milestone, state = history.milestones.before(version)
    past = History(category=history.category, version=milestone, states={milestone: state})
    while not history.behind and not history.tells(version):
        limit = min(ROWS_PER_PAGE, max(version - past.version, 0) + COMMAND_EVENTS)
        since = {stream_id: past.version + 1}
        rows = (await log.do(partial(read_streams, since=since, limit=limit)))[stream_id]
        read_on(past, rows, aggregates)
        # The log was restored this very moment: look at all of it again.
        history.behind = not rows or not past.is_open
        history.remember(past)
