"""Starts processes, keeps them running, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from codebase.embedded import guardian

SERVICE_STAGE, SERVER_STAGE, FOUNDATION_STAGE = range(3)
"""In this order things end: services, the servers that they use, what those servers need."""

_FIRST_BACKOFF_SECONDS = 0.25
_LONGEST_BACKOFF_SECONDS = 30.0
_OUTPUT_END_SECONDS = 1.0
_LAST_WORDS = 300
_STEADY_SECONDS = 60.0
"""A process that lived this long starts with the shortest backoff again."""

# The child names itself to the guardian before it becomes the program, so there is no moment in
# which a killed supervisor could leave a process that the guardian has not heard of. Its standard
# output is the guardian's pipe only until exec, then its standard error, which is the log.
_REGISTER_AND_EXEC = 'printf "start %s %s %s %s\\n" "$$" "$1" "$2" "$3" && shift 3 && exec "$@" >&2'


@dataclass(frozen=True, kw_only=True)
class Account:
    """The unprivileged user that a server runs as when we are root."""

    name: str
    user_id: int
    group_id: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process to run: what, with which complete environment, as whom, and how it ends."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    directory: Path = Path("/")
    account: Account | None = None
    """None: the user who runs us."""
    stop_signal: signal.Signals = signal.SIGTERM
    patience_seconds: float = 10.0
    """How long it may take to end before it is killed."""
    stage: int = SERVICE_STAGE

    def how_to_end(self) -> list[str]:
        """Signal, stage and patience as the guardian reads them."""
        name = self.stop_signal.name.removeprefix("SIG")
        return [name, str(self.stage), str(self.patience_seconds)]


class Keeper:
    """Starts processes that end, at the latest, when this process does, however it ends."""

    def __init__(self, inherited: Sequence[int] = ()) -> None:
        """Start the guardian.

        Args:
            inherited: file descriptors that the guardian holds open until its end, so that a lock
                on one of them lasts until everything has been ended.
        """
        self._lock = threading.Lock()
        self._running: dict[int, Program] = {}
        self._inherited = tuple(inherited)
        self._guardian, self._pipe = self._start_guardian()

    def __enter__(self) -> Self:
        """Return the keeper itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the guardian end what is still running, and wait until it has."""
        self.close()

    def spawn(self, program: Program, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own.

        Args:
            program: what to run.
            output: where its standard output and error go; `subprocess.PIPE` makes `stderr` a pipe.

        Raises:
            OSError: the program's directory or the user cannot be used. A command that does not
                exist is seen as exit code 127.
        """
        account = program.account
        with self._lock:
            self._ensure_guardian()
            process = subprocess.Popen(  # noqa: S603 - starting programs is what this class is for
                [
                    "/bin/sh",
                    "-c",
                    _REGISTER_AND_EXEC,
                    "sh",
                    *program.how_to_end(),
                    *program.command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._pipe,
                stderr=output,
                env=dict(program.environment),
                cwd=program.directory,
                start_new_session=True,
                user=account.user_id if account else None,
                group=account.group_id if account else None,
                extra_groups=[] if account else None,
            )
            self._running[process.pid] = program
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a process as it wants to be ended, or kill it when its patience is over."""
        with self._lock:
            program = self._running.get(process.pid)
        if program is not None and process.poll() is None:
            guardian.signal_group(process.pid, program.stop_signal)
            try:
                process.wait(program.patience_seconds)
            except subprocess.TimeoutExpired:
                guardian.signal_group(process.pid, signal.SIGKILL)
        process.wait()
        self.release(process)

    def release(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process that has ended."""
        with self._lock:
            if self._running.pop(process.pid, None) is not None:
                self._tell(f"ended {process.pid}\n")

    def close(self) -> None:
        """End whatever is still running; blocks until it is gone."""
        with self._lock:
            os.close(self._pipe)
            self._guardian.wait()

    def _start_guardian(self) -> tuple[subprocess.Popen[bytes], int]:
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own script under our own interpreter
                # Isolated and without site packages: it starts in 20 ms and depends on nothing.
                [sys.executable, "-I", "-S", guardian.__file__],
                stdin=read_end,
                cwd="/",
                pass_fds=self._inherited,
                start_new_session=True,
            )
        finally:
            os.close(read_end)
        return process, write_end

    def _ensure_guardian(self) -> None:
        """Replace a guardian that somebody killed, and tell the new one what is running."""
        if self._guardian.poll() is None:
            return
        os.close(self._pipe)
        self._guardian, self._pipe = self._start_guardian()
        for group, program in self._running.items():
            self._tell(f"start {group} {' '.join(program.how_to_end())}\n")

    def _tell(self, line: str) -> None:
        try:
            os.write(self._pipe, line.encode())
        except BrokenPipeError:
            # The guardian was killed; the next spawn starts another and tells it everything.
            return


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
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    """How often in a row it ended unexpectedly, before it had run steadily."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _spawning: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread = field(init=False)

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
                self.process = self.keeper.spawn(self.program, subprocess.PIPE)

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
