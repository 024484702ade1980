"""Clients of account_management, in the proportions in which they come, for Locust.

    locust --locustfile loadtest/locustfile.py --host http://localhost:9090

`../loadtest.sh` starts a system of its own for it. TOKEN is sent by every client; with BROKER_URL
one client in forty blocks and unblocks its agents by message, while everybody else goes on.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from contextlib import contextmanager
from uuid import uuid4

import gevent
from locust import between, task
from locust.contrib.fasthttp import FastHttpUser

logging.getLogger("pika").setLevel(logging.ERROR)

TOKEN = os.environ.get("TOKEN")
BROKER_URL = os.environ.get("BROKER_URL")
EXCHANGE = "commands"
QUEUE = "block_agent"
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.02
AGENTS_KEPT = 50
REGIONS = ("emea", "nam", "apac")
VIPS = (True, *[False] * 9)


class Client(FastHttpUser):
    """Has accounts and agents of its own, and the cookie that lets it read what it wrote."""

    abstract = True
    # Together 200 of them ask about 330 times a second.
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Open an account with an agent."""
        self.accounts: list[dict[str, object]] = []
        self.agents: list[dict[str, object]] = []
        self.open_account()
        self.add_agent()

    @contextmanager
    def asked(self, method: str, path: str, name: str, wanted: int, body: object = None):  # noqa: ANN201 - Locust's
        """The answer to a request; a wrong status, or an assertion about it, is a failure."""
        headers = {"X-Token": TOKEN} if TOKEN else {}
        with self.rest_or_empty(method, path, name, headers, body) as answer:
            if answer.status_code != wanted:
                answer.failure(f"{answer.status_code} instead of {wanted}: {answer.text}")
                yield None
                return
            try:
                yield answer.json() if answer.text else None
            except AssertionError as wrong:
                answer.failure(f"wrong content: {wrong}")

    def rest_or_empty(self, method: str, path: str, name: str, headers: dict, body: object):  # noqa: ANN201 - Locust's
        """Send a request whose success is decided by the caller."""
        return self.client.request(
            method, path, name=name, headers=headers, json=body, catch_response=True
        )

    def open_account(self) -> None:
        """POST /accounts."""
        account = {
            "name": f"account {random.randrange(10**6)}",
            "email": f"{uuid4()}@load.example.com",
            "region": random.choice(REGIONS),
            "vip": random.choice(VIPS),
        }
        with self.asked("POST", "/accounts", "create_account", 201, account) as made:
            if made:
                assert account.items() <= made.items(), "not the account that was asked for"
                self.accounts.append(made)

    def add_agent(self) -> None:
        """POST /accounts/{id}/agents."""
        if not self.accounts:
            return
        account = random.choice(self.accounts)
        path = f"/accounts/{account['id']}/agents"
        agent = {"name": f"agent {random.randrange(10**6)}", "email": f"{uuid4()}@load.example.com"}
        with self.asked("POST", path, "create_agent", 201, agent) as made:
            if made:
                assert agent.items() <= made.items(), "not the agent that was asked for"
                assert made["blocked"] is False, "blocked from the beginning"
                self.agents = [*self.agents[-AGENTS_KEPT:], made]

    def read_agent(self, agent: dict[str, object]) -> None:
        """GET /accounts/{id}/agents/{id}: what this client last did to it is seen."""
        path = f"/accounts/{agent['account_id']}/agents/{agent['id']}"
        with self.asked("GET", path, "get_agent", 200) as found:
            if found:
                assert found == agent, f"{found} instead of {agent}"

    def change(self, agent: dict[str, object], action: str) -> None:
        """POST /agents/block_agent/{id} or /agents/unblock_agent/{id}."""
        with self.asked("POST", f"/agents/{action}_agent/{agent['id']}", f"{action}_agent", 202):
            agent["blocked"] = action == "block"


class AccountClient(Client):
    """The traffic model, by HTTP."""

    weight = 39

    @task(30)
    def get_agent(self) -> None:
        """Read one agent."""
        if self.agents:
            self.read_agent(random.choice(self.agents))

    @task(20)
    def generate_company_report(self) -> None:
        """Read an account with its agents."""
        if not self.accounts:
            return
        account = random.choice(self.accounts)
        path = f"/accounts/generate_company_report/{account['id']}"
        with self.asked("POST", path, "generate_company_report", 200) as report:
            if report:
                assert account.items() <= report.items(), "not the account's report"
                ids = {agent["id"] for agent in report["agents"]}
                mine = {a["id"] for a in self.agents if a["account_id"] == account["id"]}
                assert mine <= ids, "the report lacks an agent"

    @task(15)
    def get_account(self) -> None:
        """Read one account."""
        if not self.accounts:
            return
        account = random.choice(self.accounts)
        with self.asked("GET", f"/accounts/{account['id']}", "get_account", 200) as found:
            if found:
                assert found == account, "not the account"

    @task(10)
    def create_agent(self) -> None:
        """Create one more agent."""
        self.add_agent()

    @task(10)
    def get_agents(self) -> None:
        """Read the first page of an account's agents."""
        if not self.accounts:
            return
        account = random.choice(self.accounts)
        path = f"/accounts/{account['id']}/agents"
        with self.asked("GET", path, "get_agents", 200) as page:
            if page:
                owners = {agent["account_id"] for agent in page["items"]}
                assert owners <= {account["id"]}, "an agent of another account"

    @task(5)
    def create_account(self) -> None:
        """Open one more account."""
        self.open_account()

    @task(5)
    def block_agent(self) -> None:
        """Block an agent, and see it blocked."""
        if self.agents:
            self.change(random.choice(self.agents), "block")

    @task(5)
    def unblock_agent(self) -> None:
        """Unblock an agent, and see it work."""
        if self.agents:
            self.change(random.choice(self.agents), "unblock")


if BROKER_URL:
    import pika

    class MessageClient(Client):
        """Blocks and unblocks its agents by message, and looks until it sees the effect."""

        weight = 1

        def on_start(self) -> None:
            """Connect, besides what every client does."""
            super().on_start()
            self.connection = pika.BlockingConnection(pika.URLParameters(BROKER_URL))
            while not self.is_heard():
                gevent.sleep(LOOK_SECONDS)
            self.channel = self.connection.channel()
            self.channel.confirm_delivery()

        def on_stop(self) -> None:
            """Disconnect."""
            self.connection.close()

        def is_heard(self) -> bool:
            """Whether anybody takes commands; a service that has just started makes its queue."""
            try:
                self.connection.channel().queue_declare(QUEUE, passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                return False
            return True

        @task
        def switch(self) -> None:
            """Send a command; what counts is the time until it is seen."""
            if not self.agents:
                return
            agent = self.agents[0]
            action = "unblock" if agent["blocked"] else "block"
            body = {"agent_id": agent["id"], "idempotence_key": str(uuid4())}
            properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
            started = time.perf_counter()
            self.channel.basic_publish(
                EXCHANGE, f"agent.{action}", json.dumps(body), properties, mandatory=True
            )
            agent["blocked"] = action == "block"
            seen = self.sees(agent, started + PATIENCE_SECONDS)
            self.environment.events.request.fire(
                request_type="AMQP",
                name=f"{action}_agent by message, until seen",
                response_time=(time.perf_counter() - started) * 1000,
                response_length=0,
                exception=None if seen else TimeoutError("the command has no effect"),
                context={},
            )

        def sees(self, agent: dict[str, object], deadline: float) -> bool:
            """Whether the agent reads as it should, in time."""
            path = f"/accounts/{agent['account_id']}/agents/{agent['id']}"
            while time.perf_counter() < deadline:
                with self.asked("GET", path, "get_agent", 200) as found:
                    if found == agent:
                        return True
                gevent.sleep(LOOK_SECONDS)
            return False
