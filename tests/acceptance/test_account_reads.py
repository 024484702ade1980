"""Reading accounts and agents on the one address where they are also written."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from codebase.foundation.tokens import new_token
from codebase.registry import SYSTEM
from codebase.web.apps import OPERATIONS
from tests.acceptance.conftest import Service, System

SLOW_PROJECTOR = {"PROJECTOR_DELAY_SECONDS": "0.05"}


@pytest.fixture
def management(system_without_broker: System) -> Service:
    """The six services on one address; not started yet."""
    return system_without_broker.another("account_management")


@pytest.fixture
def sync(system_without_broker: System) -> Service:
    """The read model; not started yet."""
    return system_without_broker.another("read_model_sync")


def account(**more: object) -> dict[str, object]:
    return {
        "name": "Blue",
        "email": f"{uuid4()}@blue.example",
        "region": "emea",
        "vip": False,
        **more,
    }


def agent() -> dict[str, str]:
    return {"name": "Ada", "email": f"{uuid4()}@blue.example"}


@pytest.mark.parametrize("by", ["token", "cookie"])
def test_what_a_client_created_it_finds_at_once(
    management: Service, sync: Service, by: str
) -> None:
    """With a projector that is always behind, and others who write all the time."""
    sync.start(**SLOW_PROJECTOR)
    management.start().wait_until_ready()
    sync.wait_until_ready()
    done = threading.Event()

    def others() -> None:
        with httpx.Client(base_url=management.url) as client:
            while not done.is_set():
                client.post("/accounts", json=account()).raise_for_status()

    def one_client(_number: int) -> list[int]:
        statuses = []
        for _ in range(5):
            with httpx.Client(base_url=management.url) as client:
                opened = client.post("/accounts", json=account())
                path = f"/accounts/{opened.json()['id']}"
                created = client.post(f"{path}/agents", json=agent())
                agent_path = f"{path}/agents/{created.json()['id']}"
                headers = {}
                if by == "token":
                    client.cookies.clear()
                    headers = {"Consistency-Token": created.headers["Consistency-Token"]}
                reads = [client.get(read, headers=headers) for read in (path, agent_path)]
                statuses += [answer.status_code for answer in reads]
                report = f"/accounts/generate_company_report/{opened.json()['id']}"
                found = client.post(report, headers=headers)
                statuses.append(found.status_code)
                assert [one["id"] for one in found.json()["agents"]] == [created.json()["id"]]
        return statuses

    with ThreadPoolExecutor(5) as pool:
        background = pool.submit(others)
        seen = [status for each in pool.map(one_client, range(4)) for status in each]
        done.set()
        background.result()
    assert seen == [200] * 60


def test_a_block_is_seen_by_whoever_made_it(management: Service, sync: Service) -> None:
    sync.start(**SLOW_PROJECTOR)
    management.start().wait_until_ready()
    sync.wait_until_ready()
    with httpx.Client(base_url=management.url) as client:
        account_id = client.post("/accounts", json=account()).json()["id"]
        agent_id = client.post(f"/accounts/{account_id}/agents", json=agent()).json()["id"]
        path = f"/accounts/{account_id}/agents/{agent_id}"
        for action, blocked in (("block", True), ("block", True), ("unblock", False)):
            assert client.post(f"/agents/{action}_agent/{agent_id}").status_code == 202
            assert client.get(path).json()["blocked"] is blocked
        assert client.delete(path).status_code == 202
        assert client.get(path).status_code == 404
        assert client.delete(f"/accounts/{account_id}").status_code == 202
        assert client.get(f"/accounts/{account_id}").status_code == 404


def test_another_clients_accounts_are_out_of_reach(management: Service, sync: Service) -> None:
    tokens = {name: new_token(name, role) for name, role in PEOPLE.items()}
    entries = ",".join(entry for _, entry in tokens.values())
    sync.start(API_TOKENS=entries)
    management.start(API_TOKENS=entries).wait_until_ready()
    sync.wait_until_ready()
    clients = {
        name: httpx.Client(base_url=management.url, headers={"X-Token": secret})
        for name, (secret, _) in tokens.items()
    }
    ids = {}
    for name in ("alice", "bob"):
        ids[name] = clients[name].post("/accounts", json=account()).json()["id"]
        created = clients[name].post(f"/accounts/{ids[name]}/agents", json=agent())
        assert created.status_code == 201
        ids[f"{name}'s agent"] = created.json()["id"]
        ids[f"{name}'s email"] = created.json()["email"]
    alice = clients["alice"]
    reads = [
        ("GET", f"/accounts/{ids['bob']}"),
        ("GET", f"/accounts/{ids['bob']}/agents"),
        ("GET", f"/accounts/{ids['bob']}/agents/{ids[BOBS_AGENT]}"),
        ("POST", f"/accounts/generate_company_report/{ids['bob']}"),
        ("POST", f"/agents/find_agent/{ids[BOBS_EMAIL]}"),
        ("GET", f"/accounts?last_reference={ids['bob']}"),
        ("GET", f"/agents?last_reference={ids[BOBS_AGENT]}"),
    ]
    assert [alice.request(*read).status_code for read in reads] == [404] * len(reads)
    assert [one["id"] for one in alice.get("/accounts").json()["items"]] == [ids["alice"]]
    assert [one["id"] for one in alice.get("/agents").json()["items"]] == [ids["alice's agent"]]
    token = {"Consistency-Token": created.headers["Consistency-Token"]}
    everybody = clients["root"].get("/accounts", headers=token).json()["items"]
    assert {one["id"] for one in everybody} == {ids["alice"], ids["bob"]}
    for wrong in ({}, {"X-Token": "guessed"}):
        assert httpx.get(f"{management.url}/accounts", headers=wrong).status_code == 401
    for client in clients.values():
        client.close()


PEOPLE = {"alice": "client", "bob": "client", "root": "admin"}
BOBS_AGENT, BOBS_EMAIL = "bob's agent", "bob's email"


def test_one_address_has_one_documentation(management: Service, sync: Service) -> None:
    sync.start()
    management.start().wait_until_ready()
    page = httpx.get(f"{management.url}/_swagger")
    assert page.status_code == 200
    assert not re.search("(src|href)=[\"']?(http|//)", page.text), "nothing is from elsewhere"
    document = httpx.get(f"{management.url}/openapi.json").json()
    assert document["info"]["title"] == "account_management"
    assert set(document["paths"]["/accounts"]) == {"get", "post"}
    assert set(document["paths"]["/accounts/{account_id}"]) == {"get", "delete"}
    tags = {
        tag
        for path in document["paths"].values()
        for operation in path.values()
        for tag in operation.get("tags", ())
    }
    assert tags == {*SYSTEM.groups["account_management"].services, OPERATIONS}
