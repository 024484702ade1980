"""Services of payments as a process that tests can kill: `python -m … PORT [SERVICE…]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from codebase.foundation.settings import load_settings
from codebase.registry import SYSTEM
from codebase.services.transact import at_work
from codebase.web.runtime import Runtime
from codebase.web.server import serving
from codebase.web.shell import assemble
from tests.integration.payments import FLOW
from tests.patience import PATIENCE_SECONDS


async def work(port: int, names: Sequence[str]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    settings = load_settings(*SYSTEM.settings)
    # A provider of these tests does what it was asked for, however late: nobody gives up before.
    at_work.PROVIDER_DEADLINE_SECONDS = PATIENCE_SECONDS
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(settings, SYSTEM.contexts))
        apps = [
            await stack.enter_async_context(SYSTEM.load(name).open_service(runtime))
            for name in names or FLOW
        ]
        await stack.enter_async_context(serving(assemble(apps, settings), settings, port))
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1]), sys.argv[2:]))
