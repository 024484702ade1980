"""What only a cluster has: images, a gateway, scaling, log files, volumes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import pytest

from codebase.registry import SYSTEM
from tests.acceptance.conftest import until
from tests.acceptance.test_accidents import assert_consistent, load
from tests.containers.conftest import (
    ADDRESS,
    GROUPS,
    Cluster,
    Containers,
    SystemInContainers,
    lines_of_log,
    run,
)
from tests.patience import PATIENCE_SECONDS

GATEWAYS_OWN_DEADLINE_SECONDS = 60
"""What nginx would give its clients; it is told to give them 10 s."""
REQUESTS = "orderly_http_requests_total"
# Runs in the container, where only Python is.
FETCH_METRICS = """
import sys, urllib.request
asked = urllib.request.Request("http://127.0.0.1:8080/metrics", headers={"X-Token": sys.argv[1]})
print(urllib.request.urlopen(asked).read().decode())
"""


def inspect(cluster: Cluster, containers: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.docker("inspect", *containers))
    return found


def answered_orders(cluster: Cluster, container: str) -> float:
    """How many PUT /buy_order a container has answered with 200."""
    token = cluster.secret("METRICS_TOKEN")
    metrics = cluster.docker("exec", container, "python", "-c", FETCH_METRICS, token)
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith(REQUESTS) and '"/buy_order"' in line and '"200"' in line
    )


def test_every_service_runs_and_can_do_no_more_than_it_must(cluster: Cluster) -> None:
    for name in SYSTEM.names():
        (container,) = inspect(cluster, cluster.of_service(name))
        host, config = container["HostConfig"], container["Config"]
        assert container["State"]["Health"]["Status"] == "healthy", name
        assert config["User"] == "10001"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Init"]
        assert not host["PortBindings"]


def test_nothing_is_published_beyond_this_machine(cluster: Cluster) -> None:
    for container in inspect(cluster, cluster.containers()):
        for bindings in container["HostConfig"]["PortBindings"].values():
            assert {binding["HostIp"] for binding in bindings} == {ADDRESS}, container["Name"]


def test_no_secret_is_in_an_image(cluster: Cluster) -> None:
    for image in ("orderly-base:local", "orderly:local"):
        layers = cluster.docker("history", "--no-trunc", image)
        config = cluster.docker("image", "inspect", image)
        for name in ("API_TOKEN", "BROKER_PASSWORD", "TWO_FA"):
            assert cluster.secret(name) not in layers + config


def test_the_client_scripts_work(cluster: Cluster) -> None:
    environment = {
        **cluster.environment,
        "ORDERLY_URL": f"http://{ADDRESS}",
        "API_TOKEN": cluster.secret("API_TOKEN"),
    }
    first, second = (
        json.loads(run("./put_buy_order.sh", "USD", "123.45", environment=environment))
        for _ in range(2)
    )
    ids = [order["buy_order"]["id"] for order in (second, first)]

    def shown(*command: str) -> list[str]:
        return [row["id"] for row in json.loads(run(*command, environment=environment))["rows"]]

    until(lambda: shown("./get_buy_orders.sh")[:2] == ids, "the orders are not shown")
    assert shown("./get_buy_orders_pass_last_ref.sh", ids[0], "1") == [ids[1]]


def test_an_order_can_be_read_at_once_with_its_token(system: SystemInContainers) -> None:
    for _ in range(50):
        put = system.put()
        token = {"Consistency-Token": put.headers["consistency-token"]}
        url = f"{system['fetch_buy_orders'].url}{put.headers['location']}"
        assert httpx.get(url, headers=token).json() == put.json()["buy_order"]
        cookie = {"Cookie": f"Consistency-Token={put.cookies['Consistency-Token']}"}
        assert httpx.get(url, headers=cookie).json() == put.json()["buy_order"]


def test_port_80_has_everything_by_path(system: SystemInContainers) -> None:
    base = f"http://{ADDRESS}"
    order = {"currency": "USD", "amount": "1", "idempotence_key": str(uuid4())}
    put = httpx.put(f"{base}/buy_order", json=order)
    token = {"Consistency-Token": put.headers["consistency-token"]}
    assert put.json() == system.put(order["idempotence_key"], "1").json()
    page = httpx.get(f"{base}/buy_orders", headers=token).json()
    assert page["rows"] == [put.json()["buy_order"]]
    assert httpx.get(f"{base}/buy", params={"currency": "USD"}).json()["rate"] == "48478.88"
    account = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": "emea", "vip": True}
    opened = httpx.post(f"{base}/accounts", json=account)
    assert opened.status_code == 201
    token = {"Consistency-Token": opened.headers["consistency-token"]}
    path = opened.headers["location"]
    shown = httpx.get(f"{base}{path}", headers=token).json()
    assert shown == opened.json()
    report = f"{base}/accounts/generate_company_report/{shown['id']}"
    assert httpx.post(report, headers=token).json() == {**shown, "agents": []}


def test_teams_hear_of_accounts(cluster: Cluster, system: SystemInContainers) -> None:
    admin = {"Authorization": f"Bearer {cluster.secret('ADMIN_TOKEN')}"}

    def standing() -> dict[str, int]:
        answer = httpx.get(f"{system['billing'].url}/regions", headers=admin)
        return {one["region"]: one["accounts"] for one in answer.json()["regions"]}

    before = standing()
    account = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": "apac", "vip": True}
    opened = httpx.post(f"http://{ADDRESS}:{GROUPS['account_management']}/accounts", json=account)
    assert opened.status_code == 201
    until(lambda: standing()["apac"] == before["apac"] + 1, "billing knows nothing of it")
    for team in ("billing", "compliance", "vip_customers"):
        page = httpx.get(f"{system[team].url}/", headers=admin)
        assert page.status_code == 200, team
        assert page.headers["content-type"].startswith("text/html")


def test_a_payment_is_made_and_one_that_is_denied_is_mailed_about(
    cluster: Cluster, system: SystemInContainers
) -> None:
    admin = {"Authorization": f"Bearer {cluster.secret('ADMIN_TOKEN')}"}
    cards = [f"4{uuid4().int % 10**15:015}" for _ in range(2)]
    blocked = {"list": "block", "card": cards[1], "ends_at": "2100-01-01T00:00:00Z"}
    listed = httpx.post(
        f"{system['fraud_police'].url}/listings",
        json={**blocked, "reason": "stolen"},
        headers=admin,
    )
    assert listed.status_code == 201

    def pay(card: str) -> httpx.Response:
        money = {"amount": "123.00", "currency": "INR"}
        order = {"id": 1, "name": "A lamp", "cost": "123.00", "currency": "INR"}
        payment = {**money, "card": card, "type": "wallet"}
        body = {"order": order, "paymentMethod": "amazonpay", "payment": payment}
        key = {"Idempotency-Key": card[-8:]}
        return httpx.post(f"{system['transact'].url}/transact", json=body, headers=key)

    def is_decided(card: str) -> bool:
        # One that goes on without its client is asked for again.
        return pay(card).status_code != httpx.codes.ACCEPTED

    for card in cards:
        until(partial(is_decided, card), "a payment is never decided")
    paid, denied = (pay(card) for card in cards)
    assert paid.json()["status"] == "PAYMENT_COMPLETE"
    assert (denied.status_code, denied.json()["fraudStatus"]) == (402, True)
    denied_id = denied.json()["transactionID"]
    mail = f"{system['alertman'].url}/mails/{denied_id}"
    until(lambda: httpx.get(mail, headers=admin).status_code == 200, "nobody is told")
    assert denied_id in httpx.get(mail, headers=admin).text
    assert system.verify() == ""


def test_the_gateway_answers_in_the_form_of_the_services(system: SystemInContainers) -> None:
    nowhere = httpx.get(f"http://{ADDRESS}/nowhere")
    large = httpx.put(f"{system['create_buy_order'].url}/buy_order", content=b"x" * 70_000)
    for answer, status in ((nowhere, 404), (large, 413)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_a_service_that_is_away_is_a_503_and_comes_back(system: SystemInContainers) -> None:
    service = system["create_buy_order"]
    service.kill()
    away = system.put()
    assert away.status_code == 503
    assert away.json()["type"] == "/problems/service-away"
    assert int(away.headers["retry-after"]) >= 1
    service.start()
    key = str(uuid4())
    assert system.put_until_answered(key).json()["idempotence_key"] == key


def test_slow_clients_are_stopped_at_the_gateway(system: SystemInContainers) -> None:
    """Half of them are slow with their headers, half with their bodies."""
    head = b"PUT /buy_order HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    slow = [socket.create_connection((ADDRESS, system["create_buy_order"].port)) for _ in range(40)]
    try:
        for number, connection in enumerate(slow):
            body = b'Content-Length: 100\r\n\r\n{"currency"'
            connection.sendall(head[:30] if number % 2 else head + body)
        assert system.put().status_code == 200
        began = monotonic()
        for connection in slow:
            connection.settimeout(PATIENCE_SECONDS)
            while connection.recv(4096):
                pass
        assert monotonic() - began < GATEWAYS_OWN_DEADLINE_SECONDS
    finally:
        for connection in slow:
            connection.close()


def test_a_process_that_crashes_is_started_again(
    cluster: Cluster, system: SystemInContainers
) -> None:
    """Not the container is killed, which is an operator's doing, but what runs in it."""
    service = system["create_buy_order"]
    kill_all_but_init = "import os; os.kill(-1, 9)"
    before = system.put().json()["buy_order"]["id"]
    cluster.docker("exec", "--detach", service.id, "python", "-c", kill_all_but_init)
    until(lambda: inspect(cluster, [service.id])[0]["RestartCount"] > 0, "nobody starts it again")
    after = system.put_until_answered(str(uuid4())).json()["buy_order"]["id"]
    system.until_shown({before, after})


@pytest.fixture
def scaled(cluster: Cluster) -> Iterator[Cluster]:
    cluster.up("--scale", "create_buy_order=3", "--scale", "read_model_sync=2")
    yield cluster
    cluster.up("--scale", "create_buy_order=1", "--scale", "read_model_sync=1")


def test_scaled_services_share_the_work_and_double_nothing(
    scaled: Cluster, system: SystemInContainers
) -> None:
    writers = scaled.of_service("create_buy_order")
    projectors = scaled.of_service("read_model_sync")
    assert (len(writers), len(projectors)) == (3, 2)
    with load(system) as acknowledged:
        until(
            lambda: all(answered_orders(scaled, each) > 0 for each in writers),
            "one of three writers gets no orders",
        )
        for victim in (writers[0], *projectors):
            scaled.docker("kill", victim)
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 50, "no orders come through")
            scaled.docker("start", victim)
    assert_consistent(system, acknowledged)


def test_every_service_has_its_log_files_and_errors_are_apart(
    cluster: Cluster,
) -> None:
    for name in SYSTEM.names():
        lines = [json.loads(line) for line in lines_of_log(cluster, name)]
        assert {line["service"] for line in lines} == {name}
        for line in lines:
            assert line["tag"] == f"orderly.{name}.{line['event']}"
    # Without an exchange there is no price, which is worth a warning.
    Containers(cluster, "exchange").kill()
    until(lambda: lines_of_log(cluster, "errors"), "no trouble is logged")
    trouble = [json.loads(line) for line in lines_of_log(cluster, "errors")]
    assert {line["level"] for line in trouble} <= {"WARNING", "ERROR", "CRITICAL"}
    lost = next(line for line in trouble if line["event"] == "price_source_failed")
    assert lost in [json.loads(line) for line in lines_of_log(cluster, "btc_price")]


def test_nobody_waits_for_a_log_that_is_away_and_nothing_is_lost(
    cluster: Cluster, system: SystemInContainers
) -> None:
    log = Containers(cluster, "log")
    log.kill()
    for _ in range(20):
        assert system.put().status_code == 200
    # Its stop is worth a line of log, which has to wait.
    system["fetch_agents"].stop()
    system["fetch_agents"].start().wait_until_ready()
    listening = len([line for line in lines_when_back(cluster, log) if '"listening"' in line])
    assert listening >= 2


def lines_when_back(cluster: Cluster, log: Containers) -> list[str]:
    log.start()

    def lines() -> list[str]:
        return lines_of_log(cluster, "fetch_agents")

    until(log.is_ready, "the log does not come back")
    until(lambda: len([line for line in lines() if '"listening"' in line]) >= 2, "lines are lost")
    return lines()


def test_data_survive_the_cluster(cluster: Cluster, system: SystemInContainers) -> None:
    key = str(uuid4())
    first = system.put(key)
    cluster.compose("down", "--timeout", "20")
    assert cluster.containers() == []
    cluster.up()
    again = system.put(key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    system.until_shown({first.json()["buy_order"]["id"]})
    assert system.verify() == ""
