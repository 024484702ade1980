"""Servers for the tests: private, on free ports, in a temporary folder, gone at the end.

A guardian process ends them also when pytest itself is killed. A server that is missing fails the
tests that need it, with the command that installs it; nothing is skipped.
"""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import httpx
import hypothesis
import psycopg
import pytest
from psycopg import sql

from bench.ports import Ports
from codebase.embedded.databases import ROLES
from codebase.embedded.keeper import Keeper, Program
from codebase.embedded.postgres_programs import (
    can_use,
    find_postgres,
    reachable_binaries,
    server_account,
)
from codebase.embedded.private_postgres import (
    DISPOSABLE_SETTINGS,
    PostgresServer,
)
from codebase.embedded.private_rabbitmq import USER, RabbitServer, find_rabbitmq
from codebase.foundation.rights import Login
from tests.held import group_of, held
from tests.patience import PATIENCE_SECONDS, be_patient

pytest_plugins = ["tests.databases"]

# How fast a machine is decides no test.
hypothesis.settings.register_profile("orderly", deadline=None)
hypothesis.settings.load_profile("orderly")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on Postgres, so that it can be run again on another one, or partitioned."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


class PostgresUnderTest:
    """A private cluster without durability; `stop`, `start` and `kill` for tests of trouble."""

    owner = "orderly"
    # They live as long as the tests.
    owner_password = "owner of the test databases"  # noqa: S105
    role_password = "of a role in the test cluster"  # noqa: S105

    def __init__(self, keeper: Keeper, server: PostgresServer) -> None:
        self._keeper = keeper
        self._server = server
        self._log = server.folder / "log"
        self.port = server.port
        self.major_version = server.binaries.major

    def superuser_url(self, database: str = "postgres") -> str:
        return self._server.superuser_url(database)

    def program(self, name: str) -> Path:
        """One of the programs that belong to the server, such as pg_dump."""
        return self._server.binaries.folder / name

    @property
    def process_id(self) -> int:
        """Of the server's main process; stopped by a signal it answers no new connection."""
        return self._process.pid

    def url(self, user: str, password: str, database: str) -> str:
        return self._server.url(user, password, database)

    def owner_url(self, database: str) -> str:
        """The URL of the role `orderly`, which owns the databases made here."""
        return self.url(self.owner, self.owner_password, database)

    def create_database(self, name: str, template: str | None = None) -> None:
        """A database owned by `orderly`, empty or a clone of `template`."""
        if template is None:
            self.set_up(name)
            return
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    sql.Identifier(name), sql.Identifier(template), sql.Identifier(self.owner)
                )
            )

    def set_up(self, name: str) -> list[str]:
        """Make a database and every role, as an embedded run does; what they had too much."""
        roles = [
            Login(role, self.role_password, name) for role in chain.from_iterable(ROLES.values())
        ]
        return self._server.set_up(Login(self.owner, self.owner_password, name), roles)

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting off whoever still uses it."""
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def start(self) -> None:
        self._process = _spawn(self._keeper, self._server.program(), self._log)
        self._server.wait_until_ready(lambda: self._process.poll() is None)

    def stop(self) -> None:
        self._keeper.stop(self._process)

    def kill(self) -> None:
        self._process.kill()
        self.stop()


class RabbitUnderTest:
    """A private node with the management plugin; `stop`, `start`, `kill` for tests of trouble."""

    def __init__(self, keeper: Keeper, server: RabbitServer) -> None:
        self._keeper = keeper
        self._server = server
        self._log = server.folder / "node.log"
        self.port = server.port
        self.management_url = f"http://127.0.0.1:{server.management_port}/api"
        self._port_mapper = _spawn(keeper, server.port_mapper_program(), server.folder / "epmd.log")
        server.wait_for_port_mapper()

    def url(self, vhost: str = "/") -> str:
        return self._server.url(vhost)

    def manage(self, method: str, path: str, json: object = None) -> httpx.Response:
        """One request to the management API, `path` below /api; raises on an error answer."""
        answer = httpx.request(
            method,
            f"{self.management_url}/{path}",
            json=json,
            auth=(USER, self._server.password),
        )
        return answer.raise_for_status()

    def add_vhost(self, name: str) -> str:
        """Make a virtual host of one's own; its URL."""
        self.manage("PUT", f"vhosts/{quote(name, safe='')}")
        return self.url(name)

    def delete_vhost(self, name: str) -> None:
        self.manage("DELETE", f"vhosts/{quote(name, safe='')}")

    def start(self) -> None:
        self._process = _spawn(self._keeper, self._server.program(), self._log)
        self._server.wait_until_ready(lambda: self._process.poll() is None)

    def stop(self) -> None:
        self._keeper.stop(self._process)

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The node hears nothing and says nothing, and its connections stay."""
        with held(group_of(self._process.pid)):
            yield

    def close(self) -> None:
        # A graceful stop with the management plugin takes seconds, for nothing we still need.
        self.kill()
        self._keeper.stop(self._port_mapper)


def _spawn(keeper: Keeper, program: Program, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return keeper.spawn(program, output)


@pytest.fixture(scope="session")
def ports() -> Ports:
    """Those that are this process's own, of the processes that share the tests."""
    return Ports(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


@pytest.fixture(scope="session")
def free_port(ports: Ports) -> Callable[[], int]:
    """Call it for a free loopback port, never the same twice."""
    return ports.free_port


@pytest.fixture(scope="session", autouse=True)
def _patient_clients() -> None:
    """Five seconds, as httpx has it, are what a busy machine may take for any answer."""
    # One object, which each function and class of httpx has for its default.
    timeout = inspect.signature(httpx.get).parameters["timeout"].default
    timeout.connect = timeout.read = timeout.write = timeout.pool = PATIENCE_SECONDS
    assert httpx.Client().timeout == httpx.AsyncClient().timeout == httpx.Timeout(PATIENCE_SECONDS)


@pytest.fixture(scope="session", autouse=True)
def _patient_connections() -> None:
    """Three seconds, as services have them, are what a busy server may take for any connection."""
    be_patient()


@pytest.fixture(scope="session", autouse=True)
def _no_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All is plain HTTP here; reading this machine's certificates costs each httpx client 30 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("no-certificates")))
        yield


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    """Starts programs that end with this session, however it ends."""
    with Keeper() as keeper:
        yield keeper


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that an unprivileged server can enter too; pytest's own folders are closed to it."""
    account = server_account()
    for parent in (tempfile.gettempdir(), "/var/tmp", "/var/lib"):  # noqa: S108 - mkdtemp follows
        folder = Path(tempfile.mkdtemp(prefix="orderly-tests-", dir=parent))
        folder.chmod(0o711)
        if can_use(account, folder):
            break
        folder.rmdir()
    else:
        pytest.fail(f"no temporary folder that {account} can enter")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(
    keeper: Keeper, server_folder: Path, free_port: Callable[[], int]
) -> Iterator[PostgresUnderTest]:
    """One private cluster for write and read databases alike; clone templates for speed."""
    binaries = find_postgres(os.environ)
    if binaries is None:
        pytest.fail("no PostgreSQL server found; ./test.sh installs one")
    account = server_account()
    server = PostgresServer(
        name="postgres",
        folder=server_folder / "postgres",
        port=free_port(),
        binaries=reachable_binaries(binaries, account, server_folder),
        account=account,
        settings=DISPOSABLE_SETTINGS,
    )
    server.prepare()
    under_test = PostgresUnderTest(keeper, server)
    under_test.start()
    yield under_test
    under_test.stop()


@pytest.fixture(scope="session")
def rabbitmq_server(
    keeper: Keeper, server_folder: Path, free_port: Callable[[], int]
) -> Iterator[RabbitUnderTest]:
    """One private node; give each test a virtual host of its own with `add_vhost`."""
    binaries = find_rabbitmq(os.environ)
    if binaries is None:
        pytest.fail("no RabbitMQ server found; ./test.sh installs one or says how")
    server = RabbitServer(
        name="rabbitmq",
        folder=server_folder / "rabbitmq",
        port=free_port(),
        distribution_port=free_port(),
        port_mapper_port=free_port(),
        management_port=free_port(),
        binaries=binaries,
    )
    server.prepare()
    under_test = RabbitUnderTest(keeper, server)
    under_test.start()
    yield under_test
    under_test.close()
