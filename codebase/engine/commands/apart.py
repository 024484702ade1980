"""Large batches are decided and written in a thread, so that the event loop goes on.

A command that takes a hundred thousand streams along is seconds of work: reading and folding them,
deciding, making parameters of what comes of it. In a thread all of that takes turns with the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from codebase.engine.commands.submission import Pending
from codebase.engine.commands.writer import Writer

LARGE = 1_000
"""Streams that go along: a tenth of a second, which is long for everybody else."""


async def write_apart(make_writer: Callable[[], Writer], batch: Sequence[Pending]) -> list[Pending]:
    """Answer the commands of a batch, as `Writer.write` does, by a writer in a thread.

    Args:
        make_writer: called there: it shares neither its connection nor what it knows of streams.
        batch: whose outcomes belong to the running loop, and are set by it.
    """
    there = await asyncio.to_thread(lambda: asyncio.run(_write(make_writer, batch)))
    overtaken = []
    for pending, twin in zip(batch, there, strict=True):
        pending.attempts = twin.attempts
        if not twin.outcome.done():
            overtaken.append(pending)
            continue
        try:
            pending.answer(twin.outcome.result())
        except Exception as error:  # noqa: BLE001 - it belongs to who sent the command
            pending.refuse(error)
    return overtaken


async def _write(make_writer: Callable[[], Writer], batch: Sequence[Pending]) -> list[Pending]:
    loop, writer = asyncio.get_running_loop(), make_writer()
    twins = [Pending(each.submission, loop.create_future(), each.attempts) for each in batch]
    try:
        await writer.write(twins)
    finally:
        await writer.close()
    return twins
