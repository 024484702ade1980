"""Processes that are held, and say nothing meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.patience import PATIENCE_SECONDS

POLL_SECONDS = 0.001
HELD = {"T", "t", "Z", "X"}
"""States of threads that do not run: stopped, or gone."""


@contextmanager
def held(process_ids: Iterable[int]) -> Iterator[None]:
    """None of their threads runs from the beginning to the end, and those that have ended may.

    The signal takes a moment to reach a thread that runs on another core.
    """
    everybody = list(process_ids)
    try:
        for each in everybody:
            _signal(each, signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(_is_held(each) for each in everybody):
            assert time.monotonic() < deadline, "somebody cannot be held"
            time.sleep(POLL_SECONDS)
        yield
    finally:
        for each in everybody:
            _signal(each, signal.SIGCONT)


def group_of(process_id: int) -> list[int]:
    """The processes of a group, by that of its leader."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(ProcessLookupError):
            if each.name.isdigit() and os.getpgid(int(each.name)) == process_id:
                found.append(int(each.name))
    return found


def _is_held(process_id: int) -> bool:
    states = set[str]()
    for thread in Path(f"/proc/{process_id}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name before it may hold whatever it likes, brackets too.
            states.add(thread.read_text().rpartition(")")[2].split()[0])
    return states <= HELD


def _signal(process_id: int, number: signal.Signals) -> None:
    """One whose connection was given up may have ended."""
    with suppress(ProcessLookupError):
        os.kill(process_id, number)
