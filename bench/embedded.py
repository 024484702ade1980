"""The whole embedded run as an operator starts it, for measurements from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.lab import ORDER_BOOK_LIMIT_BTC, PROJECT, Lab
from bench.measure import BenchError
from codebase.embedded.forks import TEMPLATE_TITLE
from codebase.embedded.keeper import Keeper, Program
from codebase.foundation.settings import Settings
from codebase.registry import SYSTEM

READY = re.compile(r"^orderly: ready in ([\d.]+) s", re.MULTILINE)
BROKER_IS_UP = re.compile(r"^orderly: RabbitMQ is up", re.MULTILINE)
START_SECONDS = 180.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01


@dataclass(kw_only=True)
class EmbeddedRun:
    """A run that is up; use `running`."""

    home: Path
    offset: int
    process: subprocess.Popen[bytes]
    ready_seconds: float
    """From the command to the line that says ready."""
    keeper: Keeper

    def address(self, service: str) -> str:
        """Where a service listens."""
        return f"http://127.0.0.1:{SYSTEM.port_of(service) + self.offset}"

    def settings(self) -> Settings:
        """What the run wrote down for its services."""
        lines = (self.home / "environment").read_text(encoding="utf-8").splitlines()
        named = (line.partition("=") for line in lines)
        return Settings.model_validate({name.lower(): value for name, _, value in named})

    def stop(self) -> None:
        """End the run; everything that it started ends with it."""
        self.keeper.stop(self.process)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Every process of the run by what it is: a service, a server, the supervisor."""
        root = psutil.Process(self.process.pid)
        groups: dict[str, list[psutil.Process]] = {"supervisor": [root]}
        for process in root.children(recursive=True):
            # One that ends at this moment is nobody any more: Postgres and the broker have such.
            with suppress(psutil.NoSuchProcess):
                groups.setdefault(_name_of(process), []).append(process)
        return groups

    def processor_seconds(self) -> dict[str, float]:
        """What each group of processes has used so far."""
        return {
            name: sum(map(processor_seconds, processes))
            for name, processes in self.processes().items()
        }


def processor_seconds(process: psutil.Process) -> float:
    """What a process has used so far; 0 of one that has ended, as the servers' may."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0
    return times.user + times.system


def proportional_bytes(process: psutil.Process) -> int:
    """Its memory, of what it shares its part; 0 of one that has ended, as the servers' may."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


def _name_of(process: psutil.Process) -> str:
    command = process.cmdline()
    if "serve" in command:
        return command[command.index("serve") + 1]
    title = " ".join(command)
    if "guardian.py" in title or title == TEMPLATE_TITLE:
        return "supervisor"
    if "postgres" in title:
        return "Postgres"
    return "RabbitMQ"


@contextmanager
def running(
    lab: Lab,
    home: Path,
    command: Sequence[str | Path] = (sys.executable, "-m", "codebase", "up"),
    *,
    directory: Path = PROJECT,
    extra_environment: dict[str, str] | None = None,
) -> Iterator[EmbeddedRun]:
    """An embedded run in `home`, once it says that it is ready and its broker is up.

    Raises:
        BenchError: it ended, or does not become ready; the text ends with its output.
    """
    offset = lab.ports.free_offset()
    environment = {
        **os.environ,
        **(extra_environment or {}),
        "ORDERLY_HOME": str(home),
        "PORT_OFFSET": str(offset),
        "ORDER_BOOK_LIMIT_BTC": str(ORDER_BOOK_LIMIT_BTC),
        "PYTHONUNBUFFERED": "1",
    }
    program = Program(
        name="embedded",
        command=command,
        environment=environment,
        directory=directory,
        patience_seconds=STOP_SECONDS,
    )
    log = home.with_suffix(".log")
    started = time.monotonic()
    with log.open("wb") as output:
        process = lab.keeper.spawn(program, output)
    _wait_for(READY, log, process)
    run = EmbeddedRun(
        home=home,
        offset=offset,
        process=process,
        ready_seconds=time.monotonic() - started,
        keeper=lab.keeper,
    )
    try:
        _wait_for(BROKER_IS_UP, log, process)
        yield run
    finally:
        run.stop()


def _wait_for(line: re.Pattern[str], log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not line.search(text := log.read_text(encoding="utf-8", errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"the embedded run does not start: {text[-1000:]}")
        time.sleep(POLL_SECONDS)
