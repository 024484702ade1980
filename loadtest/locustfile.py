"""Clients of account_management, in the proportions in which they come, and payers, for Locust.

    locust --locustfile loadtest/locustfile.py --host http://localhost:9090

`../loadtest.sh` starts a system of its own for it. TOKEN, of an administrator, is sent by every
client; with BROKER_URL one client in forty blocks and unblocks its agents by message, and with
PAYMENTS_URL (transact) and POLICE_URL (fraud_police) one in six pays, while everybody else goes on.
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
PAYMENTS_URL = os.environ.get("PAYMENTS_URL")
POLICE_URL = os.environ.get("POLICE_URL")
EXCHANGE = "commands"
QUEUE = "block_agent"
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.02
AGENTS_KEPT = 50
REGIONS = ("emea", "nam", "apac")
VIPS = (True, *[False] * 9)


class Asking(FastHttpUser):
    """Has the cookie that lets it read what it wrote, and looks at every answer."""

    abstract = True
    # Together 200 of them ask about 330 times a second.
    wait_time = between(0.2, 1.0)

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


class Client(Asking):
    """Has accounts and agents of its own."""

    abstract = True

    def on_start(self) -> None:
        """Open an account with an agent."""
        self.accounts: list[dict[str, object]] = []
        self.agents: list[dict[str, object]] = []
        self.open_account()
        self.add_agent()

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


def a_card() -> str:
    """The number of a card that nobody else has, with the last digit that Luhn asks for."""
    digits = f"4{random.randrange(10**14):014}"
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[::2]]
    others = [int(digit) for digit in digits[1::2]]
    return f"{digits}{-(sum(doubled) + sum(others)) % 10}"


if PAYMENTS_URL and POLICE_URL:

    class PayingClient(Asking):
        """Pays by card, is refused, repeats itself, and reads what has become of it."""

        weight = 8

        def on_start(self) -> None:
            """Have a card blocked, and make a payment."""
            self.paid: list[tuple[dict[str, object], dict[str, str]]] = []
            self.ids: set[str] = set()
            self.stolen = a_card()
            self.block(self.stolen)
            self.pay()

        def block(self, card: str) -> None:
            """POST /listings of the fraud police, and see it there: from then on it holds."""
            listing = {"list": "block", "card": card, "ends_at": "2999-01-01T00:00:00Z"}
            path = f"{POLICE_URL}/listings"
            with self.asked("POST", path, "block a card", 201, {**listing, "reason": "load"}) as on:
                self.is_blocked = on is not None
            with self.asked("GET", f"{path}?size=1", "get_listings", 200):
                pass

        def send(
            self, body: dict[str, object], name: str, wanted: int, key: str | None
        ) -> dict[str, object] | None:
            """POST /transact until it has ended: what it was answered, if that was right.

            With a key, and while it is PENDING, it is sent again, and has to stay the same one.
            """
            deadline, known = time.perf_counter() + PATIENCE_SECONDS, None
            again = f"{name}, while it is PENDING"
            headers = {"Idempotency-Key": key} if key else {}
            headers |= {"X-Token": TOKEN} if TOKEN else {}
            while True:
                with self.rest_or_empty(
                    "POST", f"{PAYMENTS_URL}/transact", name, headers, body
                ) as answer:
                    said = answer.json() if answer.text and answer.status_code else {}
                    if answer.status_code not in {wanted, 202}:
                        answer.failure(f"{answer.status_code} instead of {wanted}: {answer.text}")
                        return None
                    if known not in {None, said["transactionID"]}:
                        answer.failure("a repeat is another transaction")
                        return None
                    if str(body["payment"]["card"]) in answer.text:
                        answer.failure("the number of the card is answered")
                        return None
                    if answer.status_code != wanted and said["status"] != "PENDING":
                        answer.failure(f"{answer.status_code} and {said['status']}")
                        return None
                if answer.status_code == wanted or key is None:
                    return said
                if time.perf_counter() > deadline:
                    answer.failure("still PENDING")
                    return None
                known = said["transactionID"]
                name = again
                gevent.sleep(LOOK_SECONDS)

        def body(self, amount: str | None = None, card: str | None = None) -> dict[str, object]:
            """A payment of any amount by a card of its own."""
            amount = amount or f"{random.randrange(1, 10**5)}.{random.randrange(100):02}"
            if amount.partition(".")[0] in {"402", "408", "409", "500"} and card is None:
                amount = "123.00"
            money = {"amount": amount, "currency": "INR"}
            return {
                "order": {"id": str(uuid4()), "name": "load", "cost": amount, "currency": "INR"},
                "paymentMethod": random.choice(("paytm", "icici-debit", "amazonpay", "any")),
                "payment": {"card": card or a_card(), "type": "wallet", **money},
            }

        @task(30)
        def pay(self) -> None:
            """Pay, and be told that it is paid."""
            body, key = self.body(), str(uuid4())
            said = self.send(body, "transact", 200, key)
            if said is not None:
                self.check(said, {"status": "PAYMENT_COMPLETE"}, "transact")
                self.paid = [*self.paid[-AGENTS_KEPT:], ({**body, "key": key}, said)]
                self.ids.add(said["transactionID"])

        @task(10)
        def pay_again(self) -> None:
            """The same request with the same key: the same transaction, and no other charge."""
            if not self.paid:
                return
            body, before = random.choice(self.paid)
            sent = {name: value for name, value in body.items() if name != "key"}
            said = self.send(sent, "transact, repeated", 200, body["key"])
            if said is not None:
                self.check(said, before, "transact, repeated")

        @task(10)
        def pay_without_key(self) -> None:
            """Each request is a payment of its own."""
            said = self.send(self.body(), "transact, no key", 200, None)
            if said is not None:
                if said["transactionID"] in self.ids:
                    self.wrong("transact, no key", "a transaction that there was")
                self.ids.add(said["transactionID"])

        @task(5)
        def pay_by_a_blocked_card(self) -> None:
            """It is taken for fraud."""
            if not self.is_blocked:
                return
            body = self.body(card=self.stolen)
            said = self.send(body, "transact, flagged", 402, str(uuid4()))
            if said is not None:
                wanted = {"type": "/problems/fraudulent-transaction", "fraudStatus": True}
                self.check(said, wanted, "transact, flagged")

        @task(5)
        def pay_what_is_refused(self) -> None:
            """The provider refuses this amount."""
            said = self.send(self.body("402.00"), "transact, refused", 402, str(uuid4()))
            if said is not None:
                self.check(said, {"type": "/problems/payment-failed"}, "transact, refused")

        @task(20)
        def get_transaction(self) -> None:
            """Read what was paid, with every step."""
            if not self.paid:
                return
            body, said = random.choice(self.paid)
            path = f"{PAYMENTS_URL}/transactions/{said['transactionID']}"
            with self.asked("GET", path, "get_transaction", 200) as found:
                if found:
                    assert found["status"] == "PAYMENT_COMPLETE", "not paid"
                    steps = [step["status"] for step in found["transitions"]]
                    assert steps == list(STEPS), f"steps {steps}"
                    number = str(body["payment"]["card"])
                    assert found["payment"]["card"]["last_four"] == number[-4:], "another card"
                    assert number not in json.dumps(found), "the card's number"

        @task(10)
        def get_transactions(self) -> None:
            """Read the newest page."""
            path = f"{PAYMENTS_URL}/transactions?size=20"
            with self.asked("GET", path, "get_transactions", 200) as page:
                if page:
                    moments = [item["requested_at"] for item in page["items"]]
                    assert moments == sorted(moments, reverse=True), "not newest first"

        def check(self, said: dict[str, object], wanted: dict[str, object], name: str) -> None:
            """An answer that lacks something is a failure of its own."""
            if not wanted.items() <= said.items():
                self.wrong(name, f"{said} instead of {wanted}")

        def wrong(self, name: str, what: str) -> None:
            """Have it counted."""
            self.environment.events.request.fire(
                request_type="CHECK",
                name=name,
                response_time=0,
                response_length=0,
                exception=AssertionError(what),
                context={},
            )


STEPS = ("PENDING", "CLEARED", "PAYMENT_INITIATED", "PAYMENT_COMPLETE")
