"""The servers that are measured: private, durable as in the embedded run, gone at the end."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg import Connection, sql

from bench.measure import BenchError
from bench.ports import Ports
from codebase.embedded.databases import OWNER, ROLES
from codebase.embedded.keeper import Keeper, Program
from codebase.embedded.postgres_programs import (
    can_use,
    find_postgres,
    reachable_binaries,
    server_account,
)
from codebase.embedded.private_postgres import (
    READ_MODEL_SETTINGS,
    WRITE_MODEL_SETTINGS,
    PostgresServer,
)
from codebase.foundation.postgres import connect
from codebase.foundation.rights import Login
from codebase.foundation.settings import Kind, Settings
from codebase.operations.migrate import migrate
from codebase.registry import SYSTEM
from codebase.views.buy_orders.settings import BuyOrderSettings

PROJECT = Path(__file__).resolve().parents[1]
PASSWORD = "of-a-role-that-lives-as-long-as-the-run"  # noqa: S105
ORDER_BOOK_LIMIT_BTC = 10**15
START_SECONDS = 60.0
PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.005
SMALL_PART = 1_000
SMALL_ENOUGH = 20
SMALL_SECONDS = 0.2
FILL_SERVER_LOG = """
    SELECT count(pg_logical_emit_message(false, 'warm up', repeat('.', 1024 * 1024)))
    FROM generate_series(1, 1024)
"""
UNHURRIED = {"database_deadline_seconds": 60.0, "command_deadline_seconds": 60.0}
"""Where the numbers mean nothing, nobody is told that a busy machine is late."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured: everything, or so little that it only shows whether it still works.

    Args:
        small: whether it is the latter; then the numbers mean nothing.
    """

    small: bool = False

    @property
    def warms_up(self) -> bool:
        """Whether it matters that what is measured has been done before."""
        return not self.small

    def rounds(self, full: int) -> int:
        """How often a comparison is repeated."""
        return 1 if self.small else full

    def seconds(self, full: float) -> float:
        """How long a run takes; whoever makes the load may take a second at least."""
        return min(full, SMALL_SECONDS) if self.small else full

    def count(self, full: int) -> int:
        """How much there is of something."""
        return max(full // SMALL_PART, min(full, SMALL_ENOUGH)) if self.small else full


class Cluster:
    """One running Postgres server and its databases."""

    def __init__(self, keeper: Keeper, server: PostgresServer) -> None:
        self._keeper = keeper
        self._server = server
        self._databases: list[str] = []
        server.prepare()
        with (server.folder / "log").open("ab") as log:
            self._process = keeper.spawn(server.program(), log)
        server.wait_until_ready(lambda: self._process.poll() is None)

    def stop(self) -> None:
        """End the server."""
        self._keeper.stop(self._process)

    @property
    def major(self) -> int:
        """Postgres's major version."""
        return self._server.binaries.major

    def program(self, name: str) -> Path:
        """One of the programs that belong to the server, such as pgbench.

        Raises:
            BenchError: there is none beside it, and none on the path.
        """
        beside = self._server.binaries.folder / name
        found = str(beside) if beside.exists() else shutil.which(name)
        if found is None:
            raise BenchError(f"no {name} found: sudo apt-get install postgresql-contrib")
        return Path(found)

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return self._server.port

    def url(self, role: str, database: str) -> str:
        """The libpq URL of a role that migrations made."""
        return self._server.url(role, PASSWORD, database)

    def create(self, database: str, template: str | None = None) -> None:
        """A database of the owner's, empty or a copy of `template`."""
        if template is None:
            roles = chain.from_iterable(ROLES.values())
            owner, *others = (Login(role, PASSWORD, database) for role in (OWNER, *roles))
            self._server.set_up(owner, others)
            self._databases.append(database)
            return
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
            sql.Identifier(database), sql.Identifier(template), sql.Identifier(OWNER)
        )
        with psycopg.connect(self._server.superuser_url(), autocommit=True) as connection:
            connection.execute(statement)
        self._databases.append(database)

    def drop_all(self, but: Collection[str]) -> None:
        """Drop every database that `create` has made but those named `but`."""
        dropped = [name for name in self._databases if name not in but]
        with psycopg.connect(self._server.superuser_url(), autocommit=True) as connection:
            for name in dropped:
                statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
                connection.execute(statement)
                self._databases.remove(name)

    def use_up_files(self) -> None:
        """Write a gigabyte to the server's own log, whose files are used again from then on.

        A server has done that once it has run for some minutes. Until then each 16 MiB are a new
        file, which takes 20 to 60 ms, and who writes most waits most often.
        """
        with psycopg.connect(self._server.superuser_url(), autocommit=True) as connection:
            connection.execute(FILL_SERVER_LOG)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write out what earlier measurements left, so that the next one does not pay for it."""
        with psycopg.connect(self._server.superuser_url(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")


class Lab:
    """Everything that measurements share; use `Lab.open`.

    Args:
        folder: temporary, also for an unprivileged server.
        keeper: ends what is started here, however this process ends.
        effort: how much is measured.
        ports: to listen on.
    """

    def __init__(self, folder: Path, keeper: Keeper, effort: Effort, ports: Ports) -> None:
        self.folder = folder
        self.keeper = keeper
        self.effort = effort
        self.ports = ports
        self._templates: dict[int, tuple[str, str]] = {}
        self._kept: set[str] = set()
        self._services: list[subprocess.Popen[bytes]] = []
        self._clusters: list[Cluster] = []
        self.long_log: Settings | None = None
        """A log that takes long to fill, for whoever needs one."""

    @classmethod
    @contextmanager
    def open(cls, effort: Effort, ports: Ports) -> Iterator[Lab]:
        """A lab in a folder of its own, which is removed at the end."""
        folder = _temporary_folder()
        try:
            with Keeper() as keeper:
                lab = cls(folder, keeper, effort, ports)
                try:
                    yield lab
                finally:
                    lab.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def newest_service(self) -> psutil.Process:
        """The process that `serve` or `start` has started last."""
        return psutil.Process(self._services[-1].pid)

    def clear(self) -> None:
        """End and drop what a section has made, so that it takes no part in what follows."""
        self._stop_services()
        for cluster in self._clusters:
            cluster.drop_all(but=self._kept)

    def _stop_services(self) -> None:
        while self._services:
            self.keeper.stop(self._services.pop())

    def close(self) -> None:
        """End everything that was started."""
        self._stop_services()
        while self._clusters:
            self._clusters.pop().stop()

    @cached_property
    def write(self) -> Cluster:
        """The cluster of write models; every commit waits for the disk."""
        return self._cluster("write", WRITE_MODEL_SETTINGS)

    @cached_property
    def read(self) -> Cluster:
        """The cluster of read models."""
        return self._cluster("read", READ_MODEL_SETTINGS)

    def _cluster(self, name: str, settings: Mapping[str, str]) -> Cluster:
        binaries, account = find_postgres(os.environ), server_account()
        if binaries is None:
            raise BenchError("no PostgreSQL server found; ./bench.sh installs one")
        server = PostgresServer(
            name=name,
            folder=self.folder / name,
            port=self.ports.free_port(),
            binaries=reachable_binaries(binaries, account, self.folder),
            account=account,
            settings=settings,
        )
        cluster = Cluster(self.keeper, server)
        self._clusters.append(cluster)
        if self.effort.warms_up:
            cluster.use_up_files()
        return cluster

    def stores(self, name: str, partitions: int = 1, *, keep: bool = False) -> BuyOrderSettings:
        """A new empty write model and read model, as the settings of whoever uses them.

        They are gone after the section, unless they are to be kept.
        """
        if keep:
            self._kept.add(name)
        write_template, read_template = self._template(partitions)
        self.write.create(name, write_template)
        self.read.create(name, read_template)
        return self._settings(name, name, partitions)

    def _template(self, partitions: int) -> tuple[str, str]:
        """Migrated stores, made when somebody first asks for so many partitions."""
        if partitions not in self._templates:
            write, read = (f"template_{store}_{partitions}" for store in ("write", "read"))
            self._kept |= {write, read}
            self.write.create(write)
            self.read.create(read)
            migrate(self._settings(write, read, partitions), SYSTEM.contexts)
            self._templates[partitions] = write, read
        return self._templates[partitions]

    def _settings(self, write_model: str, read_model: str, partitions: int) -> BuyOrderSettings:
        chosen = {
            "orderly_home": self.folder / "no home",
            "write_model_owner_url": self.write.url(OWNER, write_model),
            "write_model_url": self.write.url("command_service", write_model),
            "write_model_relay_url": self.write.url("event_relay", write_model),
            "write_model_reader_url": self.write.url("log_reader", write_model),
            "write_model_head_url": self.write.url("log_head_reader", write_model),
            "write_model_reaction_url": self.write.url("reaction_worker", write_model),
            "read_model_owner_url": self.read.url(OWNER, read_model),
            "read_model_url": self.read.url("query_service", read_model),
            "read_model_projector_url": self.read.url("projector", read_model),
            "partitions": partitions,
            "order_book_limit_btc": ORDER_BOOK_LIMIT_BTC,
            "development": True,
            **(UNHURRIED if self.effort.small else {}),
        }
        _check_names(BuyOrderSettings, chosen)
        return BuyOrderSettings.model_validate(chosen)

    def serve(self, settings: Settings, *names: str) -> str:
        """Start services as they are deployed; their address, once ready.

        In one process, unless the settings say that there are several.
        """
        port = self.ports.free_port()
        count = str(settings.service_processes)
        arguments = ["serve", *names, "--port", str(port), "--processes", count]
        return self.start(settings, ["codebase", *arguments], port)

    def start(self, settings: Settings, module: Sequence[str], port: int) -> str:
        """Run `python -m MODULE…`, which serves HTTP on `port`; its address, once ready."""
        return self.run([sys.executable, "-m", *module], _environment(settings), port)

    def run(self, command: Sequence[str | Path], environment: Mapping[str, str], port: int) -> str:
        """Run a program that serves HTTP on `port`; its address, once /readyz says so."""
        program = Program(
            name=f"on-{port}",
            command=command,
            environment=environment,
            directory=PROJECT,
            patience_seconds=PATIENCE_SECONDS,
        )
        log = self.folder / f"{program.name}.log"
        with log.open("ab") as output:
            process = self.keeper.spawn(program, output)
        self._services.append(process)
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address, process, log)
        return address


def changed(settings: Kind, **changes: object) -> Kind:
    """The same settings but for some of them.

    Raises:
        BenchError: there is no such setting any more.
    """
    _check_names(type(settings), changes)
    return settings.model_copy(update=changes)


def _check_names(kind: type[Settings], named: Iterable[str]) -> None:
    # An environment may hold whatever it likes, so that settings ignore what they do not know.
    if unknown := set(named) - set(kind.model_fields):
        raise BenchError(f"there are no settings {', '.join(sorted(unknown))}")


def wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when /readyz answers 200.

    Raises:
        BenchError: the process ended, or does not become ready; the text ends with its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(address):
        if process.poll() is not None or time.monotonic() > deadline:
            end = log.read_text(encoding="utf-8", errors="replace")[-1000:]
            raise BenchError(f"{address} does not become ready: {end}")
        time.sleep(POLL_SECONDS)


def _is_ready(address: str) -> bool:
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def as_owner(settings: Settings, store: str) -> Connection[Any]:
    """A connection for filling a store, `write_model` or `read_model`."""
    url = settings.required(f"{store}_owner_url")
    return connect(url, "bench", options="-c statement_timeout=0")


def _environment(settings: Settings) -> dict[str, str]:
    """The environment that `settings` would be read from."""
    values = settings.model_dump(exclude_defaults=True, mode="json")
    named = {
        name.upper(): ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }
    return {**os.environ, **named, "PYTHONUNBUFFERED": "1"}


def _temporary_folder() -> Path:
    """A folder that the servers' account can enter too."""
    account = server_account()
    for parent in (tempfile.gettempdir(), "/var/tmp", "/var/lib"):  # noqa: S108 - mkdtemp follows
        folder = Path(tempfile.mkdtemp(prefix="orderly-bench-", dir=parent))
        folder.chmod(0o711)
        if can_use(account, folder):
            return folder
        folder.rmdir()
    raise BenchError(f"no temporary folder that {account} can enter")
