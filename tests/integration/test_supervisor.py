"""Processes are kept running, end in order, and never outlive their supervisor."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codebase.embedded.keeper import SERVER_STAGE, SERVICE_STAGE, Keeper, Program
from codebase.embedded.supervisor import LogFile, Supervised
from tests.patience import PATIENCE_SECONDS
from tests.processes import gone

PATH = {"PATH": os.defpath}
SLEEP = Program(name="sleep", command=["sleep", "1000"], environment=PATH)
IGNORES_TERM = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done"]
ENDS_SLOWLY = 'trap "sleep 0.2; echo $1 >>$0; exit" TERM; echo listening; sleep 1000 & wait'


@pytest.fixture
def own_keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


def shell(script: str, *arguments: object, stage: int = SERVICE_STAGE) -> Program:
    command = ["sh", "-c", script, *map(str, arguments)]
    return Program(name="shell", command=command, environment=PATH, stage=stage)


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stderr is not None
    return process.stderr.readline().strip()


def test_closing_the_keeper_ends_what_still_runs() -> None:
    with Keeper() as keeper:
        process = keeper.spawn(SLEEP, subprocess.DEVNULL)
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_a_supervisor_killed_right_after_a_start_leaves_nothing() -> None:
    script = """
import os, signal, subprocess
from codebase.embedded.keeper import Keeper, Program
keeper = Keeper()
sleep = Program(name="sleep", command=["sleep", "1000"], environment={"PATH": os.defpath})
pids = [keeper.spawn(sleep, subprocess.DEVNULL).pid for _ in range(20)]
print(*pids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    started = [int(text) for text in killed.stdout.split()]
    assert len(started) == 20
    assert all(gone(process_id) for process_id in started)


def test_a_process_that_ignores_its_signal_is_killed(own_keeper: Keeper) -> None:
    deaf = Program(name="deaf", command=IGNORES_TERM, environment=PATH, patience_seconds=0.1)
    process = own_keeper.spawn(deaf, subprocess.PIPE)
    assert first_line(process) == b"deaf"
    own_keeper.stop(process)
    assert process.returncode == -signal.SIGKILL
    assert process.stderr is not None
    process.stderr.close()


def test_the_guardian_ends_services_before_servers(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with Keeper() as keeper:
        processes = [
            keeper.spawn(shell(ENDS_SLOWLY, ended, name, stage=stage), subprocess.PIPE)
            for name, stage in (("server", SERVER_STAGE), ("service", SERVICE_STAGE))
        ]
        assert [first_line(process) for process in processes] == [b"listening"] * 2
    for process in processes:
        process.wait(PATIENCE_SECONDS)
        assert process.stderr is not None
        process.stderr.close()
    assert ended.read_text().split() == ["service", "server"]


def test_a_killed_guardian_is_replaced_and_knows_what_was_running() -> None:
    with Keeper() as keeper:
        before = keeper.spawn(SLEEP, subprocess.DEVNULL)
        children = psutil.Process().children()
        guardians = [p for p in children if " ".join(p.cmdline()).endswith("guardian.py")]
        ours = max(guardians, key=lambda p: p.create_time())
        os.kill(ours.pid, signal.SIGKILL)
        os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
        after = keeper.spawn(SLEEP, subprocess.DEVNULL)
    assert [before.wait(PATIENCE_SECONDS), after.wait(PATIENCE_SECONDS)] == [
        -signal.SIGTERM,
        -signal.SIGTERM,
    ]


def test_a_program_that_keeps_ending_is_started_again_after_growing_pauses(
    own_keeper: Keeper, tmp_path: Path
) -> None:
    said: list[str] = []
    three_times = threading.Event()

    def announce(sentence: str) -> None:
        said.append(sentence)
        if len(said) == 3:
            three_times.set()

    lines: list[bytes] = []
    supervised = Supervised(
        keeper=own_keeper,
        program=shell("echo working; exit 3"),
        log=LogFile(tmp_path / "log"),
        announce=announce,
        on_line=lines.append,
    )
    supervised.start()
    assert three_times.wait(PATIENCE_SECONDS)
    supervised.stop()
    pauses = [float(found[1]) for line in said if (found := re.search(r"in ([\d.]+) s", line))]
    # By now it may have run, and ended, once more.
    assert pauses[:3] == [0.25, 0.5, 1]
    assert "exit code 3: working" in said[0]
    assert lines[:3] == [b"working\n"] * 3
    assert (tmp_path / "log").read_bytes().startswith(b"working\n" * 3)


def test_a_stopped_program_stays_stopped(own_keeper: Keeper, tmp_path: Path) -> None:
    said: list[str] = []
    supervised = Supervised(
        keeper=own_keeper,
        program=SLEEP,
        log=LogFile(tmp_path / "log"),
        announce=said.append,
        on_line=lambda _: None,
    )
    supervised.start()
    assert supervised.process is not None
    process = supervised.process
    supervised.stop()
    assert process.returncode == -signal.SIGTERM
    assert supervised.process is process
    assert said == []


def test_a_full_log_starts_again_and_the_one_before_is_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", limit_bytes=10)
    for line in (b"first line\n", b"second line\n", b"third line\n"):
        log.write(line)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"third line\n"
    assert (tmp_path / "log.1").read_bytes() == b"second line\n"
