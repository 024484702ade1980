"""Somebody outside, on a loopback port, for tests of what is sent there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def answering(
    port: int, *routes: web.RouteDef, closing: Callable[[], None] = lambda: None
) -> AsyncIterator[str]:
    """Answers these routes, and yields their address.

    Args:
        port: a free one.
        routes: of aiohttp, such as `web.post("/notices", take)`.
        closing: called at the end, so that who is kept waiting for an answer gets one.
    """
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        closing()
        await runner.cleanup()
