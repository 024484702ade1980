"""The cluster, as an operator starts it, and the tests of the running system pointed at it.

Every test is a client of its own, whose orders and accounts are its own, so that tests which were
written for an empty system find one. `./test.sh docker` runs this; it needs an engine and images.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from psycopg import sql

from codebase.foundation.settings import Settings
from codebase.foundation.tokens import new_token
from codebase.registry import SYSTEM
from tests.acceptance.conftest import PROJECT, System, until
from tests.acceptance.test_accounts import Management

if TYPE_CHECKING:
    import signal

ADDRESS = "127.0.0.7"  # so that nothing of this machine is in the way
CLIENTS = 80
PORTS = {
    "create_buy_order": 8777,
    "fetch_buy_orders": 8778,
    "btc_price": 8779,
    "place_order": 8001,
    "price_record": 8002,
    "get_orders": 8020,
    "create_account": 9091,
    "create_agent": 9092,
    "block_agent": 9093,
    "fetch_accounts": 9094,
    "fetch_agents": 9095,
    "set_price": 9096,
    "compliance": 8060,
    "billing": 8070,
    "vip_customers": 8073,
    "fraud_police": 8090,
    "alertman": 8083,
    "transact": 9001,
    "payment_provider": 9002,
}
"""Of the gateway, for each service that answers clients; the others are ready when healthy."""
GROUPS = {"account_management": 9090, "everything": 80}
STORES = ("write_model", "read_model")
RESTRICT_LOG = "CREATE TEMP VIEW event AS SELECT * FROM public.event WHERE meta ->> 'actor' = {}"


def run(*command: str, environment: dict[str, str]) -> str:
    """The output of a program; fails with what it says when it fails."""
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


class Cluster:
    """A running cluster: its containers, its addresses, its secrets."""

    def __init__(self, folder: Path) -> None:
        self._env_file = folder / "docker.env"
        self.environment = {
            **os.environ,
            "ENV_FILE": str(self._env_file),
            "COMPOSE_PROJECT_NAME": "orderly-test",
            "COMPOSE_FILE": "docker-compose.yml:tests/containers/docker-compose.yml",
            "PUBLISH_ADDRESS": ADDRESS,
            "LOOPBACK_ADDRESS": ADDRESS,
        }
        self._clients: Iterator[tuple[str, str]] = iter(())

    def add_clients(self) -> None:
        """Make the secrets, and a token for each test to come."""
        run("docker/secrets.sh", environment=self.environment)
        secrets, entries = zip(
            *(new_token(f"test-{number}", "client") for number in range(CLIENTS)), strict=True
        )
        with self._env_file.open("a") as file:
            file.write(f"API_TOKENS={','.join([self.secret('API_TOKENS'), *entries])}\n")
        self._clients = iter([(f"test-{number}", secret) for number, secret in enumerate(secrets)])

    def next_client(self) -> tuple[str, str]:
        """Name and token of a client that nobody was before."""
        return next(self._clients)

    def secret(self, name: str) -> str:
        pairs = (line.split("=", 1) for line in self._env_file.read_text().splitlines())
        return dict(pairs)[name]

    def up(self, *arguments: str) -> str:
        """`./run.sh docker`; what it prints."""
        return run("./run.sh", "docker", *arguments, environment=self.environment)

    def compose(self, *arguments: str) -> str:
        return run("docker/compose.sh", *arguments, environment=self.environment)

    def docker(self, *arguments: str) -> str:
        return run("docker", *arguments, environment=self.environment).strip()

    def containers(self, *filters: str) -> list[str]:
        """Ids, also of those that do not run."""
        chosen = [f"--filter={each}" for each in filters]
        project = "--filter=label=com.docker.compose.project=orderly-test"
        return self.docker("ps", "--all", "--quiet", "--no-trunc", project, *chosen).split()

    def of_service(self, name: str) -> list[str]:
        return self.containers(f"label=com.docker.compose.service={name}")

    def heal(self) -> None:
        """Everything that an earlier test has stopped runs again."""
        stopped = self.lasting() & set(self.containers("status=exited"))
        if stopped:
            self.docker("start", *sorted(stopped))
        until(self.is_healthy, "the cluster is not healthy")

    def is_healthy(self) -> bool:
        return self.lasting() <= set(self.containers("health=healthy"))

    def lasting(self) -> set[str]:
        """All containers but the one that makes the roles, and ends by itself."""
        return set(self.containers()) - set(self.of_service("roles"))


class Containers:
    """The containers of one service, with the same handles as a process of the acceptance tests."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name
        self.port = {**PORTS, **GROUPS}.get(name, 0)
        self.url = f"http://{ADDRESS}:{self.port}"

    @property
    def id(self) -> str:
        return self._cluster.of_service(self.name)[0]

    def start(self) -> Containers:
        self._cluster.docker("start", self.id)
        return self

    def wait_until_ready(self) -> Containers:
        until(self.is_ready, f"{self.name} is not ready")
        return self

    def is_ready(self) -> bool:
        """As its own /readyz says, through the gateway or in its health check."""
        if self.name in GROUPS:
            # There is nothing behind the address but services that were healthy a moment ago.
            return httpx.get(f"{self.url}/healthz").status_code == httpx.codes.OK
        if not self.port:
            return bool(
                self._cluster.containers(
                    f"label=com.docker.compose.service={self.name}", "health=healthy"
                )
            )
        return httpx.get(f"{self.url}/readyz").status_code == httpx.codes.OK

    def signal(self, number: signal.Signals) -> None:
        self._cluster.docker("kill", "--signal", str(int(number)), self.id)

    def wait(self) -> int:
        """The exit status."""
        return int(self._cluster.docker("wait", self.id))

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self._cluster.docker("stop", "--time", "15", self.id)
        return self.wait()

    def kill(self) -> None:
        self._cluster.docker("kill", self.id)

    def log(self) -> str:
        return self._cluster.docker("logs", "--tail", "30", self.id)


class OwnShareOfLog:
    """The databases, and of the log what one client has done."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._cluster = cluster
        self._client = client
        stores = [Containers(cluster, name) for name in STORES]
        self.server = SimpleNamespace(
            stop=lambda: [store.stop() for store in stores],
            start=lambda: [store.start() for store in stores],
        )

    def as_owner(self) -> psycopg.Connection:
        connection = psycopg.connect(
            host=ADDRESS,
            port=5433,
            # The owner makes no temporary views.
            user="postgres",
            password=self._cluster.secret("WRITE_MODEL_SUPERUSER_PASSWORD"),
            dbname="write_model",
            autocommit=True,
        )
        # Names are looked up among a session's temporary ones first.
        connection.execute(sql.SQL(RESTRICT_LOG).format(sql.Literal(self._client)))
        return connection


class SystemInContainers(System):
    """The cluster, as one client sees it, in the place of processes that tests start themselves."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self.cluster = cluster
        self.client = client
        self.services: dict[str, Any] = {name: Containers(cluster, name) for name in SYSTEM.names()}
        self.databases = OwnShareOfLog(cluster, client)  # type: ignore[assignment]
        self.environment = {
            "BROKER_URL": f"amqp://orderly:{cluster.secret('BROKER_PASSWORD')}@{ADDRESS}:5672/%2F"
        }

    def start(self, *_names: str, **environment: str) -> SystemInContainers:
        """It runs already; what a test would configure differently it cannot test here."""
        assert not environment, "a container's environment is not for a test to choose"
        return self

    def verify(self) -> str:
        """What `orderly verify` prints in a container; empty when everything is as the log says."""
        done = subprocess.run(
            ["docker", "exec", self["migration"].id, "orderly", "verify"],
            env=self.cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started from nothing, gone at the end with its volumes."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.add_clients()
    try:
        print(cluster.up())  # noqa: T201 - shown when something fails
        yield cluster
    finally:
        cluster.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """The cluster, all of it healthy."""
    running_cluster.heal()
    return running_cluster


@pytest.fixture
def system(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> SystemInContainers:
    """The cluster for a new client, whose token goes with every request that has none."""
    name, token = cluster.next_client()
    build_request = httpx.Client.build_request

    def with_token(client: httpx.Client, *args: Any, **options: Any) -> httpx.Request:  # noqa: ANN401
        request = build_request(client, *args, **options)
        request.headers.setdefault("Authorization", f"Bearer {token}")
        return request

    monkeypatch.setattr(httpx.Client, "build_request", with_token)
    return SystemInContainers(cluster, name)


@pytest.fixture
def system_in_one_process(system: SystemInContainers) -> SystemInContainers:
    """One process or twenty containers: the contract is the same."""
    return system


@pytest.fixture
def databases(system: SystemInContainers) -> OwnShareOfLog:
    return system.databases  # type: ignore[return-value]


@pytest.fixture
def rabbitmq_server(cluster: Cluster) -> Containers:
    return Containers(cluster, "queue")


@pytest.fixture
def with_broker(system: SystemInContainers) -> Settings:
    """The cluster's own broker."""
    return Settings(broker_url=system.environment["BROKER_URL"])


class ManagementInContainers(Management):
    """Account management behind the gateway's one address for it."""

    def __init__(self, system: SystemInContainers) -> None:
        self.system = system
        self.service = Containers(system.cluster, "account_management")  # type: ignore[assignment]
        self._client = httpx.Client(base_url=self.service.url)

    def start(self, **environment: str) -> Management:
        assert not environment
        return self

    def stop(self) -> None:
        self._client.close()


@pytest.fixture
def new_management(system: SystemInContainers) -> Iterator[Callable[[], Management]]:
    with ExitStack() as stack:

        def make() -> Management:
            made = ManagementInContainers(system)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def management(new_management: Callable[[], Management]) -> Management:
    return new_management()


def lines_of_log(cluster: Cluster, service: str) -> list[str]:
    """What FluentD has written of a service, or as `errors`."""
    pattern = rf"^/fluentd/log/{service}/\d{{4}}-\d\d-\d\d\.log$"
    files = cluster.compose("exec", "-T", "log", "find", "/fluentd/log", "-name", "*.log").split()
    chosen = [file for file in files if re.match(pattern, file)]
    return cluster.compose("exec", "-T", "log", "cat", *chosen).splitlines() if chosen else []
