"""Random bytes for ids: whatever shares them, nobody gets the same ones."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from codebase.foundation.random_bytes import READ_TOGETHER, random_bytes

THREADS = 8
IDS = 4 * READ_TOGETHER // 16

FORK = """
import os
from codebase.foundation.random_bytes import random_bytes
random_bytes(1)
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, random_bytes(16))
    os._exit(0)
os.wait()
print(os.read(reading, 16) == random_bytes(16))
"""


@pytest.mark.parametrize("count", [0, 1, 16, READ_TOGETHER, READ_TOGETHER + 1])
def test_there_are_as_many_as_were_asked_for(count: int) -> None:
    assert len(random_bytes(count)) == count


def test_nobody_gets_what_another_has_had() -> None:
    barrier = Barrier(THREADS)

    def take(_: int) -> list[bytes]:
        barrier.wait()
        return [random_bytes(16) for _ in range(IDS)]

    with ThreadPoolExecutor(THREADS) as threads:
        taken = [each for mine in threads.map(take, range(THREADS)) for each in mine]
    assert len(set(taken)) == THREADS * IDS


def test_a_forked_process_does_not_go_on_with_what_the_other_one_has() -> None:
    told = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
