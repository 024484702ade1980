"""Keeps programs running, and their output in files."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from codebase.embedded.keeper import Keeper, Process, Program

_FIRST_BACKOFF_SECONDS = 0.25
_LONGEST_BACKOFF_SECONDS = 30.0
_OUTPUT_END_SECONDS = 1.0
_LAST_WORDS = 300
_GIVE_UP_AFTER_DEATHS = 4
_STEADY_SECONDS = 60.0
"""A process that lived this long starts with the shortest backoff again."""


class LogFile:
    """A log file that is kept small: at `limit_bytes` it becomes NAME.1, the one before is lost."""

    def __init__(self, path: Path, limit_bytes: int = 16 * 1024 * 1024) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        """Append one line, rotating first when the file is full.

        What the disk does not take is lost: a program that waits for its log would be lost too.
        """
        with contextlib.suppress(OSError):
            self._write(line)

    def _write(self, line: bytes) -> None:
        if self._file.tell() >= self._limit_bytes:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._file = self.path.open("ab", buffering=0)
        self._file.write(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(kw_only=True)
class Supervised:
    """A program that is started again, with growing pauses, until it is stopped.

    `announce` gets sentences for the operator, `on_line` every line of the program's output.
    """

    keeper: Keeper
    program: Program
    log: LogFile
    announce: Callable[[str], None]
    on_line: Callable[[bytes], None]
    process: Process | None = None
    deaths: int = 0
    """How often in a row it ended unexpectedly, before it had run steadily."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _spawning: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread = field(init=False)

    @property
    def is_hopeful(self) -> bool:
        """False when it has died so often that waiting for it makes no sense."""
        return self.deaths < _GIVE_UP_AFTER_DEATHS

    def start(self) -> None:
        """Start the program and the thread that looks after it."""
        self._thread = threading.Thread(target=self._run, name=self.program.name, daemon=True)
        self._spawn()
        self._thread.start()

    def stop(self) -> None:
        """End the program for good, by force if its patience is over."""
        with self._spawning:
            self._stopping.set()
            process = self.process
        if process is not None:
            self.keeper.stop(process)
        # Its output ends with it, unless a process that it left behind holds the pipe open.
        self._thread.join(_OUTPUT_END_SECONDS)
        self.log.close()

    def _spawn(self) -> None:
        """Start the program, unless it is to be stopped."""
        with self._spawning:
            if not self._stopping.is_set():
                self.process = self.keeper.start(self.program)

    def _run(self) -> None:
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            trouble: str | None = self._follow()
            if time.monotonic() - started > _STEADY_SECONDS:
                backoff_seconds, self.deaths = _FIRST_BACKOFF_SECONDS, 0
            while trouble and not self._stopping.is_set():
                self.deaths += 1
                self.announce(
                    f"{self.program.name} {trouble}; starting it again in {backoff_seconds:g} s; "
                    f"its log is {self.log.path}"
                )
                self._stopping.wait(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, _LONGEST_BACKOFF_SECONDS)
                trouble = self._spawn_again()

    def _spawn_again(self) -> str | None:
        """Start the program again, unless it is to be stopped; the trouble if that fails."""
        try:
            self._spawn()
        except OSError as error:
            return f"could not be started ({error})"
        return None

    def _follow(self) -> str:
        """Copy the output of the running process until its end; how it ended."""
        process = self.process
        if process is None or process.stderr is None:
            raise AssertionError("follow a process that was started with a pipe")
        line = b""
        with process.stderr as output:
            for line in output:
                self.log.write(line)
                self.on_line(line)
        code = process.wait()
        self.keeper.release(process)
        return f"ended unexpectedly ({_how(code, line)})"


def _how(code: int, last_line: bytes) -> str:
    """The signal that ended a program, or its exit code and what it said last."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    said = last_line.decode(errors="replace").strip()[:_LAST_WORDS]
    return f"exit code {code}: {said}" if said else f"exit code {code}"


class Supervisor:
    """Keeps programs running, and stops them in order.

    Args:
        keeper: starts and ends them.
        logs: the folder that their output goes to, one file each.
        announce: gets sentences for the operator.
    """

    def __init__(self, keeper: Keeper, logs: Path, announce: Callable[[str], None]) -> None:
        self._keeper = keeper
        self._logs = logs
        self._announce = announce
        self._running: list[Supervised] = []

    def start(
        self, program: Program, on_line: Callable[[bytes], None] = lambda _: None
    ) -> Supervised:
        """Start a program; `on_line` gets every line of its output."""
        running = Supervised(
            keeper=self._keeper,
            program=program,
            log=LogFile(self._logs / f"{program.name}.log"),
            announce=self._announce,
            on_line=on_line,
        )
        running.start()
        self._running.append(running)
        return running

    def stop(self) -> None:
        """Stop stage by stage; within a stage, all at once."""
        for stage in sorted({running.program.stage for running in self._running}):
            together = [running for running in self._running if running.program.stage == stage]
            with ThreadPoolExecutor(len(together)) as pool:
                list(pool.map(Supervised.stop, together))
