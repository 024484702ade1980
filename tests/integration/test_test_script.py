"""`./test.sh` takes with it what it has started, whoever ends it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]

SCRIPT = (PROJECT / "test.sh").read_text(encoding="utf-8")
# Whatever is prepared is there.
ENVIRONMENT = """
say() { printf '%s\\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
""" + "".join(f"{name}() {{ :; }}\n" for name in set(re.findall(r"\bprepare_\w+", SCRIPT)))
# A stage with a child that has a child; it tells of the three when they are there.
STAGE = """#!/usr/bin/env bash
(sleep 600 & echo "started $! $BASHPID $$"; wait) &
wait
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_ends_the_script_ends_all_that_it_has_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    shutil.copy(PROJECT / "test.sh", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/environment.sh").write_text(ENVIRONMENT)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stage = tmp_path / ".venv/bin/ruff"
    stage.write_text(STAGE)
    stage.chmod(0o755)
    with subprocess.Popen(
        ["./test.sh"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        # A job of a shell's background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as script:
        assert script.stdout is not None
        told = next((line for line in script.stdout if line.startswith("started ")), None)
        assert told, "it ends before its first stage"
        started = [psutil.Process(int(pid)) for pid in told.split()[1:]]
        script.send_signal(number)
        assert script.wait(PATIENCE_SECONDS) == 130
        _, alive = psutil.wait_procs(started, PATIENCE_SECONDS)
        assert not alive
