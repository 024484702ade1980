"""Inside the template: forks itself for each order, and reports how each fork ended.

One thread, one loop. Until a fork becomes a service it has no thread, no event loop and no
connection, because none of these survives being forked.

For each fork there is a pair of connected sockets between it and the supervisor. The fork itself
reports ("started", its process id), the template, which is its parent, ("ended", its exit code).
Both hold their end: the supervisor reads the end of the file only when neither is there any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import recv_handle
from pathlib import Path

from setproctitle import setproctitle

TEMPLATE_TITLE = "orderly: what services are forked from"
STARTED, ENDED = "started", "ended"

Main = Callable[[Sequence[str]], int]
"""What a fork runs: gets arguments, returns the exit status."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a fork is to become."""

    arguments: Sequence[str]
    title: str
    """What `ps` shows."""
    environment: Mapping[str, str]
    """All of it: nothing is left of the supervisor's."""
    directory: Path
    how_to_end: Sequence[str]
    """What the guardian is told."""


@dataclass(frozen=True, kw_only=True)
class _Received:
    """An order, and what the supervisor sent along."""

    order: Order
    guardian: int
    output: int
    report: Connection

    def close(self) -> None:
        """Close what only the fork needs."""
        os.close(self.guardian)
        os.close(self.output)


@dataclass(frozen=True, kw_only=True)
class _Child:
    """A fork that runs."""

    process_id: int
    report: Connection

    def report_end(self) -> None:
        """Wait for the end of a process that is ending, and report it."""
        _, status = os.waitpid(self.process_id, 0)
        # The supervisor may be gone, and nobody else wants to know.
        with suppress(OSError):
            self.report.send((ENDED, os.waitstatus_to_exitcode(status)))
        self.report.close()


def follow_orders(orders: Connection, main: Main) -> int:
    """Fork for each order until the supervisor is gone.

    Returns:
        The exit status: of the template, or in a fork that of `main`.
    """
    # Ctrl-C in a terminal is for the supervisor, which then ends everything in order.
    os.setsid()
    # What the shell said is for the supervisor; each fork gets an environment of its own. The title
    # is written over the one that we were started with, which /proc would show of us and of forks.
    setproctitle(TEMPLATE_TITLE)
    os.environ.clear()
    children: dict[Connection, _Child] = {}
    while (received := _next_order(orders, children)) is not None:
        # It closes when the fork ends, for whatever reason: the kernel sees to that.
        alive, held = Pipe(duplex=False)
        process_id = os.fork()
        if process_id == 0:
            _close_all(orders, alive, *children, *(child.report for child in children.values()))
            return _become(received, main)
        held.close()
        received.close()
        children[alive] = _Child(process_id=process_id, report=received.report)
    return 0


def _next_order(orders: Connection, children: dict[Connection, _Child]) -> _Received | None:
    """Report the ends of children until there is an order; None when there will be none."""
    while True:
        for ready in wait([orders, *children]):
            if ready is orders:
                return _receive(orders)
            children.pop(ready).report_end()  # type: ignore[call-overload] # of ours


def _receive(orders: Connection) -> _Received | None:
    try:
        order = orders.recv()
        guardian, output, report = (recv_handle(orders) for _ in range(3))
    except (EOFError, ConnectionResetError):
        return None
    return _Received(order=order, guardian=guardian, output=output, report=Connection(report))


def _close_all(*connections: Connection) -> None:
    for connection in connections:
        connection.close()


def _become(received: _Received, main: Main) -> int:
    """Be as if started by the supervisor, and run `main`."""
    order = received.order
    os.setsid()
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a file descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    for standard in (1, 2):
        os.dup2(received.output, standard)
    # First of all, so that there is no moment in which a killed supervisor could leave a process
    # that the guardian has not heard of: it reads this pipe until nobody can write to it.
    os.write(received.guardian, f"start {os.getpid()} {' '.join(order.how_to_end)}\n".encode())
    received.report.send((STARTED, os.getpid()))
    received.close()
    os.chdir(order.directory)
    os.environ.clear()
    os.environ.update(order.environment)
    setproctitle(order.title)
    return main(order.arguments)
