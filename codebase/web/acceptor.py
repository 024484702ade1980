"""Taking connections off a listening socket, as long as there are descriptors for them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from codebase.foundation.standing import Standing

BACKLOG = 2048
ACCEPTED_AT_ONCE = 100
"""So many, and then it is the turn of those who are connected."""
PAUSE_SECONDS = 1.0
"""After one that there was no room for: the socket would say again at once that somebody waits."""
NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts connections, and pauses while the process has no descriptor for another one.

    The event loop's own server closes what it has no descriptor for. When it has lost the one that
    it keeps for that it tries again without a rest, and it tells nobody of either. Here whoever
    cannot be taken waits in the kernel's queue, and the log says so.

    Args:
        listener: bound and not blocking; whoever made it closes it.
        new_protocol: makes the protocol of a connection.
    """

    def __init__(
        self, listener: socket.socket, new_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listener = listener
        self._new_protocol = new_protocol
        self._loop = asyncio.get_running_loop()
        self._standing = Standing("operating_system", "accept connections")
        self._pause: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Begin to accept."""
        self._listener.listen(BACKLOG)
        self._resume()

    def close(self) -> None:
        """Accept nobody any more."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                # Nobody waits any more.
                self._standing.succeeded()
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._rest(error)
                return
            self._connect(connection)

    def _rest(self, error: OSError) -> None:
        if error.errno not in NO_ROOM:
            raise error
        self._standing.failed(os.strerror(error.errno), error)
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the standard library's own
        connecting = self._loop.create_task(
            self._loop.connect_accepted_socket(self._new_protocol, connection)
        )
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)


async def descriptors() -> str | None:
    """None while another file or connection can be opened, otherwise why not: a check."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.strerror
    return None
