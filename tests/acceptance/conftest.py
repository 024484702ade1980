"""The whole system as processes of its own, through its ports only."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest

from tests import processes
from tests.acceptance.embedded_runs import EmbeddedRun
from tests.patience import PATIENCE_SECONDS, UNHURRIED

if TYPE_CHECKING:
    from bench.ports import Ports
    from codebase.embedded.keeper import Keeper
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases

PROJECT = Path(__file__).parents[2]
SERVICES = (
    "btc_price",
    "create_buy_order",
    "fetch_buy_orders",
    "event_relay",
    "read_model_sync",
)
POLL_SECONDS = 0.02


def until(condition: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Look again and again until `condition` holds; fail saying `what` if it never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    moment = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(what if isinstance(what, str) else what())
        moment.wait(POLL_SECONDS)


class Service:
    """One process of one or more services, which tests kill and start again."""

    def __init__(self, system: System, names: Sequence[str], port: int) -> None:
        self._system = system
        self.names = names
        self.name = "+".join(names)
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._process: BaseProcess | None = None

    def start(self, **environment: str) -> Service:
        """Start it; `environment` is for this start only."""
        arguments = ["serve", *self.names, "--port", str(self._port)]
        with (self._system.folder / f"{self.name}.log").open("ab") as output:
            self._process = processes.start(
                arguments, {**self._system.environment, **environment}, output
            )
        return self

    def wait_until_ready(self) -> Service:
        """Wait for 200 from /readyz."""
        until(self.is_ready, lambda: f"{self.name} is not ready:\n{self.log()[-2000:]}")
        return self

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    @property
    def process(self) -> BaseProcess:
        assert self._process is not None
        return self._process

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        """The exit status."""
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, f"{self.name} runs on"
        return self.process.exitcode

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process.is_alive():
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once, if it was ever started."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def log(self) -> str:
        return (self._system.folder / f"{self.name}.log").read_text(errors="replace")


class System:
    """Every service as a process, on databases and a virtual host of this test's own."""

    def __init__(
        self,
        folder: Path,
        databases: Databases,
        broker_url: str | None,
        free_port: Callable[[], int],
        *,
        in_one_process: bool = False,
    ) -> None:
        self.folder = folder
        self.databases = databases
        self._free_port = free_port
        self._others: list[Service] = []
        groups = [SERVICES] if in_one_process else [(name,) for name in SERVICES]
        self.services = {
            name: service
            for service in (Service(self, names, free_port()) for names in groups)
            for name in service.names
        }
        addresses = {
            name.upper(): value
            for name, value in databases.settings
            if name.endswith("_model_url") or name.startswith(("write_model_", "read_model_"))
            if isinstance(value, str)
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "ORDERLY_HOME": str(folder),
            "DEVELOPMENT": "true",
            "BTC_PRICE_SOURCES": "demo",
            "BTC_PRICE_URL": self["btc_price"].url,
            "PARTITIONS": str(databases.settings.partitions),
            **{name.upper(): str(value) for name, value in UNHURRIED.items()},
            **addresses,
            **({"BROKER_URL": broker_url} if broker_url else {}),
        }

    def __getitem__(self, name: str) -> Service:
        return self.services[name]

    def another(self, *names: str) -> Service:
        """One more process, of services or groups of them; not started yet, ended with the rest."""
        self._others.append(Service(self, names, self._free_port()))
        return self._others[-1]

    def start(self, *names: str, **environment: str) -> System:
        """Start services, all of them by default, and wait until they are ready."""
        chosen = {id(self[name]): self[name] for name in names or SERVICES}.values()
        for service in chosen:
            service.start(**environment)
        for service in chosen:
            service.wait_until_ready()
        return self

    def stop(self) -> None:
        for service in [*self.services.values(), *self._others]:
            service.kill()

    def put(
        self, key: str | None = None, amount: str = "100", currency: str = "USD", **options: object
    ) -> httpx.Response:
        """One PUT /buy_order."""
        body = {"currency": currency, "amount": amount, "idempotence_key": key or str(uuid4())}
        url = f"{self['create_buy_order'].url}/buy_order"
        return httpx.put(url, json=body, **options)  # type: ignore[arg-type]

    def put_until_answered(self, key: str, amount: str = "100") -> httpx.Response:
        """As clients do: the same request again until it is answered."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            try:
                answers.append(self.put(key, amount))
            except httpx.TransportError:
                return False
            return answers[-1].status_code < httpx.codes.INTERNAL_SERVER_ERROR

        until(answered, f"no answer for {key}")
        return answers[-1]

    def pages(self, page_size: int = 100, **options: object) -> Iterator[dict[str, str]]:
        """Every order that the pages show, newest first."""
        reference: dict[str, str] = {}
        while True:
            answer = httpx.get(
                f"{self['fetch_buy_orders'].url}/buy_orders",
                params={"page_size": str(page_size), **reference},
                **options,  # type: ignore[arg-type]
            )
            page = answer.raise_for_status().json()
            yield from page["rows"]
            if not page["rows"]:
                return
            reference = {"last_reference": page["last_reference"]}

    def shown(self) -> list[str]:
        """The ids of every order that the pages show."""
        return [order["id"] for order in self.pages(1000)]

    def verify(self) -> str:
        """What `orderly verify` prints; empty when everything is as the log says."""
        done = processes.run(["verify"], self.environment)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def until_shown(self, ids: set[str]) -> None:
        """Wait until the pages show exactly these orders."""
        until(lambda: set(self.shown()) == ids, f"the pages do not show {len(ids)} orders")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def system(
    folder: Path,
    databases: Databases,
    rabbitmq_server: RabbitUnderTest,
    free_port: Callable[[], int],
) -> Iterator[System]:
    """The whole system with a broker; nothing is started yet."""
    vhost = f"test-{uuid4()}"
    made = System(folder, databases, rabbitmq_server.add_vhost(vhost), free_port)
    yield made
    made.stop()
    rabbitmq_server.delete_vhost(vhost)


@pytest.fixture
def system_in_one_process(
    folder: Path,
    databases: Databases,
    rabbitmq_server: RabbitUnderTest,
    free_port: Callable[[], int],
) -> Iterator[System]:
    """The whole system with a broker, all services in one process; nothing is started yet."""
    vhost = f"test-{uuid4()}"
    broker_url = rabbitmq_server.add_vhost(vhost)
    made = System(folder, databases, broker_url, free_port, in_one_process=True)
    yield made
    made.stop()
    rabbitmq_server.delete_vhost(vhost)


@pytest.fixture
def system_without_broker(
    folder: Path, databases: Databases, free_port: Callable[[], int]
) -> Iterator[System]:
    """The whole system fed from the log; nothing is started yet."""
    made = System(folder, databases, None, free_port, in_one_process=True)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def start(
    keeper: Keeper, server_folder: Path, ports: Ports
) -> Iterator[Callable[..., EmbeddedRun]]:
    """Start a run; by default in a new home and at a free offset. All are stopped at the end."""
    runs: list[EmbeddedRun] = []

    def start_run(
        *arguments: str, home: Path | None = None, offset: int | None = None, **environment: str
    ) -> EmbeddedRun:
        run = EmbeddedRun(
            keeper,
            home or server_folder / f"home-{uuid4().hex[:8]}",
            ports.free_offset() if offset is None else offset,
            *arguments,
            **environment,
        )
        runs.append(run)
        return run

    yield start_run
    for run in runs:
        if run.process.poll() is None:
            run.process.terminate()
    for run in runs:
        run.ended()
