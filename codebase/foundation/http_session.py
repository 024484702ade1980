"""Calls to other services: the one session of a process, and what all of them have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

CONNECT_DEADLINE_SECONDS = 3.0


@asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """One for all that a process asks; what is configured for the way to the internet is not used.

    Redirects are followed by nobody, no cookie is kept, and nothing is to come compressed: a small
    answer must not become a large one here.
    """
    # What is on its way is bounded by who asks. Waiting for a place here would count as
    # connecting, and a service that hangs would make others seem to be away.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(connect=CONNECT_DEADLINE_SECONDS),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
    ) as session:
        yield session
