"""The embedded run: private servers and every service on one machine, in the foreground.

Everything lives under one home folder (`ORDERLY_HOME`) and on ports that `PORT_OFFSET` shifts
together. What is started here ends here: in order at Ctrl-C or SIGTERM, by the guardian otherwise.
"""

from __future__ import annotations

import functools
import signal
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from codebase.embedded import broker, databases
from codebase.embedded.databases import Databases
from codebase.embedded.environment import environment, host_of, written_values
from codebase.embedded.errors import ServerError, StackError, Stopped
from codebase.embedded.forks import Main
from codebase.embedded.home import locked, write_environment
from codebase.embedded.keeper import Keeper
from codebase.embedded.private_rabbitmq import RabbitServer
from codebase.embedded.probes import is_occupied
from codebase.embedded.run import Run
from codebase.embedded.service_programs import ServicePrograms
from codebase.embedded.supervisor import Supervisor
from codebase.embedded.template import Template
from codebase.embedded.terminal import Terminal
from codebase.engine.context import Context
from codebase.foundation.settings import Settings

SERVER_PORTS: Mapping[str, int] = {**databases.PORTS, **broker.PORTS}


def up(
    settings: Settings,
    services: Mapping[str, int],
    needs: Mapping[str, Collection[str]],
    contexts: Sequence[Context],
    orderly: Main | None,
    *,
    stores_only: bool = False,
) -> int:
    """Run everything in the foreground until SIGINT, SIGTERM or SIGHUP.

    Args:
        settings: `orderly_home` and `port_offset` say where, `host` where the services listen.
        services: name and port, before the offset, of every service and group of services;
            `migration` goes first.
        needs: the secrets that each of them is told, as fields of the settings.
        contexts: whose services they are.
        orderly: the `orderly` command, told `serve NAME` in forks of this process, which has
            imported what they need; None: each service gets an interpreter of its own.
        stores_only: start the databases and the broker, and no service: for who restores them.

    Returns:
        The exit code: 0 after an ordered stop, 1 when it could not start; then a line on standard
        error says why.
    """
    terminal = Terminal()
    # First of all: with it nothing is forked that belongs to this process alone.
    with Template(orderly) if orderly else nullcontext() as template:
        stopping = _stop_signals()
        home = settings.orderly_home.resolve()
        try:
            _make_folder(home)
            (home / "logs").mkdir(mode=0o700, exist_ok=True)
            with locked(home, stopping) as lock, Keeper([lock], template) as keeper:
                run = Run(
                    home=home,
                    settings=settings,
                    terminal=terminal,
                    supervisor=Supervisor(keeper, home / "logs", terminal.say),
                    stopping=stopping,
                )
                stack = _Stack(
                    run=run,
                    services=services,
                    needs=needs,
                    contexts=contexts,
                    stores_only=stores_only,
                )
                stack.run_until_stopped()
        except Stopped:
            terminal.say("stopped while starting")
        except (StackError, PermissionError) as error:
            terminal.complain(str(error))
            return 1
        return 0


def _make_folder(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"ORDERLY_HOME: {home} cannot be made: {error.strerror}") from error


def _stop_signals() -> threading.Event:
    """An event that is set when the operator wants an end."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """One embedded run from start to stop; without services only the stores."""

    run: Run
    services: Mapping[str, int]
    needs: Mapping[str, Collection[str]]
    contexts: Sequence[Context]
    stores_only: bool
    started: float = field(default_factory=time.monotonic)

    def run_until_stopped(self) -> None:
        """Start everything, wait for the signal, stop everything."""
        rabbitmq = broker.find_broker(self.run)
        self._refuse_occupied_ports(with_broker=rabbitmq is not None)
        try:
            self._start(rabbitmq)
            self.run.stopping.wait()
            self.run.terminal.say("stopping")
        except ServerError as error:
            # Whoever waits for a server gives up when the operator does.
            if self.run.stopping.is_set():
                raise Stopped from error
            raise
        finally:
            self.run.stopping.set()
            self.run.supervisor.stop()
        self.run.terminal.say(f"stopped; the data stays in {self.run.home}")

    def _refuse_occupied_ports(self, *, with_broker: bool) -> None:
        servers = SERVER_PORTS if with_broker else databases.PORTS
        services = {} if self.stores_only else self.services
        for name, base in {**servers, **services}.items():
            port = self.run.port(base)
            if is_occupied(port, self.run.settings.listen_address):
                raise StackError(
                    f"port {port} for {name} is in use by another program; end that one, "
                    f"or set PORT_OFFSET (now {self.run.settings.port_offset}) to move every port"
                )

    def _start(self, rabbitmq: RabbitServer | None) -> None:
        stores = Databases(self.run)
        stores.start()
        values = stores.addresses() | ({"BROKER_URL": rabbitmq.url()} if rabbitmq else {})
        address_of = functools.partial(self._address, host_of(self.run.settings))
        values |= written_values(self.run, self.contexts, address_of)
        home = self.run.home
        write_environment(home, values)
        if self.stores_only:
            self.run.terminal.say(f"only the stores are up; their addresses: {home}/environment")
        else:
            self._start_services(values)
        # Last, because a node that boots takes one of two cores for four seconds (ready after 6 s
        # instead of 3), and until it is up the log itself feeds the readers.
        if rabbitmq is not None:
            broker.start_broker(self.run, rabbitmq)

    def _start_services(self, written: Mapping[str, str]) -> None:
        variables = environment(self.run.settings, self.contexts, written, self.needs)
        ServicePrograms(run=self.run, ports=self.services, environment=variables).start()
        seconds = time.monotonic() - self.started
        self.run.terminal.say(f"ready in {seconds:.1f} s. {self._welcome()}")

    def _welcome(self) -> str:
        """Where to look, and what to try: a line for each context."""
        lines = (
            context.welcome(
                functools.partial(self._address, "127.0.0.1"),
                with_tokens=bool(self.run.settings.api_tokens),
            )
            for context in self.contexts
        )
        return "\norderly: ".join(filter(None, lines))

    def _address(self, host: str, service: str) -> str:
        return f"http://{host}:{self.run.port(self.services[service])}"
