"""Clients that were written for the older account system, as they are.

They know an address, an access token, that what was created is answered 201, and the names of
events. They keep no cookie, send no other header, have read none of our documents, ask right after
they were answered, and take what they see for all that there is.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker

from codebase.foundation.tokens import new_token
from tests.acceptance.conftest import until
from tests.acceptance.embedded_runs import EmbeddedRun
from tests.patience import PATIENCE_SECONDS

SECOND_FACTOR = "known to administrators"
USERS, ROUNDS = 8, 40
REGIONS = ("emea", "nam")
"""Of all tests but the one that listens to the third: what it hears has no other source."""
# In the proportions in which they always came.
TRAFFIC = {
    "get_agent": 30,
    "generate_company_report": 20,
    "get_account": 15,
    "create_agent": 10,
    "get_agents": 10,
    "create_account": 5,
    "block_agent": 5,
    "unblock_agent": 5,
}


class Answer:
    """A status, and the JSON of the body if there is one."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.json: Any = json.loads(body) if body else None


@dataclass(frozen=True, slots=True)
class Api:
    """An address and an access token; nothing is kept from one request to the next."""

    address: str
    token: str

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        asked = urllib.request.Request(  # noqa: S310 - http
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )
        if body is not None:
            asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS) as told:  # noqa: S310
                return Answer(told.status, told.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, refused.read())

    def created(self, path: str, body: object) -> dict[str, Any]:
        answer = self.ask("POST", path, body)
        assert answer.status == 201, answer.json
        return dict(answer.json)

    def account(self, region: str = "emea", *, vip: object = False) -> dict[str, Any]:
        wanted = {"name": "Blue", "email": email(), "region": region}
        made = self.created("/accounts", {**wanted, "vip": vip})
        assert wanted.items() <= made.items()
        return made

    def agent(self, account_id: str) -> dict[str, Any]:
        wanted = {"name": "Bo Lind", "email": email()}
        made = self.created(f"/accounts/{account_id}/agents", wanted)
        assert made == {**wanted, "id": made["id"], "account_id": account_id, "blocked": False}
        return made


def email() -> str:
    return f"{uuid4()}@older.example.org"


@dataclass(frozen=True, slots=True)
class Older:
    """What these clients were told: where it is, and who they are."""

    client: Api
    admin: Api
    broker: str


@pytest.fixture(scope="module")
def older(start: Callable[..., EmbeddedRun]) -> Older:
    secrets, entries = zip(new_token("older", "client"), new_token("root", "admin"), strict=True)
    run = start(API_TOKENS=",".join(entries), TWO_FA=SECOND_FACTOR).ready()
    address = run.url("account_management", "").rstrip("/")
    client, admin = (Api(address, secret) for secret in secrets)
    return Older(client, admin, broker_of(run.home))


def broker_of(home: Path) -> str:
    lines = (home / "environment").read_text(encoding="utf-8").splitlines()
    written = dict(line.split("=", 1) for line in lines if "=" in line)
    return written["BROKER_URL"].strip("'\"")


# Subscribers.


@dataclass(slots=True)
class Subscriber:
    """Hears the names of events, in their order."""

    names: list[str] = field(default_factory=list)

    def heard(self, *wanted: str) -> bool:
        """Whether all of it was heard, in this order among others."""
        names = iter(self.names)
        return all(one in names for one in wanted)


@contextmanager
def subscribed(broker: str, *patterns: str) -> Iterator[Subscriber]:
    """A subscriber with a queue of its own, bound before this begins."""
    until(lambda: is_up(broker), "there is no broker with events")
    connection = pika.BlockingConnection(pika.URLParameters(broker))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for pattern in patterns:
        channel.queue_bind(queue, "events", pattern)
    subscriber = Subscriber()
    listening = threading.Thread(target=listen, args=(channel, queue, subscriber))
    listening.start()
    try:
        yield subscriber
    finally:
        connection.add_callback_threadsafe(channel.stop_consuming)
        listening.join(PATIENCE_SECONDS)
        connection.close()


def listen(channel: BlockingChannel, queue: str, subscriber: Subscriber) -> None:
    channel.basic_consume(
        queue,
        lambda _channel, method, _properties, _body: subscriber.names.append(method.routing_key),
        auto_ack=True,
    )
    channel.start_consuming()


def is_up(broker: str) -> bool:
    """Whether the broker has the exchange, and somebody takes commands."""
    try:
        with pika.BlockingConnection(pika.URLParameters(broker)) as connection:
            channel = connection.channel()
            channel.exchange_declare("events", passive=True)
            channel.queue_declare("block_agent", passive=True)
    except (AMQPConnectionError, ChannelClosedByBroker):
        return False
    return True


def published(broker: str, routing_key: str, body: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("commands", routing_key, body.encode(), mandatory=True)


# Flows: each asks at once for what it was just told.


def test_an_account_is_there_as_soon_as_it_was_created(older: Older) -> None:
    api = older.client
    for _ in range(20):
        account = api.account("nam", vip="True")
        assert account["vip"] is True
        path = f"/accounts/{account['id']}"
        assert api.ask("GET", path).json == account
        assert account in everything(api, "/accounts")
        report = api.ask("POST", f"/accounts/generate_company_report/{account['id']}")
        assert (report.status, report.json) == (200, {**account, "agents": []})
    assert api.ask("POST", "/accounts", account | {"vip": False}).status == 422, "it has an id"
    again = {name: account[name] for name in ("name", "email", "region", "vip")}
    assert api.ask("POST", "/accounts", again).status == 409


def test_an_agent_is_what_was_last_done_to_it(older: Older) -> None:
    api = older.client
    account = api.account()
    agents = [api.agent(account["id"]) for _ in range(3)]
    path = f"/accounts/{account['id']}/agents"
    assert by_id(everything(api, path)) == by_id(agents)
    one = agents[0]
    assert api.ask("POST", f"/agents/find_agent/{one['email']}").json == one
    for action, blocked in (("block", True), ("block", True), ("unblock", False)):
        assert api.ask("POST", f"/agents/{action}_agent/{one['id']}").status == 202
        assert api.ask("GET", f"{path}/{one['id']}").json == {**one, "blocked": blocked}
    assert api.ask("DELETE", f"{path}/{one['id']}").status == 202
    assert api.ask("GET", f"{path}/{one['id']}").status == 404
    assert api.ask("DELETE", f"{path}/{one['id']}").status == 204
    assert by_id(everything(api, path)) == by_id(agents[1:])
    report = api.ask("POST", f"/accounts/generate_company_report/{account['id']}").json
    assert by_id(report["agents"]) == by_id(agents[1:])


def test_what_is_not_there_is_404_with_the_words_of_old(older: Older) -> None:
    api, nobody = older.client, uuid4()
    account = api.account()
    told = api.ask("GET", f"/accounts/{nobody}")
    assert (told.status, told.json["detail"]) == (404, f"Account {nobody} not found")
    told = api.ask("GET", f"/accounts/{account['id']}/agents/{nobody}")
    assert (told.status, told.json["detail"]) == (404, f"Agent {nobody} not found")
    assert (
        api.ask("POST", f"/accounts/{nobody}/agents", {"name": "Bo", "email": email()}).status
        == 404
    )
    assert api.ask("POST", f"/agents/block_agent/{nobody}").status == 404
    assert api.ask("DELETE", f"/accounts/{nobody}").status == 204
    assert Api(api.address, "guessed").ask("GET", "/accounts").status == 401


def test_a_closed_account_is_gone_with_its_agents_and_everybody_hears_of_it(older: Older) -> None:
    api = older.client
    with subscribed(older.broker, "account.*.apac.#", "agent.*.apac") as subscriber:
        account = api.account("apac", vip=True)
        agents = [api.agent(account["id"]) for _ in range(2)]
        api.ask("POST", f"/agents/block_agent/{agents[0]['id']}")
        api.ask("POST", f"/agents/unblock_agent/{agents[0]['id']}")
        assert api.ask("DELETE", f"/accounts/{account['id']}").status == 202
        assert api.ask("GET", f"/accounts/{account['id']}").status == 404
        for agent in agents:
            assert api.ask("POST", f"/agents/find_agent/{agent['email']}").status == 404
        until(
            lambda: len(subscriber.names) >= 8,
            lambda: f"only these were heard: {subscriber.names}",
        )
    assert Counter(subscriber.names) == {
        "account.opened.apac.vip": 1,
        "agent.created.apac": 2,
        "agent.blocked.apac": 1,
        "agent.unblocked.apac": 1,
        "agent.removed.apac": 2,
        "account.closed.apac.vip": 1,
    }
    assert subscriber.heard("agent.created.apac", "agent.blocked.apac", "agent.unblocked.apac")


@pytest.mark.parametrize("as_json", [True, False], ids=["as JSON", "as the id alone"])
def test_an_agent_is_blocked_by_message(older: Older, *, as_json: bool) -> None:
    api = older.client
    account = api.account("nam")
    agent = api.agent(account["id"])
    path = f"/accounts/{account['id']}/agents/{agent['id']}"
    with subscribed(older.broker, "agent.blocked.nam", "agent.unblocked.nam") as subscriber:
        for number, action in enumerate(("block", "unblock")):
            told = {"agent_id": agent["id"], "idempotence_key": str(uuid4())}
            body = json.dumps(told) if as_json else agent["id"]
            published(older.broker, f"agent.{action}", body)
            until(lambda wanted=number + 1: len(subscriber.names) == wanted, "it was not heard")
            blocked = action == "block"
            until(
                lambda is_so=blocked: api.ask("GET", path).json["blocked"] is is_so,
                "what was heard is not seen",
            )
        assert subscriber.names == ["agent.blocked.nam", "agent.unblocked.nam"]


# The load model.


class User:
    """One of many who use it at once, and checks every answer by what it has done itself."""

    def __init__(self, api: Api, seed: int) -> None:
        self._api = api
        self._random = Random(seed)  # noqa: S311 - the same traffic every time
        self._accounts: list[dict[str, Any]] = []
        self._agents: list[dict[str, Any]] = []
        self.done: Counter[str] = Counter()

    def work(self) -> None:
        """All of its rounds, each a task drawn by its weight."""
        self.create_account()
        self.create_agent()
        for task in self._random.choices(list(TRAFFIC), list(TRAFFIC.values()), k=ROUNDS):
            getattr(self, task)()
            self.done[task] += 1

    def create_account(self) -> None:
        self._accounts.append(self._api.account(self._random.choice(REGIONS)))

    def create_agent(self) -> None:
        self._agents.append(self._api.agent(self._account()["id"]))

    def get_account(self) -> None:
        account = self._account()
        assert self._api.ask("GET", f"/accounts/{account['id']}").json == account

    def get_agent(self) -> None:
        agent = self._agent()
        path = f"/accounts/{agent['account_id']}/agents/{agent['id']}"
        assert self._api.ask("GET", path).json == agent

    def get_agents(self) -> None:
        account = self._account()
        found = everything(self._api, f"/accounts/{account['id']}/agents")
        assert by_id(found) == by_id(self._of(account))

    def generate_company_report(self) -> None:
        account = self._account()
        path = f"/accounts/generate_company_report/{account['id']}"
        report = self._api.ask("POST", path).json
        assert by_id(report.pop("agents")) == by_id(self._of(account))
        assert report == account

    def block_agent(self) -> None:
        self._switch("block")

    def unblock_agent(self) -> None:
        self._switch("unblock")

    def _switch(self, action: str) -> None:
        agent = self._agent()
        assert self._api.ask("POST", f"/agents/{action}_agent/{agent['id']}").status == 202
        agent["blocked"] = action == "block"

    def _account(self) -> dict[str, Any]:
        return self._random.choice(self._accounts)

    def _agent(self) -> dict[str, Any]:
        return self._random.choice(self._agents)

    def _of(self, account: dict[str, Any]) -> Sequence[dict[str, Any]]:
        return [one for one in self._agents if one["account_id"] == account["id"]]


def test_many_users_at_once_each_see_what_they_did(older: Older) -> None:
    users = [User(older.client, seed) for seed in range(USERS)]
    with ThreadPoolExecutor(USERS) as threads:
        for ended in [threads.submit(user.work) for user in users]:
            ended.result()
    done = sum((user.done for user in users), Counter[str]())
    assert done.total() == USERS * ROUNDS
    assert set(done) == set(TRAFFIC)


def test_everything_is_erased_by_who_has_the_second_factor(older: Older) -> None:
    accounts = [older.client.account(region, vip=region == "nam") for region in REGIONS]
    agents = [older.client.agent(account["id"]) for account in accounts for _ in range(3)]
    assert older.admin.ask("POST", "/dev/erase_db").status == 403
    with subscribed(older.broker, "*.removed.#", "*.closed.#") as subscriber:
        erased = {"TWO-FA": SECOND_FACTOR}
        assert older.admin.ask("POST", "/dev/erase_db", **erased).status == 202
        assert everything(older.admin, "/accounts") == []
        assert everything(older.admin, "/agents") == []
        # Those of the other tests are closed as well.
        wanted = {"account.closed.emea.standard", "account.closed.nam.vip"}
        wanted |= {f"agent.removed.{region}" for region in REGIONS}
        until(
            lambda: wanted <= set(subscriber.names),
            lambda: f"only these were heard: {Counter(subscriber.names)}",
        )
    for agent in agents:
        assert older.client.ask("POST", f"/agents/find_agent/{agent['email']}").status == 404


def everything(api: Api, path: str) -> list[dict[str, Any]]:
    """The only page, of those who have few."""
    answer = api.ask("GET", path)
    assert answer.status == 200
    return list(answer.json["items"])


def by_id(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in found}
