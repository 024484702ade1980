"""A process that serves the small service as `orderly serve` would; tests send it signals.

Arguments: port, drain seconds. SIGUSR1 opens the gate that holds `PUT /order`. It says on stdout
what it does: `arrived` when the gate holds a request, `closing` and `closed` at the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.web.shell import assemble, run, serve
from tests.integration.shell import Gate, small_service


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


@asynccontextmanager
async def resource() -> AsyncIterator[None]:
    """Takes a moment to open, when asked to, and to close."""
    try:
        if "hang" in sys.argv:
            say("opening")
            await asyncio.Event().wait()
        yield
    finally:
        say("closing")
        await asyncio.sleep(0.3)
        say("closed")


async def announce(gate: Gate) -> None:
    await gate.arrived.wait()
    say("arrived")


async def main(port: int, drain_seconds: float) -> None:
    settings = Settings(drain_seconds=drain_seconds)
    gate = Gate()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, gate.opened.set)
    with logs.configured(settings, service="small"):
        async with resource():
            announcing = asyncio.create_task(announce(gate))
            await serve(assemble([small_service(gate)], settings), settings, port)
            announcing.cancel()


if __name__ == "__main__":
    run(main(int(sys.argv[1]), float(sys.argv[2])))
