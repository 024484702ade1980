"""The reaction of jobs.py as a process that tests can stop and kill, in sight of leases that end.

`python -m tests.integration.run_jobs SHOP_URL CALLER DEADLINE_SECONDS ASKS`
"""

from __future__ import annotations

import asyncio
import signal
import sys

from codebase.foundation.settings import load_settings
from tests.integration.jobs import jobs_at_work


async def work(shop_url: str, caller: str, deadline_seconds: str, asks: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with jobs_at_work(
        load_settings(),
        shop_url,
        deadline_seconds=float(deadline_seconds),
        asks=asks == "asks",
        caller=caller,
    ):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
