"""An embedded run as its user sees it: what it prints, its ports, its processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from codebase.embedded.keeper import Keeper, Program
from codebase.registry import SYSTEM
from tests.patience import PATIENCE_SECONDS, UNHURRIED

Told = TypeVar("Told")

PROJECT = Path(__file__).parents[2]
SERVICE_PORTS = SYSTEM.on_one_machine()


class EmbeddedRun:
    """One `orderly up`, with what it prints."""

    def __init__(
        self, keeper: Keeper, home: Path, offset: int, *arguments: str, **environment: str
    ) -> None:
        self.home = home
        self.offset = offset
        self._keeper = keeper
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        program = Program(
            name="up",
            command=[sys.executable, "-m", "tests.acceptance.patient_orderly", "up", *arguments],
            environment={
                **os.environ,
                "ORDERLY_HOME": str(home),
                "PORT_OFFSET": str(offset),
                **{name.upper(): str(value) for name, value in UNHURRIED.items()},
                **environment,
            },
            directory=PROJECT,
            patience_seconds=PATIENCE_SECONDS,
        )
        self.process = keeper.spawn(program, subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as output:
            for line in output:
                self._add(line.decode())
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in what was printed so far or will be, while the run lasts."""
        with self._changed:
            self._changed.wait_for(
                lambda: re.search(pattern, self.output) or self._ended, PATIENCE_SECONDS
            )
            found = re.search(pattern, self.output)
        assert found, f"{pattern!r} is not in:\n{self.output}"
        return found

    def ready(self) -> EmbeddedRun:
        self.wait_for(r"ready in [\d.]+ s")
        return self

    def ended(self) -> int:
        """The exit code, once it has ended and everything it printed was read."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        self._keeper.release(self.process)
        return code

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def of_each(self, tell: Callable[[psutil.Process], Told]) -> dict[psutil.Process, Told]:
        """What `tell` tells of each descendant. A database's backends come and go meanwhile."""
        told = {}
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                told[process] = tell(process)
        return told

    def with_argument(self, is_wanted: Callable[[list[str]], bool]) -> psutil.Process:
        """The first descendant whose command line is wanted; a zombie has none."""
        # A fork has a title instead, one argument with blanks, and after it what was left of ours.
        lines = self.of_each(lambda process: " ".join(process.cmdline()).split())
        return next(process for process, line in lines.items() if is_wanted(line))

    def service(self, name: str) -> psutil.Process:
        """The process that serves `name`, among our own descendants."""
        return self.with_argument(lambda line: line[-2:] == ["serve", name])

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{SERVICE_PORTS[name] + self.offset}/{path}"

    def put(self, key: str) -> httpx.Response:
        body = {"currency": "EUR", "amount": "12.50", "idempotence_key": key}
        return httpx.put(self.url("create_buy_order", "buy_order"), json=body)

    def listed_keys(self, answer: httpx.Response) -> list[str]:
        """The ids of the first page, read with the consistency token of an earlier answer.

        Whoever is told that the read model is not that far yet asks again, as a client does.
        """
        token = {"Consistency-Token": answer.headers["Consistency-Token"]}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            page = httpx.get(self.url("fetch_buy_orders", "buy_orders"), headers=token)
            if page.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return [row["id"] for row in page.raise_for_status().json()["rows"]]


def script_environment(run: EmbeddedRun) -> Mapping[str, str]:
    return {**os.environ, "PORT_OFFSET": str(run.offset), "ORDERLY_HOME": str(run.home)}
