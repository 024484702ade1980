"""The reaction of jobs.py as a process that tests can kill: `python -m … SHOP_URL`."""

from __future__ import annotations

import asyncio
import signal
import sys

from codebase.foundation.settings import load_settings
from tests.integration.jobs import jobs_at_work

LEASE_DEADLINE_SECONDS = 5.0


async def work(shop_url: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with jobs_at_work(load_settings(), shop_url, deadline_seconds=LEASE_DEADLINE_SECONDS):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
