"""The embedded run as an operator sees it: started, hurt, killed, stopped and started again."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from codebase.embedded import databases
from codebase.embedded.databases import FALLBACK_FOLDER
from codebase.embedded.local_stack import SERVER_PORTS
from codebase.embedded.postgres_programs import server_account
from codebase.foundation.needs import SECRETS
from codebase.registry import SYSTEM
from tests.acceptance.embedded_runs import (
    PROJECT,
    SERVICE_PORTS,
    EmbeddedRun,
    script_environment,
)
from tests.patience import PATIENCE_SECONDS

# As after `. .local/environment`, of another home.
OF_THE_SHELL = {
    "WRITE_MODEL_OWNER_URL": "postgresql://orderly:of-the-shell@127.0.0.1/elsewhere",
    "WRITE_MODEL_SUPERUSER_URL": "postgresql://postgres:of-the-shell@127.0.0.1/elsewhere",
    "TWO_FA": "of-the-shell-too",
    "SOMETHING_ELSE": "of-the-shell",
}


def environment_of(process: psutil.Process) -> dict[str, str]:
    """What /proc shows to whoever may look."""
    try:
        shown = Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return dict(entry.split("=", 1) for entry in shown.split("\0") if "=" in entry)


def still_running(
    processes: list[psutil.Process], timeout_seconds: float = PATIENCE_SECONDS
) -> list[psutil.Process]:
    """Those that have not ended by then; one that only waits for init to reap it has ended."""
    _, left = psutil.wait_procs(processes, timeout_seconds)
    return [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def run(start: Callable[..., EmbeddedRun]) -> EmbeddedRun:
    """A run that the tests share; each leaves it as it found it."""
    return start(**OF_THE_SHELL).ready()


def test_an_order_put_by_the_printed_curl_command_is_listed(run: EmbeddedRun) -> None:
    command = run.wait_for(r"try: (curl .*)")[1]
    printed = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    order = httpx.Response(200, text=printed.stdout).json()["buy_order"]
    assert order["currency_amount"] == "123.45"
    assert order["id"] in run.listed_keys(run.put(str(uuid.uuid4())))


def test_the_scripts_put_an_order_and_page_through_the_list(run: EmbeddedRun) -> None:
    def script(*command: str) -> dict[str, Any]:
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=script_environment(run),
            capture_output=True,
            text=True,
            check=True,
        )
        answer: dict[str, Any] = httpx.Response(200, text=done.stdout).json()
        return answer

    key = str(uuid.uuid4())
    assert script("./put_buy_order.sh", "USD", "5.00", key)["idempotence_key"] == key
    for _ in range(20):
        placed = script("./put_buy_order.sh", "USD", "5.00")["buy_order"]
        rows = script("./get_buy_orders.sh")["rows"]
        assert rows[0]["id"] == placed["id"], "an order is listed as soon as it is placed"
    following = script("./get_buy_orders_pass_last_ref.sh", placed["id"], "1")
    assert following["rows"] == rows[1:2]


def test_the_environment_file_holds_its_passwords_for_us_alone(run: EmbeddedRun) -> None:
    file = run.home / "environment"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    names = {line.partition("=")[0] for line in file.read_text().splitlines()}
    assert names >= {"WRITE_MODEL_URL", "READ_MODEL_URL", "WRITE_MODEL_OWNER_URL", "ORDERLY_HOME"}
    assert {"FINGERPRINT_KEYS", "CARD_KEYS"} <= names


def test_no_process_shows_a_secret_of_the_shell_or_of_another(run: EmbeddedRun) -> None:
    written = dict(line.split("=", 1) for line in (run.home / "environment").read_text().split())
    secrets = {value for name, value in written.items() if name.lower() in SECRETS}
    secrets |= {(run.home / store / "superuser_password").read_text() for store in databases.PORTS}
    assert len(secrets) > len(databases.PORTS) + len(databases.ROLES)
    environments = run.of_each(environment_of)
    assert len(environments) > len(SERVICE_PORTS)
    for process, environment in environments.items():
        shown = environment.items()
        assert not [name for name, value in shown if any(secret in value for secret in secrets)]
        assert not [name for name, value in shown if "of-the-shell" in value], process


def test_the_servers_listen_on_loopback_only(run: EmbeddedRun) -> None:
    addresses = {
        connection.laddr.ip
        for connections in run.of_each(psutil.Process.net_connections).values()
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    }
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::1"}


REACTIONS = {"alertman", "compliance", "transact"}
COMMANDS = {"create_buy_order", "place_order", "account_management", "fraud_police"} | REACTIONS
PROJECTORS = {"read_model_sync", "billing", "fraud_police", "vip_customers"} | REACTIONS
TOLD_BY = {
    "commands": COMMANDS,
    "reactions": REACTIONS,
    "queries": {"fetch_buy_orders", "get_orders", "account_management"}
    | PROJECTORS - {"read_model_sync"},
    "projectors": PROJECTORS,
    "block_agent": {"account_management"},
    "all": set(SERVICE_PORTS),
}


def told_by() -> dict[str, set[str]]:
    """Metric -> the processes that the operations guide says tell of it."""
    guide = (PROJECT / "docs/operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(orderly_\w+)` \|[^|]*\|([^|]*)\|", guide, re.MULTILINE)
    return {
        name: set[str]().union(*(TOLD_BY.get(who, {who}) for who in cell.strip().split(", ")))
        for name, cell in rows
    }


def test_each_process_tells_what_the_guide_says_and_nothing_else(run: EmbeddedRun) -> None:
    run.listed_keys(run.put(str(uuid.uuid4())))
    known = told_by()
    seen: dict[str, set[str]] = {name: set() for name in known}
    for process in SERVICE_PORTS:
        text = httpx.get(run.url(process, "metrics")).raise_for_status().text
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if name.startswith("orderly_") and any(sample.value for sample in family.samples):
                seen[name].add(process)
    for name, processes in seen.items():
        assert processes <= known[name], name
    for name in ("orderly_append_seconds", "orderly_read_batch_size", "orderly_ready"):
        assert seen[name], name
    assert seen["orderly_projection_leads"] == PROJECTORS
    assert seen["orderly_http_requests_total"] == set(SERVICE_PORTS)


@pytest.mark.parametrize("name", ["create_buy_order", "read_model_sync"])
def test_a_killed_service_is_started_again_and_the_output_says_so(
    run: EmbeddedRun, name: str
) -> None:
    killed = run.service(name)
    killed.kill()
    run.wait_for(rf"{name} ended unexpectedly \(killed by SIGKILL\); starting it again")
    wait_until_healthy(run.url(name, "readyz"))
    assert run.service(name).pid != killed.pid
    assert run.listed_keys(run.put(str(uuid.uuid4())))


def test_a_killed_write_model_comes_back_and_with_it_the_commands(run: EmbeddedRun) -> None:
    data = str(run.home / "write_model" / "data")
    run.with_argument(lambda line: data in line).kill()
    run.wait_for(r"write_model ended unexpectedly")
    key = str(uuid.uuid4())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := run.put(key)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        # As a client does: the same order again, which the service answers within its deadline.
        assert time.monotonic() < deadline, answer.text
    assert answer.status_code == 200
    assert answer.json()["buy_order"]["id"] in run.listed_keys(answer)


def test_services_outlive_what_they_were_forked_from_and_are_still_started_again(
    start: Callable[..., EmbeddedRun],
) -> None:
    run = start(RABBITMQ_SERVER="none", **OF_THE_SHELL).ready()
    services = {name: run.service(name) for name in SERVICE_PORTS}
    template, killed = services["billing"].parent(), services.pop("fetch_buy_orders")
    assert template is not None
    template.kill()
    killed.kill()
    run.wait_for("fetch_buy_orders ended unexpectedly")
    wait_until_healthy(run.url("fetch_buy_orders", "readyz"))
    # An interpreter of its own, as nothing is there to be forked from.
    started = run.service("fetch_buy_orders")
    assert started.ppid() == run.process.pid
    told = SECRETS & {name.lower() for name in environment_of(started)}
    assert told == SYSTEM.needs_of(["fetch_buy_orders"])
    assert "SOMETHING_ELSE" not in environment_of(started)
    answer = run.put(str(uuid.uuid4()))
    assert run.listed_keys(answer) == [answer.json()["buy_order"]["id"]]
    assert all(process.is_running() for process in services.values())
    everything = [*services.values(), *run.descendants()]
    assert run.stop() == 0
    assert still_running(everything, 0) == []


def wait_until_healthy(url: str) -> None:
    """Ask until the answer is 200; the transport's own retries pace the questions."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    answer = "nothing"
    with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:
        while time.monotonic() < deadline:
            try:
                response = client.get(url)
            except httpx.TransportError as error:
                answer = repr(error)
                continue
            if response.status_code == httpx.codes.OK:
                return
            answer = response.text
    pytest.fail(f"{url}: {answer}")


def test_a_second_up_on_the_same_home_is_refused(
    run: EmbeddedRun, start: Callable[..., EmbeddedRun]
) -> None:
    second = start(home=run.home)
    assert second.ended() == 1
    assert f"already running on {run.home}" in second.output
    assert "ORDERLY_HOME" in second.output


def test_an_occupied_port_is_named_before_anything_is_started(
    run: EmbeddedRun, start: Callable[..., EmbeddedRun]
) -> None:
    second = start(offset=run.offset)
    assert second.ended() == 1
    assert re.search(
        rf"port {SERVER_PORTS['write_model'] + run.offset} .*PORT_OFFSET", second.output
    )
    assert not (second.home / "write_model").exists()


def test_a_second_run_beside_it_has_its_own_orders(
    run: EmbeddedRun, start: Callable[..., EmbeddedRun]
) -> None:
    second = start().ready()
    run.put(str(uuid.uuid4()))
    key = str(uuid.uuid4())
    mine, theirs = run.put(key), second.put(key)
    assert theirs.json()["buy_order"]["id"] in second.listed_keys(theirs)
    assert second.listed_keys(theirs) == [theirs.json()["buy_order"]["id"]]
    assert len(run.listed_keys(mine)) > 1
    assert second.stop() == 0
    assert run.put(key).status_code == 200


def test_a_stop_leaves_nothing_running_and_a_start_continues_with_the_same_data(
    start: Callable[..., EmbeddedRun],
) -> None:
    first = start().ready()
    order = first.put(key := str(uuid.uuid4())).json()["buy_order"]
    before = (first.home / "environment").read_text()
    everything = first.descendants()
    assert first.stop() == 0
    assert still_running(everything, 0) == []

    again = start(home=first.home, offset=first.offset).ready()
    repeat = again.put(key)
    assert repeat.headers["Idempotent-Replayed"] == "true"
    assert repeat.json()["buy_order"] == order
    assert again.listed_keys(repeat) == [order["id"]]
    assert (again.home / "environment").read_text() == before
    again.stop()


def test_kill_9_of_the_parent_leaves_nothing_running_and_loses_nothing(
    start: Callable[..., EmbeddedRun],
) -> None:
    first = start().ready()
    answer = first.put(str(uuid.uuid4()))
    everything = first.descendants()
    assert len(everything) > len(SERVICE_PORTS)
    first.process.kill()
    # At once, while the guardian may still be at work: the lock makes the new run wait for it.
    again = start(home=first.home, offset=first.offset)
    assert still_running(everything) == []
    again.ready()
    assert answer.json()["buy_order"]["id"] in again.listed_keys(answer)
    again.stop()


def test_kill_9_while_it_is_starting_leaves_nothing_running(
    start: Callable[..., EmbeddedRun],
) -> None:
    starting = start()
    environment_file = starting.home / "environment"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not environment_file.exists():
        assert time.monotonic() < deadline
        with pytest.raises(subprocess.TimeoutExpired):
            starting.process.wait(0.01)
    everything = starting.descendants()
    starting.process.kill()
    assert still_running(everything) == []


def test_without_rabbitmq_the_log_is_the_feed_and_the_output_says_so(
    start: Callable[..., EmbeddedRun],
) -> None:
    alone = start(RABBITMQ_SERVER="none").ready()
    assert "the log itself feeds the readers" in alone.output
    assert "BROKER_URL" not in (alone.home / "environment").read_text()
    answer = alone.put(str(uuid.uuid4()))
    assert alone.listed_keys(answer) == [answer.json()["buy_order"]["id"]]
    alone.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's Postgres runs as that user")
def test_as_root_a_home_closed_to_others_puts_the_databases_elsewhere_and_says_where(
    start: Callable[..., EmbeddedRun],
) -> None:
    closed = Path(tempfile.mkdtemp())
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    first = start(home=closed / "home").ready()
    folder = Path(first.wait_for(r"the databases live in (\S+);")[1])
    try:
        account = server_account()
        assert account is not None
        assert folder.parent == FALLBACK_FOLDER
        assert (folder / "write_model" / "data").owner() == account.name
        order = first.put(key := str(uuid.uuid4())).json()["buy_order"]
        first.stop()
        again = start(home=closed / "home", offset=first.offset).ready()
        assert again.put(key).json()["buy_order"] == order
        again.stop()
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(closed)


def as_superuser(run: EmbeddedRun, store: str, statement: str) -> None:
    password = (run.home / store / "superuser_password").read_text()
    with psycopg.connect(
        host="127.0.0.1",
        port=databases.PORTS[store] + run.offset,
        user="postgres",
        password=password,
        autocommit=True,
    ) as connection:
        connection.execute(statement.encode())


def test_the_stores_alone_are_there_for_whoever_restores_them(
    start: Callable[..., EmbeddedRun],
) -> None:
    run = start("--stores")
    run.wait_for("only the stores are up")
    environment = {**os.environ, "ORDERLY_HOME": str(run.home)}
    command = [sys.executable, "-m", "codebase", "migrate"]
    subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True)
    with pytest.raises(httpx.ConnectError):
        httpx.get(run.url("migration", "healthz"))
    # As homes of before 0.2 have it.
    as_superuser(run, "write_model", "ALTER ROLE orderly CREATEROLE")
    assert run.stop() == 0
    again = start(home=run.home, offset=run.offset).ready()
    assert "orderly of write_model is no longer CREATEROLE" in again.output
    assert again.put(str(uuid.uuid4())).status_code == 200
    assert again.stop() == 0
