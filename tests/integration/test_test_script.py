"""`./test.sh` takes with it what it has started, whoever ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]

NOTHING_TO_PREPARE = """
say() { printf '%s\\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
prepare_environment() { :; }
prepare_postgres() { :; }
prepare_rabbitmq() { :; }
prepare_nginx() { :; }
"""
# A stage with a child that has a child, and that tells them once they are there.
STAGE = """#!/usr/bin/env bash
(sleep 600 & echo $! > "$PIDS"; wait) &
echo "$! $$" >> "$PIDS"
wait
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_ends_the_script_ends_all_that_it_has_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    shutil.copy(PROJECT / "test.sh", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/environment.sh").write_text(NOTHING_TO_PREPARE)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stage = tmp_path / ".venv/bin/ruff"
    stage.write_text(STAGE)
    stage.chmod(0o755)
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    script = subprocess.Popen(
        ["./test.sh"],
        cwd=tmp_path,
        env={**os.environ, "PIDS": str(pids)},
        # A job of a shell's background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    found: list[str] = []
    while len(found) < 3:
        found += pids.read_text().split()
    started = [psutil.Process(int(pid)) for pid in found]
    script.send_signal(number)
    assert script.wait(PATIENCE_SECONDS) == 130
    _, alive = psutil.wait_procs(started, PATIENCE_SECONDS)
    assert not alive
