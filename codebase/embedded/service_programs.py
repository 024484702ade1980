"""The services of an embedded run: started in order, and asked whether they are ready."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codebase.embedded.environment import Environment
from codebase.embedded.errors import StackError, Stopped
from codebase.embedded.keeper import Program
from codebase.embedded.probes import trouble
from codebase.embedded.run import Run
from codebase.embedded.supervisor import Supervised

MIGRATION = "migration"
BROKER_CLIENTS = frozenset({"event_relay"})
"""Services that are ready only when the broker is: the run is ready without them."""

READY_DEADLINE_SECONDS = 120.0
_PATIENT_SECONDS = 10.0
"""After this long the operator reads what we are waiting for."""
_POLL_SECONDS = 0.02
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class ServicePrograms:
    """The services and groups of services of one run, one process each.

    Args:
        run: what they belong to.
        ports: before the offset, by name.
        environment: what they find in theirs.
    """

    run: Run
    ports: Mapping[str, int]
    environment: Environment

    def start(self) -> None:
        """Start migration and then, with the schema there, all others; return when they are ready.

        Raises:
            StackError: one of them does not become ready.
            Stopped: the operator does not want it any more.
        """
        self._start([MIGRATION])
        self._start([name for name in self.ports if name != MIGRATION])

    def _start(self, names: Sequence[str]) -> None:
        if self.run.stopping.is_set():
            raise Stopped
        started = [
            self.run.supervisor.start(
                self._program(name), functools.partial(self.run.terminal.show_error, name)
            )
            for name in names
        ]
        began = time.monotonic()
        for program in started:
            self._wait_until_ready(program, began)

    def _program(self, name: str) -> Program:
        return Program(
            name=name,
            command=[sys.executable, "-m", "codebase", "serve", name],
            arguments=["serve", name],
            environment=self.environment.of(name),
            directory=_PROJECT,
            # The drain, what workers have after it, and a moment to leave.
            patience_seconds=self.run.settings.drain_seconds + 1.8,
        )

    def _wait_until_ready(self, program: Supervised, began: float) -> None:
        name = program.program.name
        port = self.run.port(self.ports[name])
        path = "/healthz" if name in BROKER_CLIENTS else "/readyz"
        while (reason := trouble(self.run.settings.listen_address, port, path)) is not None:
            waited = time.monotonic() - began
            if self.run.stopping.is_set():
                raise Stopped
            if not program.is_hopeful or waited > READY_DEADLINE_SECONDS:
                raise StackError(f"{name} does not become ready ({reason}); see {program.log.path}")
            if waited > _PATIENT_SECONDS:
                self.run.terminal.say_once_a_minute(f"still waiting for {name}: {reason}")
            # Another process's readiness is known by asking only.
            self.run.stopping.wait(_POLL_SECONDS)
