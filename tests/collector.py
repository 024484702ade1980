"""What is left to the cyclic garbage collector: memory that lets go of itself is free at once."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

TIMES = 50


async def left_by_each(once: Callable[[], Awaitable[object]]) -> float:
    """How many objects are in circles, by the end, for each time that something was done."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(TIMES):
            await once()
        return gc.collect() / TIMES
    finally:
        gc.enable()
