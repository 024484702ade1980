"""The life of a server: it listens, keeps time, and stops within bounds."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from codebase.foundation.background import in_background
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.web.acceptor import Acceptor
from codebase.web.protocol import BoundedProtocol

KEEP_ALIVE_SECONDS = 30
SWEEPS_PER_DEADLINE = 5
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class BoundedServer(uvicorn.Server):
    """A server that is started, swept and stopped by its caller, and leaves signals alone."""

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on `listener`."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        self.servers = []
        self._acceptor = Acceptor(listener, self._new_protocol)
        self._acceptor.open()

    def _new_protocol(self) -> BoundedProtocol:
        """As uvicorn makes it, for one connection."""
        return BoundedProtocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def keep_time(self, deadline_seconds: float) -> None:
        """Until cancelled: the Date header, and deadlines of clients."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, deadline_seconds / SWEEPS_PER_DEADLINE))
            await self.on_tick(0)
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.sweep(loop.time(), deadline_seconds)

    async def stop(self, listener: socket.socket) -> None:
        """Finish what is in flight, and cut off what does not finish in time."""
        self.should_exit = True
        self._acceptor.close()
        await self.shutdown(sockets=[listener])
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def config_of(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves an app: with our protocol, and nothing that it would add by itself."""
    return uvicorn.Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,  # type: ignore[arg-type] # a float will do
    )


def bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound socket that does not listen yet; port 0 takes any free one.

    Args:
        host: an IP address, or localhost.
        port: TCP port.
        shared: whether others of this user may have it too, who share it as well: the kernel gives
            each of those who listen its part of the connections.

    Raises:
        ConfigurationError: somebody else has the port, or there is no such address.
    """
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET  # noqa: PLR2004
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.settimeout(0)
    return listener


@asynccontextmanager
async def serving(app: ASGIApp, settings: Settings, port: int) -> AsyncIterator[int]:
    """A running server; on leaving, it drains.

    Args:
        app: what to serve.
        settings: the address to listen on, the deadlines of clients and of the drain.
        port: TCP port; 0 for any free one.

    Yields:
        The port.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    shared = settings.service_processes > 1
    listener = bound(settings.listen_address, port, shared=shared)
    server = BoundedServer(config_of(app, settings))
    await server.start(listener)
    taken: int = listener.getsockname()[1]
    mode = "tokens" if settings.api_tokens else "protected: no tokens, so loopback only"
    logs.info("listening", host=settings.listen_address, port=taken, mode=mode)
    try:
        async with in_background(server.keep_time(settings.client_deadline_seconds), "server time"):
            yield taken
    finally:
        await server.stop(listener)
        logs.info("stopped", port=taken)


async def serve(app: ASGIApp, settings: Settings, port: int) -> None:
    """Serve until SIGTERM or SIGINT: then stop accepting, finish what is in flight, return.

    Later signals change nothing: the drain is bounded, and so is what the caller still closes.

    Args:
        app: what to serve.
        settings: the address to listen on and the deadlines.
        port: TCP port.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with _on_signals(lambda: loop.call_soon_threadsafe(asked_to_stop.set)):
        async with serving(app, settings, port):
            await asked_to_stop.wait()
    if asked_to_stop.is_set():
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on uvloop; a signal that comes before it serves cancels it in order."""
    # A name server that hangs would hold up the end of the process: nothing can cancel the C
    # library's look-up, and closing the loop waits for it.
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:1")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        with _on_signals(lambda: loop.call_soon_threadsafe(task.cancel)):
            # Whoever forked us holds them back until there is somebody to hear them.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            try:
                loop.run_until_complete(task)
            except asyncio.CancelledError:
                logs.info("stopped_while_starting")


@contextmanager
def _on_signals(react: Callable[[], object]) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: react()) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
