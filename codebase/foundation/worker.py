"""Threads that work until they are told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context

logger = logging.getLogger(__name__)


def end_process() -> None:
    """Ask this process to end in order; whoever supervises it starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)


class Worker:
    """One thread around one function that returns soon after its `stop` event is set.

    What can go wrong outside (a database, a broker) is the function's business: it pauses and
    tries again. An exception that leaves it is a bug: it is logged, `problem` tells of it, and
    `on_crash` is called, which ends the process, because a process that no longer does its work
    but looks alive is worse than one that is started again; not once it was asked to stop.

    Args:
        name: of the thread, seen in logs.
        work: called in the thread.
        stop: shared with whatever else stops at the same time; None: an event of its own.
        wake: called after the stop event was set, to end a wait on something else.
        on_crash: called in the thread after `work` raised.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[threading.Event], None],
        *,
        stop: threading.Event | None = None,
        wake: Callable[[], None] = lambda: None,
        on_crash: Callable[[], None] = end_process,
    ) -> None:
        self.name = name
        self._work = work
        self._on_crash = on_crash
        self._stop = stop or threading.Event()
        self._wake = wake
        self._crash: BaseException | None = None
        # A daemon, so that a thread stuck in a system call cannot keep the process alive.
        # In the context that it is made in, so that what it logs is said by the same service.
        work_here = copy_context().run
        self._thread = threading.Thread(target=work_here, args=(self._run,), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; a worker is started once."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Set the stop event and return at once."""
        self._stop.set()
        self._wake()

    def stop(self, deadline_seconds: float) -> bool:
        """Stop and wait for the thread to end.

        Returns:
            False when it had not ended after `deadline_seconds`.
        """
        self.ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline_seconds))
        return not self._thread.is_alive()

    @property
    def problem(self) -> str | None:
        """Why this worker does no work, or None while it does."""
        if self._crash is not None:
            return f"{self.name} crashed: {type(self._crash).__name__}"
        return None if self._thread.is_alive() else f"{self.name} is not running"

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except BaseException as error:
            self._crash = error
            logger.critical("%s crashed", self.name, exc_info=error)
            # Whoever asked it to stop need not be asked for the same.
            if not self._stop.is_set():
                self._on_crash()


class Team:
    """Workers that start and stop together.

    Args:
        workers: their threads.
        waiting_for: each tells what keeps it from working at the moment, or None; called from
            other threads.
    """

    def __init__(
        self, workers: Sequence[Worker], waiting_for: Sequence[Callable[[], str | None]]
    ) -> None:
        self._workers = workers
        self._waiting_for = waiting_for

    def start(self) -> None:
        """Start every worker."""
        for worker in self._workers:
            worker.start()

    def stop(self, deadline_seconds: float) -> bool:
        """Stop all workers within one common deadline; False when one did not stop in time."""
        for worker in self._workers:
            worker.ask_to_stop()
        ends_at = time.monotonic() + deadline_seconds
        late = [each for each in self._workers if not each.stop(ends_at - time.monotonic())]
        for worker in late:
            logger.error("%s did not stop in time", worker.name)
        return not late

    @asynccontextmanager
    async def at_work(self, seconds_to_stop: Callable[[], float]) -> AsyncIterator[None]:
        """Started on entering, stopped on leaving, without blocking the event loop.

        Args:
            seconds_to_stop: how long stopping may take, asked when it begins. A thread that takes
                longer is left behind: it cannot keep the process, and its work bears an end at
                any point.
        """
        self.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop, seconds_to_stop())

    async def problem(self) -> str | None:
        """The first thing that keeps a worker from working, or None: a readiness check."""
        problems = (worker.problem for worker in self._workers)
        waits = (waiting_for() for waiting_for in self._waiting_for)
        return next((each for each in (*problems, *waits) if each), None)
