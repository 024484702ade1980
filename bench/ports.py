"""Loopback ports for servers that come and go, for measurements and for tests.

Between asking for a port and listening on it the port is anybody's. So each of the processes that
measure or test side by side has ports of its own, and whole embedded runs lie below all others.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from itertools import cycle

from codebase.embedded.local_stack import SERVER_PORTS
from codebase.registry import SYSTEM

PORTS = range(20_000, 32_000)
"""The kernel lends ports from 32768 on to outgoing connections."""
OFFSETS = range(1_000, 10_000)
"""With them the ports of an embedded run stay below those."""
PROCESSES_MAX = 8
BESIDE_A_RUN = (9777, 9778)
"""Of the services that README has started on the stores of an embedded run."""
EMBEDDED = [*SERVER_PORTS.values(), *SYSTEM.on_one_machine().values(), *BESIDE_A_RUN]
"""The ports of an embedded run without an offset, and of what is started beside it."""


class Ports:
    """The ports of one process.

    Args:
        process: which one, of at most eight at work beside each other.
    """

    def __init__(self, process: int = 0) -> None:
        own = process % PROCESSES_MAX
        self._ports = shuffled(PORTS[own::PROCESSES_MAX])
        self._offsets = cycle(shuffled(_apart()[own::PROCESSES_MAX]))

    def free_port(self) -> int:
        """One that nobody listens on, never the same twice."""
        while not is_free(port := self._ports.pop()):
            pass
        return port

    def free_offset(self) -> int:
        """A PORT_OFFSET with which nobody listens on a port of the embedded run."""
        return next(o for o in self._offsets if all(is_free(port + o) for port in EMBEDDED))


def shuffled(numbers: Collection[int]) -> list[int]:
    """The same, in no order: who tests beside another one on this machine begins elsewhere."""
    return random.SystemRandom().sample(list(numbers), len(numbers))


def is_free(port: int) -> bool:
    """Whether a server could listen on a port of loopback."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _apart() -> list[int]:
    """Offsets of embedded runs no two of which have a port in common."""
    offsets, taken = list[int](), set[int]()
    for offset in OFFSETS:
        ports = {port + offset for port in EMBEDDED}
        if taken.isdisjoint(ports):
            offsets.append(offset)
            taken |= ports
    return offsets
