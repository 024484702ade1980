"""Starts processes as forks of one that has imported everything: the template.

Nine tenths of what a service's start costs is importing, and most of the memory that it needs is
what it has imported. A fork of a process that has done so starts in a twentieth of the time and
shares that memory with the others.

The template is itself a fork of the supervisor, of the moment before that had a thread. It ends
when its supervisor does; what was forked from it goes on without it. `forks` is what happens there.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from contextlib import closing, suppress
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from types import TracebackType
from typing import IO, Self

from codebase.embedded.forks import ENDED, Main, Order, follow_orders

UNSEEN_EXIT_CODE = 255
"""Of a process that ended when its parent, the template, was no longer there to see it."""


class Forked:
    """A fork as its supervisor sees it: what of `subprocess.Popen` is used here.

    Args:
        process_id: of the process, which leads a session of its own.
        stderr: where its standard output and error arrive.
        reports: where its end is reported.
    """

    def __init__(self, process_id: int, stderr: IO[bytes], reports: Connection) -> None:
        self.pid = process_id
        self.stderr = stderr
        self.returncode: int | None = None
        self._reports = reports
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended: minus the signal's number if one killed it.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if self.returncode is None and not self._reports.poll(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        with self._reading:
            if self.returncode is None:
                self.returncode = self._reported()
        return self.returncode

    def _reported(self) -> int:
        try:
            _, code = self._reports.recv()
        except EOFError:
            # The process held the other end, and so did the template: both are gone.
            return UNSEEN_EXIT_CODE
        return int(code)


class Template:
    """A process to fork others from; it is there inside `with`."""

    def __init__(self, main: Main) -> None:
        """Fork the template; the caller has no thread, and nothing open that no service may have.

        Raises:
            SystemExit: in the template and in its forks, at their end.
        """
        if threading.active_count() > 1:
            raise AssertionError("the template is forked before there are threads")
        # A collector that went through what is there now would have it copied, in each process.
        gc.collect()
        gc.freeze()
        self._control, orders = Pipe()
        self._process_id = os.fork()
        if self._process_id == 0:
            self._control.close()
            sys.exit(follow_orders(orders, main))
        orders.close()

    def __enter__(self) -> Self:
        """Return the template itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the template, and nothing that was forked from it."""
        self._control.close()
        os.waitpid(self._process_id, 0)

    def fork(self, order: Order, guardian: int) -> Forked | None:
        """Start a process; None when the template is gone.

        Args:
            order: what it is to become.
            guardian: the pipe by which it is registered with the guardian.

        Raises:
            OSError: it ended before it was registered.
        """
        reports, report = Pipe()
        read_end, output = os.pipe()
        with os.fdopen(output, "wb"), closing(report):
            handed_over = self._hand_over(order, guardian, output, report.fileno())
        stderr = os.fdopen(read_end, "rb")
        if handed_over and (process_id := _started(reports, stderr)) is not None:
            return Forked(process_id, stderr, reports)
        stderr.close()
        return None

    def _hand_over(self, order: Order, *descriptors: int) -> bool:
        """Send an order to the template; False when it is gone."""
        try:
            self._control.send(order)
            for descriptor in descriptors:
                send_handle(self._control, descriptor, self._process_id)
        except OSError:
            return False
        return True


def _started(reports: Connection, stderr: IO[bytes]) -> int | None:
    """The id of a process once it is registered; None when the template ended before it forked.

    Raises:
        OSError: the process ended before.
    """
    try:
        state, number = reports.recv()
    except EOFError:
        return None
    if state == ENDED:
        with stderr:
            said = stderr.read().decode(errors="replace")
        raise OSError(f"exit code {number}: {said}")
    return int(number)
