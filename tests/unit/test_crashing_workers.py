"""A worker that crashes ends the process, which would look alive; unless it is ending anyway."""

from __future__ import annotations

import threading

import pytest

from codebase.foundation.worker import Worker
from tests.patience import PATIENCE_SECONDS


@pytest.mark.parametrize("asked_to_stop", [False, True])
def test_a_crash_ends_a_process_that_does_not_end_already(*, asked_to_stop: bool) -> None:
    stop, ended, may_crash = threading.Event(), threading.Event(), threading.Event()

    def work(_stop: threading.Event) -> None:
        may_crash.wait(PATIENCE_SECONDS)
        raise ValueError("a bug")

    worker = Worker("works", work, stop=stop, on_crash=ended.set)
    worker.start()
    if asked_to_stop:
        worker.ask_to_stop()
    may_crash.set()
    assert worker.stop(PATIENCE_SECONDS) if asked_to_stop else ended.wait(PATIENCE_SECONDS)
    assert ended.is_set() is not asked_to_stop
    assert worker.problem == "works crashed: ValueError"
