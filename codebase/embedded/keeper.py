"""Starts processes, and leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from codebase.embedded import guardian
from codebase.embedded.forks import Order
from codebase.embedded.template import Forked, Template

SERVICE_STAGE, SERVER_STAGE, FOUNDATION_STAGE = range(3)
"""In this order things end: services, the servers that they use, what those servers need."""

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
    arguments: Sequence[str] | None = None
    """What makes a fork of the template the same program; None: the template cannot be it."""
    account: Account | None = None
    """None: the user who runs us."""
    stop_signal: signal.Signals = signal.SIGTERM
    patience_seconds: float = 10.0
    """How long it may take to end before it is killed."""
    stage: int = SERVICE_STAGE

    def order(self, arguments: Sequence[str]) -> Order:
        """The program as a fork of the template."""
        return Order(
            arguments=arguments,
            title=" ".join(map(str, self.command)),
            environment=dict(self.environment),
            directory=self.directory,
            how_to_end=self.how_to_end(),
        )

    def how_to_end(self) -> list[str]:
        """Signal, stage and patience as the guardian reads them."""
        name = self.stop_signal.name.removeprefix("SIG")
        return [name, str(self.stage), str(self.patience_seconds)]


Process = subprocess.Popen[bytes] | Forked


class Keeper:
    """Starts processes that end, at the latest, when this process does, however it ends."""

    def __init__(self, inherited: Sequence[int] = (), template: Template | None = None) -> None:
        """Start the guardian.

        Args:
            inherited: file descriptors that the guardian holds open until its end, so that a lock
                on one of them lasts until everything has been ended.
            template: what programs are forked from that can be.
        """
        self._template = template
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

    def start(self, program: Program) -> Process:
        """Start a program in a session of its own, with a pipe for its output: `stderr`.

        It is forked from the template if it can be and the template is there.

        Raises:
            OSError: as `spawn` does, or the fork ended at once.
        """
        if self._template is not None and program.arguments is not None:
            with self._lock:
                self._ensure_guardian()
                forked = self._template.fork(program.order(program.arguments), self._pipe)
                if forked is not None:
                    self._running[forked.pid] = program
                    return forked
        return self.spawn(program, subprocess.PIPE)

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

    def stop(self, process: Process) -> None:
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

    def release(self, process: Process) -> None:
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
                # What the interpreter itself may need to be loaded, and none of our secrets.
                env={k: v for k, v in os.environ.items() if k.startswith(("LD_", "DYLD_"))},
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
