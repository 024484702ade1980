"""Tasks that work beside everything else: whoever ends by a bug says so, and is missing.

asyncio tells of a failure when somebody waits for the task, or forgets it. Nobody does either with
one that is to work for as long as the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

from codebase.foundation.observability import logs

_MISSING: WeakSet[asyncio.Task[Any]] = WeakSet()
"""Those that have failed, for as long as somebody counts on them."""


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Have `work` done while this lasts; it is cancelled on leaving, if it has not ended."""
    task = keep_working(asyncio.create_task(work, name=name))
    try:
        yield
    finally:
        task.cancel()
        try:
            await asyncio.gather(task, return_exceptions=True)
        finally:
            let_go(task)


def keep_working(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """The same task; should it fail, the log says why, and the process is not ready any more.

    That is so until it is let go, or forgotten: nobody else will do its work.
    """
    task.add_done_callback(_note_missing)
    return task


def let_go(task: asyncio.Task[Any]) -> None:
    """Nobody counts on it any more, and it has ended."""
    _MISSING.discard(task)


def tell_of_failure(task: asyncio.Task[Any]) -> None:
    """Log what a task has failed of: a callback for one whose work others will do again."""
    error = _failure_of(task)
    if error is not None:
        logs.error("background_task_failed", error=error, task=task.get_name())


def _failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """What it has ended by, unless somebody asked it to end."""
    if not task.cancelled():
        return task.exception()
    # Otherwise it was something that it waited for.
    return None if task.cancelling() else asyncio.CancelledError()


def _note_missing(task: asyncio.Task[Any]) -> None:
    tell_of_failure(task)
    if _failure_of(task) is not None:
        _MISSING.add(task)


async def background() -> str | None:
    """None while all are at work that should be, otherwise who is missing: a check."""
    names = sorted(task.get_name() for task in _MISSING)
    return f"ended by a failure, see the log: {', '.join(names)}" if names else None
