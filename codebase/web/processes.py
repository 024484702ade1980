"""Several processes that share one port: forked here, started again, and ended together.

The parent answers nobody and passes nothing on: each process listens for itself, and the kernel
deals connections out among them. They are forked before the parent has a thread or a connection,
none of which would survive that, and share the memory of what it has imported. `embedded.template`
forks in the same way, on the orders of a supervisor that has threads; this parent has none, and is
its own template.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

from setproctitle import getproctitle, setproctitle

from codebase.foundation.backoff import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    doubled,
    with_jitter,
)
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.foundation.worker import end_process
from codebase.web.runtime import AFTER_DRAIN_SECONDS
from codebase.web.server import STOP_SIGNALS, bound
from codebase.web.shared_figures import SharedFigures

DONE, FAILED, MISUSED = range(3)
"""Exit statuses; starting again is no help against the last."""
ENDED_IN_ORDER = frozenset({DONE, -signal.SIGTERM})
"""The second: it was told to end before it had begun."""
HEARD = frozenset({*STOP_SIGNALS, signal.SIGCHLD})
STEADY_SECONDS = 60.0
"""A process that lived this long starts with the shortest pause again."""
TO_LEAVE_SECONDS = 0.2

Become = Callable[[SharedFigures], int]
"""What a process does: is told where figures are shared, returns the exit status."""


@dataclass
class _Place:
    """One of the processes, or where one has been."""

    number: int
    process: BaseProcess | None = None
    failures: int = 0
    since: float = 0.0
    """When the process that is there was started, or another one is to be."""


class Processes:
    """As many processes as `settings.service_processes` says.

    Args:
        settings: how many, on which address, and how long they may take to end.
        port: that they share.
        become: what each of them does.
    """

    def __init__(self, settings: Settings, port: int, become: Become) -> None:
        self._settings = settings
        self._port = port
        self._become = become
        self._places = [_Place(number + 1) for number in range(settings.service_processes)]
        self._context = multiprocessing.get_context("fork")
        self._alive, self._held = Pipe(duplex=False)

    def run(self) -> int:
        """Keep them running until SIGTERM or SIGINT, then end them all.

        Returns:
            The exit status: DONE when all have ended in order, MISUSED when one cannot be started
            as it is configured.

        Raises:
            ConfigurationError: the port cannot be had, or connections cannot be dealt out here.
        """
        _require_linux()
        if threading.active_count() > 1:
            raise AssertionError("processes are forked before there are threads")
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        with tempfile.TemporaryDirectory(prefix="orderly-figures-") as folder:
            self._folder = Path(folder)
            with _reserved(self._settings.listen_address, self._port):
                # A collector that went through what is there now would have it copied in each.
                gc.collect()
                gc.freeze()
                status = self._keep_running()
            return self._end(status)

    def _keep_running(self) -> int:
        """Start what is not there, until there is a signal; the status as far as it is known."""
        while True:
            for place in self._places:
                if self._look_after(place) == MISUSED:
                    return MISUSED
            heard = signal.sigtimedwait(HEARD, self._seconds_to_next_start())
            if heard is not None and heard.si_signo in STOP_SIGNALS:
                return DONE

    def _seconds_to_next_start(self) -> float:
        now = time.monotonic()
        waits = [place.since - now for place in self._places if place.process is None]
        return max(0.0, min(waits, default=STEADY_SECONDS))

    def _look_after(self, place: _Place) -> int | None:
        """Start a process where there is none; the exit code of one that has ended."""
        code = place.process.exitcode if place.process is not None else None
        if code is not None:
            self._note_end(place, code)
        elif place.process is None and place.since <= time.monotonic():
            self._start(place)
        return code

    def _note_end(self, place: _Place, code: int) -> None:
        now = time.monotonic()
        if now - place.since > STEADY_SECONDS:
            place.failures = 0
        pause = with_jitter(doubled(FIRST_PAUSE_SECONDS, place.failures, LONGEST_PAUSE_SECONDS))
        place.process, place.since = None, now + pause
        place.failures += 1
        SharedFigures(self._folder, place.number).bury()
        logs.warning(
            "process_ended", number=place.number, exit_code=code, again_in_seconds=round(pause, 3)
        )

    def _start(self, place: _Place) -> None:
        # Daemons, so that none is waited for should this process end by a mistake of ours.
        place.process = self._context.Process(target=self._be, args=(place.number,), daemon=True)
        place.process.start()
        place.since = time.monotonic()
        logs.info("process_started", number=place.number, process_id=place.process.pid)

    def _be(self, number: int) -> None:
        """In the new process."""
        self._held.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        setproctitle(f"{getproctitle()} ({number} of {len(self._places)})")
        _end_with_parent(self._alive)
        sys.exit(self._become(SharedFigures(self._folder, number)))

    def _end(self, status: int) -> int:
        """Have all of them drain, and kill whoever does not end in time."""
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        seconds = self._settings.drain_seconds + AFTER_DRAIN_SECONDS + TO_LEAVE_SECONDS
        deadline = time.monotonic() + seconds
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
        codes = [process.exitcode for process in running]
        logs.info("processes_ended", exit_codes=codes)
        return status if ENDED_IN_ORDER.issuperset(codes) else max(status, FAILED)


def _require_linux() -> None:
    if sys.platform != "linux":
        # Others have SO_REUSEPORT and give all connections to one process, or cannot fork safely.
        raise ConfigurationError("several processes share a port on Linux only: start one")


def _reserved(host: str, port: int) -> socket.socket:
    """The port, for processes of this parent only; it does not listen.

    Others who say that they share it would be let in while ours do not listen yet, and when they
    do by mistake nobody would notice. So it is bound as if for one, and shared from then on.

    Raises:
        ConfigurationError: somebody else has the port, or there is no such address.
    """
    reservation = bound(host, port, shared=False)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return reservation


def _end_with_parent(alive: Connection) -> None:
    """Have this process end in order when its parent is gone, for whatever reason.

    Args:
        alive: of a pipe to which the parent alone holds the other end, and writes nothing.
    """

    def wait() -> None:
        alive.poll(None)
        end_process()

    threading.Thread(target=wait, name="parent", daemon=True).start()
