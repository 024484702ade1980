"""The contract of accounts and agents, commands only, through the ports of running services."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from codebase.engine.log.identifiers import creation_stream_id
from codebase.engine.messages.topology import COMMANDS
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.tokens import new_token
from codebase.services.block_agent.messages import QUEUE
from tests.acceptance.conftest import Service, System, until
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases

SERVICES = ("create_account", "create_agent", "block_agent")
SECRET = "4111111111111111"  # noqa: S105 - what must not come back
TWO_FA = {"TWO-FA": "42 and some more"}


class Management:
    """The services that take commands about accounts and agents, together on one address."""

    def __init__(self, system: System, port: int, number: int = 1) -> None:
        self.system = system
        self.service = Service(system, SERVICES, port)
        self.service.name = f"management-{number}"
        # Made once: it costs as much as many requests.
        self._client = httpx.Client(base_url=self.service.url)

    def start(self, **environment: str) -> Management:
        self.service.start(TWO_FA="42 and some more", **environment)
        return self

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self._client.request(method, path, json=body, headers=headers)

    def open_account(self, **more: object) -> str:
        answer = self.ask("POST", "/accounts", account(**more))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def create_agent(self, account_id: str, **more: object) -> str:
        answer = self.ask("POST", f"/accounts/{account_id}/agents", agent(**more))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def stop(self) -> None:
        self._client.close()
        self.service.kill()


def account(**more: object) -> dict[str, object]:
    email = f"{uuid4()}@example.org"
    return {"name": "Ada", "email": email, "region": "emea", "vip": False, **more}


def agent(**more: object) -> dict[str, object]:
    return {"name": "Bo", "email": f"{uuid4()}@example.org", **more}


@pytest.fixture
def new_management(
    system: System, free_port: Callable[[], int]
) -> Iterator[Callable[[], Management]]:
    """Call it for one more process, not started yet."""
    with ExitStack() as stack:
        made: list[Management] = []

        def make() -> Management:
            made.append(Management(system, free_port(), len(made) + 1))
            stack.callback(made[-1].stop)
            return made[-1]

        yield make


@pytest.fixture
def management(new_management: Callable[[], Management]) -> Management:
    one = new_management().start()
    one.service.wait_until_ready()
    return one


def events(databases: Databases, stream_id: str) -> list[str]:
    with databases.as_owner() as log:
        rows = log.execute(
            "SELECT type FROM event WHERE stream_id = %s ORDER BY version", [stream_id]
        ).fetchall()
    return [row[0] for row in rows]


def counts(databases: Databases) -> Counter[str]:
    """How many events of each type there are."""
    with databases.as_owner() as log:
        return Counter(row[0] for row in log.execute("SELECT type FROM event").fetchall())


def test_an_account_is_opened_and_closed_as_the_contract_says(
    databases: Databases, management: Management
) -> None:
    body = account(name="Zoë O'Neill", email="Zoe@Example.ORG", region="apac", vip=True)
    opened = management.ask("POST", "/accounts", body)
    assert opened.status_code == 201
    account_id = opened.json()["id"]
    assert opened.json() == {**body, "id": account_id, "email": "Zoe@example.org"}
    assert opened.headers["location"] == f"/accounts/{account_id}"
    assert opened.headers["consistency-token"] in opened.headers["set-cookie"]
    assert "idempotent-replayed" not in opened.headers

    path = f"/accounts/{account_id}/agents"
    wanted = agent()
    created = management.ask("POST", path, wanted)
    assert created.status_code == 201
    agent_id = created.json()["id"]
    assert created.json() == {**wanted, "id": agent_id, "account_id": account_id, "blocked": False}
    assert created.headers["location"] == f"{path}/{agent_id}"

    for change in ("block", "block", "unblock", "unblock"):
        answer = management.ask("POST", f"/agents/{change}_agent/{agent_id}")
        assert (answer.status_code, answer.content) == (202, b"")
        assert "consistency-token" in answer.headers
    assert management.ask("DELETE", f"{path}/{agent_id}").status_code == 202
    assert management.ask("DELETE", f"{path}/{agent_id}").status_code == 204
    assert events(databases, agent_id) == [
        "AgentCreated",
        "AgentBlocked",
        "AgentUnblocked",
        "AgentRemoved",
    ]
    gone = management.ask("POST", f"/agents/block_agent/{agent_id}")
    assert (gone.status_code, gone.json()["detail"]) == (404, f"Agent {agent_id} not found")

    assert management.ask("DELETE", f"/accounts/{account_id}").status_code == 202
    closed = management.ask("DELETE", f"/accounts/{account_id}")
    assert (closed.status_code, closed.content) == (204, b"")
    assert "consistency-token" in closed.headers
    assert "consistency-token" in management.ask("DELETE", f"/accounts/{uuid4()}").headers
    late = management.ask("POST", path, agent())
    assert (late.status_code, late.json()["detail"]) == (404, f"Account {account_id} not found")
    assert management.system.verify() == ""


def test_an_id_of_something_else_is_nobodys(databases: Databases, management: Management) -> None:
    account_id = management.open_account()
    agent_id = management.create_agent(account_id)
    before = counts(databases)
    for change in ("block", "unblock"):
        answer = management.ask("POST", f"/agents/{change}_agent/{account_id}")
        detail = f"Agent {account_id} not found"
        assert (answer.status_code, answer.json()["detail"]) == (404, detail)
    answer = management.ask("POST", f"/accounts/{agent_id}/agents", agent())
    assert (answer.status_code, answer.json()["detail"]) == (404, f"Account {agent_id} not found")
    for path in (f"/accounts/{account_id}/agents/{account_id}", f"/accounts/{agent_id}"):
        assert management.ask("DELETE", path).status_code == 204
    assert counts(databases) == before


def test_a_reason_goes_into_the_event(databases: Databases, management: Management) -> None:
    agent_id = management.create_agent(management.open_account())
    path = f"/agents/block_agent/{agent_id}"
    assert management.ask("POST", path, {"reason": "late with the papers"}).status_code == 202
    with databases.as_owner() as log:
        row = log.execute(
            "SELECT data ->> 'reason', meta ->> 'actor' FROM event WHERE type = 'AgentBlocked'"
        ).fetchone()
    assert row == ("late with the papers", "local")


def test_every_command_can_be_repeated_and_happens_once(
    databases: Databases, management: Management
) -> None:
    account_id, agent_id = "", ""

    def thrice(method: str, path: str, body: object = None) -> httpx.Response:
        """The same command three times, and once the key for another; the first answer."""
        key = {"Idempotency-Key": str(uuid4())}
        first, *repeats = [management.ask(method, path, body, **key) for _ in range(3)]
        assert "idempotent-replayed" not in first.headers
        for repeat in repeats:
            assert (repeat.status_code, repeat.content) == (first.status_code, first.content)
            assert repeat.headers["idempotent-replayed"] == "true"
            assert "consistency-token" in repeat.headers
        return first

    body = account()
    account_id = thrice("POST", "/accounts", body).json()["id"]
    path = f"/accounts/{account_id}/agents"
    agent_id = thrice("POST", path, agent()).json()["id"]
    for change in ("unblock", "block", "block", "unblock"):
        assert thrice("POST", f"/agents/{change}_agent/{agent_id}").status_code == 202
    assert thrice("DELETE", f"{path}/{agent_id}").status_code == 202
    assert thrice("DELETE", f"{path}/{agent_id}").status_code == 204
    assert thrice("DELETE", f"{path}/{uuid4()}").status_code == 204
    assert thrice("DELETE", f"/accounts/{account_id}").status_code == 202
    assert thrice("DELETE", f"/accounts/{account_id}").status_code == 204
    assert counts(databases) == {
        "AccountOpened": 1,
        "AgentCreated": 1,
        "AgentBlocked": 1,
        "AgentUnblocked": 1,
        "AgentRemoved": 1,
        "AccountClosed": 1,
    }


def test_a_late_repeat_does_not_undo_what_came_after_it(
    databases: Databases, management: Management
) -> None:
    """Also the repeat of a command that had found nothing to do."""
    agent_id = management.create_agent(management.open_account())
    block = f"/agents/block_agent/{agent_id}"
    for key in ("first", "second"):
        assert management.ask("POST", block, **{"Idempotency-Key": key}).status_code == 202
    management.ask("POST", f"/agents/unblock_agent/{agent_id}")
    for key in ("first", "second"):
        answer = management.ask("POST", block, **{"Idempotency-Key": key})
        assert (answer.status_code, answer.headers["idempotent-replayed"]) == (202, "true")
    assert events(databases, agent_id) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]


def test_a_key_that_stands_for_something_else_is_refused(
    databases: Databases, management: Management
) -> None:
    key = {"Idempotency-Key": "17"}
    first, second = account(), account()
    account_id = management.ask("POST", "/accounts", first, **key).json()["id"]
    agents = f"/accounts/{account_id}/agents"
    wanted = agent()
    agent_id = management.ask("POST", agents, wanted, **key).json()["id"]
    # Creations of either category, and whatever is sent to the agent, are three different things.
    blocked = management.ask("POST", f"/agents/block_agent/{agent_id}", **key)
    assert (blocked.status_code, blocked.headers["outcome"]) == (202, "done")
    before = counts(databases)
    for method, path, body in (
        ("POST", "/accounts", second),
        ("POST", "/accounts", {**first, "vip": True}),
        ("POST", agents, {**wanted, "name": "Cy"}),
        ("POST", f"/agents/unblock_agent/{agent_id}", None),
        ("POST", f"/agents/block_agent/{agent_id}", {"reason": "another"}),
    ):
        answer = management.ask(method, path, body, **key)
        assert answer.status_code == 422, path
        assert answer.json()["type"] == "/problems/idempotence-key-reused"
    assert counts(databases) == before


def test_true_may_be_a_text_and_is_the_same_command(management: Management) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = account(vip="True")
    opened = management.ask("POST", "/accounts", body, **key)
    assert (opened.status_code, opened.json()["vip"]) == (201, True)
    repeated = management.ask("POST", "/accounts", {**body, "vip": True}, **key)
    assert repeated.headers["idempotent-replayed"] == "true"
    assert repeated.json() == opened.json()


def test_two_hundred_openings_with_one_email_in_four_processes_are_one_account(
    databases: Databases, new_management: Callable[[], Management]
) -> None:
    processes = [new_management().start() for _ in range(4)]
    for process in processes:
        process.service.wait_until_ready()

    def opening(number: int) -> httpx.Response:
        email = "Jo@example.org" if number % 2 else "jO@EXAMPLE.org"
        return processes[number % 4].ask("POST", "/accounts", account(email=email))

    for round_number in range(2):
        with ThreadPoolExecutor(48) as pool:
            answers = list(pool.map(opening, range(200)))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 199}
        refused = next(answer for answer in answers if answer.status_code == 409)
        assert refused.json()["type"] == "/problems/email-used"
        assert "jo@" not in refused.text.lower()
        (opened,) = (answer for answer in answers if answer.status_code == 201)
        assert counts(databases)["AccountOpened"] == round_number + 1
        # Closed, its address is free again.
        path = f"/accounts/{opened.json()['id']}"
        assert processes[round_number].ask("DELETE", path).status_code == 202


def test_one_email_belongs_to_one_agent_but_an_account_may_have_it_too(
    databases: Databases, new_management: Callable[[], Management]
) -> None:
    one, other = new_management().start(), new_management().start()
    one.service.wait_until_ready()
    other.service.wait_until_ready()
    email = "bo@example.org"
    accounts = [one.open_account(email=email), other.open_account()]

    def creation(number: int) -> httpx.Response:
        process, account_id = (one, other)[number % 2], accounts[number // 2 % 2]
        return process.ask("POST", f"/accounts/{account_id}/agents", agent(email=email))

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(creation, range(60)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 59}
    (created,) = (answer.json() for answer in answers if answer.status_code == 201)
    path = f"/accounts/{created['account_id']}/agents/{created['id']}"
    elsewhere = next(one for one in accounts if one != created["account_id"])
    wrong = other.ask("DELETE", f"/accounts/{elsewhere}/agents/{created['id']}")
    assert wrong.status_code == 409
    assert other.ask("DELETE", path).status_code == 202
    assert other.create_agent(elsewhere, email=email)
    assert counts(databases)["AgentRemoved"] == 1


@contextmanager
def channel_to(management: Management) -> Iterator[BlockingChannel]:
    """A channel with confirms, as soon as the service listens."""
    url = management.system.environment["BROKER_URL"]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        until(lambda: is_listened_to(connection), "block_agent does not listen")
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        connection.close()


def is_listened_to(connection: pika.BlockingConnection) -> bool:
    try:
        channel = connection.channel()
        declared = channel.queue_declare(QUEUE, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    channel.close()
    return bool(declared.method.consumer_count)


def is_empty(channel: BlockingChannel) -> bool:
    """Whether nothing waits in the queue, given that nobody listens to it."""
    return not channel.queue_declare(QUEUE, passive=True).method.message_count


def order(agent_id: str, key: str | None = None) -> bytes:
    body = {"agent_id": agent_id, "idempotence_key": key or str(uuid4())}
    return json.dumps(body).encode()


def test_http_and_messages_at_once_make_one_event_of_each_change(
    databases: Databases, new_management: Callable[[], Management]
) -> None:
    """Two processes; of the queue only one is the consumer at a time."""
    processes = [new_management().start() for _ in range(2)]
    for process in processes:
        process.service.wait_until_ready()
    agent_id = processes[0].create_agent(processes[0].open_account())
    replies = "reply.test"
    with channel_to(processes[0]) as channel, ThreadPoolExecutor(24) as pool:
        channel.queue_declare(replies)
        answered = pika.BasicProperties(reply_to=replies)
        for change in ("block", "unblock", "block"):
            path = f"/agents/{change}_agent/{agent_id}"
            by_http = [pool.submit(processes[n % 2].ask, "POST", path) for n in range(24)]
            for _ in range(24):
                channel.basic_publish(
                    COMMANDS, f"agent.{change}", order(agent_id), answered, mandatory=True
                )
            assert {one.result().status_code for one in by_http} == {202}
            told = [
                json.loads(body)
                for _, (_, _, body) in zip(range(24), channel.consume(replies), strict=False)
            ]
            channel.cancel()
            assert {one["outcome"] for one in told} <= {"done", "unchanged"}
    assert events(databases, agent_id) == [
        "AgentCreated",
        "AgentBlocked",
        "AgentUnblocked",
        "AgentBlocked",
    ]


def test_a_key_sent_by_message_is_not_the_key_of_a_client_who_asks_by_http(
    databases: Databases, management: Management
) -> None:
    agent_id = management.create_agent(management.open_account())
    replies = "reply.test"
    answered = pika.BasicProperties(reply_to=replies)

    def send(command: str) -> object:
        channel.basic_publish(COMMANDS, command, order(agent_id, "17"), answered, mandatory=True)
        _, _, body = next(channel.consume(replies, auto_ack=True))
        channel.cancel()
        return json.loads(body)["outcome"]

    with channel_to(management) as channel:
        channel.queue_declare(replies)
        assert send("agent.block") == "done"
        key = {"Idempotency-Key": "17"}
        answer = management.ask("POST", f"/agents/unblock_agent/{agent_id}", **key)
        assert (answer.status_code, answer.headers["outcome"]) == (202, "done")
        assert "idempotent-replayed" not in answer.headers
        assert send("agent.block") == "done", "of the repeat, which does nothing"
        assert send("agent.unblock") == "refused"
    assert events(databases, agent_id) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]


@pytest.mark.parametrize("place", ["before_append", "after_append"])
def test_a_service_that_dies_before_its_acknowledgement_gets_the_message_again(
    databases: Databases, management: Management, place: str
) -> None:
    agent_id = management.create_agent(management.open_account())
    with channel_to(management) as channel:
        management.service.kill()
        management.service.start(ORDERLY_FAILPOINT=place)
        channel.basic_publish(COMMANDS, "agent.block", order(agent_id), mandatory=True)
        assert management.service.wait() == EXIT_STATUS
        assert len(events(databases, agent_id)) == (2 if place == "after_append" else 1)
        management.service.start().wait_until_ready()
        until(lambda: len(events(databases, agent_id)) == 2, "the agent is not blocked")
        until(lambda: is_acknowledged(channel, management.service), "it is not acknowledged")
    assert events(databases, agent_id) == ["AgentCreated", "AgentBlocked"]


def test_stops_and_a_crash_among_many_messages_lose_and_double_nothing(
    databases: Databases, management: Management
) -> None:
    """In order for each agent, too."""
    account_id = management.open_account()
    agents = [management.create_agent(account_id) for _ in range(20)]
    enough = threading.Event()
    service = management.service
    with channel_to(management) as channel, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_until, channel, agents, enough)
        try:
            for end in (service.stop, service.kill, service.stop):
                before = changes(databases)
                until(
                    lambda before=before: changes(databases) > before + 50, "nothing comes through"
                )
                end()
                service.start()
        finally:
            enough.set()
        rounds = sending.result()
        until(lambda: changes(databases) >= rounds * len(agents), "some commands are missing")
        until(lambda: is_acknowledged(channel, service), "something is not acknowledged")
    expected = ["AgentCreated", *["AgentBlocked", "AgentUnblocked"] * (rounds // 2)]
    for agent_id in agents:
        assert events(databases, agent_id) == expected


def is_acknowledged(channel: BlockingChannel, service: Service) -> bool:
    """Whether a stop leaves nothing in the queue; otherwise the service is started once more.

    What was delivered and not begun is delivered again: repeats of what was done before a crash.
    """
    service.wait_until_ready()
    until(lambda: is_empty(channel), "messages are not taken")
    assert service.stop() == 0
    if is_empty(channel):
        return True
    service.start()
    return False


def send_until(channel: BlockingChannel, agents: list[str], enough: threading.Event) -> int:
    """Block and unblock everybody again and again; how many rounds."""
    rounds = 0
    while not enough.is_set():
        for change in ("block", "unblock"):
            for agent_id in agents:
                channel.basic_publish(COMMANDS, f"agent.{change}", order(agent_id), mandatory=True)
            rounds += 1
    return rounds


def changes(databases: Databases) -> int:
    counted = counts(databases)
    return counted["AgentBlocked"] + counted["AgentUnblocked"]


def test_without_the_broker_the_service_is_ready_and_takes_commands_by_http(
    management: Management, rabbitmq_server: RabbitUnderTest
) -> None:
    agent_id = management.create_agent(management.open_account())
    with channel_to(management):
        pass
    name = 'orderly_message_commands_listening{queue="block_agent"}'
    assert f"{name} 1.0" in management.ask("GET", "/metrics").text
    rabbitmq_server.kill()
    try:
        until(
            lambda: f"{name} 0.0" in management.ask("GET", "/metrics").text,
            "the metrics do not tell",
        )
        until(management.service.is_ready, "it is not ready")
        assert management.ask("POST", f"/agents/block_agent/{agent_id}").status_code == 202
    finally:
        rabbitmq_server.start()
    until(
        lambda: f"{name} 1.0" in management.ask("GET", "/metrics").text,
        "the service does not find the broker again",
    )


def test_closing_an_account_takes_all_its_agents_while_others_join(
    databases: Databases, new_management: Callable[[], Management]
) -> None:
    """A thousand agents; three processes create more until they are told that it is over."""
    processes = [new_management().start() for _ in range(3)]
    for process in processes:
        process.service.wait_until_ready()
    account_id = processes[0].open_account()
    created: set[str] = set()
    enough = threading.Event()

    def create(number: int) -> httpx.Response:
        while True:
            path = f"/accounts/{account_id}/agents"
            answer = processes[number % 3].ask("POST", path, agent())
            if answer.status_code != 201:
                return answer
            created.add(answer.json()["id"])
            if len(created) >= 1000:
                enough.set()

    with ThreadPoolExecutor(24) as pool:
        creators = [pool.submit(create, number) for number in range(24)]
        assert enough.wait(PATIENCE_SECONDS)
        closed = processes[1].ask("DELETE", f"/accounts/{account_id}")
        assert closed.status_code == 202
        assert {one.result().status_code for one in creators} == {404}
    assert counts(databases) == {
        "AccountOpened": 1,
        "AgentCreated": len(created),
        "AgentRemoved": len(created),
        "AccountClosed": 1,
    }
    assert removed_after_created(databases) == len(created)
    assert processes[0].system.verify() == ""


def removed_after_created(databases: Databases) -> int:
    """How many agents were created once and removed once, because their account was closed."""
    with databases.as_owner() as log:
        row = log.execute(
            "SELECT count(*) FROM event AS removed JOIN event AS created USING (stream_id)"
            " WHERE removed.type = 'AgentRemoved' AND removed.version = 2"
            " AND created.type = 'AgentCreated' AND created.version = 1"
            " AND removed.data ->> 'because' = 'account_closed'"
        ).fetchone()
    return int(row[0]) if row else 0


def test_erasing_closes_every_account_and_announces_each(
    databases: Databases, new_management: Callable[[], Management]
) -> None:
    """With many more accounts than commands may wait."""
    management = new_management()
    management.start(COMMAND_QUEUE_MAX="32").service.wait_until_ready()

    def open_one(number: int) -> None:
        account_id = management.open_account()
        if number % 10 == 0:
            for _ in range(3):
                management.create_agent(account_id)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(open_one, range(1000)))
    for refused in ({}, {"TWO-FA": "41"}, {"TWO-FA": ""}):
        assert management.ask("POST", "/dev/erase_db", **refused).status_code == 403
    assert counts(databases) == {"AccountOpened": 1000, "AgentCreated": 300}
    erased = management.ask("POST", "/dev/erase_db", **TWO_FA)
    assert (erased.status_code, erased.content) == (202, b"")
    assert counts(databases) == {
        "AccountOpened": 1000,
        "AgentCreated": 300,
        "AgentRemoved": 300,
        "AccountClosed": 1000,
    }
    again = management.ask("POST", "/dev/erase_db", **TWO_FA)
    assert again.status_code == 202
    assert sum(counts(databases).values()) == 2600
    management.open_account()
    assert management.ask("POST", "/dev/erase_db", **TWO_FA).status_code == 202
    assert counts(databases)["AccountClosed"] == 1001
    assert management.system.verify() == ""


def test_who_may_do_what(databases: Databases, new_management: Callable[[], Management]) -> None:
    tokens = {name: new_token(name, role) for name, role in ROLES.items()}
    entries = ",".join(entry for _, entry in tokens.values())
    management = new_management()
    management.start(API_TOKENS=entries).service.wait_until_ready()

    def ask(name: str | None, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {tokens[name][0]}"} if name else {}
        return management.ask(method, path, body, **headers)

    account_id = ask("alice", "POST", "/accounts", account()).json()["id"]
    agents = f"/accounts/{account_id}/agents"
    agent_id = ask("alice", "POST", agents, agent()).json()["id"]
    before = counts(databases)
    commands: list[tuple[str, str, object, int]] = [
        ("POST", "/accounts", account(), 201),
        ("POST", agents, agent(), 404),
        ("POST", f"/agents/block_agent/{agent_id}", None, 404),
        ("POST", f"/agents/unblock_agent/{agent_id}", None, 404),
        ("DELETE", f"{agents}/{agent_id}", None, 204),
        ("DELETE", f"/accounts/{account_id}", None, 204),
        ("POST", "/dev/erase_db", None, 403),
    ]
    for method, path, body, _ in commands:
        for headers in ({}, {"Authorization": "Bearer x"}, {"X-Token": entries}, TWO_FA):
            assert management.ask(method, path, body, **headers).status_code == 401
    assert counts(databases) == before
    for method, path, body, expected in commands:
        assert ask("bob", method, path, body).status_code == expected, path
    assert counts(databases) == before + Counter({"AccountOpened": 1})
    for name in ("alice", "bob"):
        secret = {"X-Token": tokens[name][0], **TWO_FA}
        assert management.ask("POST", "/dev/erase_db", **secret).status_code == 403
    assert ask("boss", "POST", f"/agents/block_agent/{agent_id}").status_code == 202
    assert ask("boss", "POST", "/dev/erase_db").status_code == 403
    boss = {"X-Token": tokens["boss"][0], **TWO_FA}
    assert management.ask("POST", "/dev/erase_db", **boss).status_code == 202
    assert counts(databases)["AccountClosed"] == counts(databases)["AccountOpened"]
    assert events(databases, agent_id) == ["AgentCreated", "AgentBlocked", "AgentRemoved"]


def test_a_key_is_the_clients_own(
    databases: Databases, new_management: Callable[[], Management]
) -> None:
    tokens = {name: new_token(name, role) for name, role in ROLES.items()}
    entries = ",".join(entry for _, entry in tokens.values())
    management = new_management()
    management.start(API_TOKENS=entries).service.wait_until_ready()

    def ask(
        name: str, key: str, method: str, path: str, body: object = None
    ) -> tuple[int, str | None, bool]:
        """Status, header `Outcome`, and whether it was a repeat."""
        headers = {"X-Token": tokens[name][0], "Idempotency-Key": key}
        answer = management.ask(method, path, body, **headers)
        replayed = answer.headers.get("idempotent-replayed") == "true"
        return answer.status_code, answer.headers.get("outcome"), replayed

    assert [ask(name, "1", "POST", "/accounts", account())[0] for name in ROLES] == [201] * 3
    agent_id = str(creation_stream_id("alice", "agent", "1"))
    agents = f"/accounts/{creation_stream_id('alice', 'account', '1')}/agents"
    assert ask("alice", "1", "POST", agents, agent())[0] == 201
    block, unblock = (f"/agents/{verb}_agent/{agent_id}" for verb in ("block", "unblock"))
    done, unchanged = (202, "done", False), (202, "unchanged", False)

    assert ask("alice", "1", "POST", block) == done
    assert ask("alice", "2", "POST", unblock) == done
    assert ask("alice", "3", "POST", unblock) == unchanged
    # Bob cannot tell that there is an agent, nor which keys were used there.
    for key in ("1", "2", "3", "4"):
        assert ask("bob", key, "POST", block) == (404, None, False)
        assert ask("bob", key, "POST", unblock) == (404, None, False)
        for again in (False, True):
            assert ask("bob", key, "DELETE", f"{agents}/{agent_id}") == (204, None, again)
    assert ask("boss", "1", "POST", block) == done
    assert ask("boss", "1", "POST", block) == (202, "done", True)
    assert ask("boss", "1", "POST", unblock)[0] == 422
    assert ask("boss", "3", "POST", unblock) == done
    # Alice's repeats are answered as they were, whatever the boss did since.
    assert ask("alice", "1", "POST", block) == (202, "done", True)
    assert ask("alice", "3", "POST", unblock) == (202, "unchanged", True)
    assert ask("boss", "4", "DELETE", f"{agents}/{agent_id}") == (202, None, False)
    assert ask("alice", "4", "DELETE", f"{agents}/{agent_id}") == (204, None, False)
    # Also now that the agent is gone.
    assert ask("alice", "1", "POST", block) == (202, "done", True)
    assert ask("alice", "9", "POST", block) == (404, None, False)
    assert events(databases, agent_id) == [
        "AgentCreated",
        "AgentBlocked",
        "AgentUnblocked",
        "AgentBlocked",
        "AgentUnblocked",
        "AgentRemoved",
    ]


ROLES = {"alice": "client", "bob": "client", "boss": "admin"}

BAD_NAMES: list[Any] = [
    None,
    5,
    " ",
    "",
    "x" * 201,
    f"{SECRET}\0",
    f"{SECRET}\x1b",
    f"{SECRET}\ud800",
]
BAD_EMAILS: list[Any] = [
    None,
    ["a@example.org"],
    SECRET,
    f"{SECRET}@exämple.org",
    f"{SECRET}@{'a.' * 200}org",
    f"{SECRET}@example.org\nBcc: x@example.org",
]
BAD_FIELDS = {
    "/accounts": {
        "name": BAD_NAMES,
        "email": BAD_EMAILS,
        "region": [None, "moon", "EMEA", 1],
        "vip": [None, 1, "yes"],
        "colour": ["red"],
    },
    "/accounts/{account}/agents": {"name": BAD_NAMES, "email": BAD_EMAILS, "blocked": [True]},
    "/agents/block_agent/{agent}": {"reason": BAD_NAMES[1:], "agent_id": [str(uuid4())]},
    "/agents/unblock_agent/{agent}": {"reason": BAD_NAMES[1:]},
}
BAD_BODIES = [
    b"{",
    b'{"name":NaN}',
    b'{"name":1e999}',
    b'{"name":"a","name":"b"}',
    b"[]",
    b"null",
    b'{"name":' + b"[" * 100 + b"]" * 100 + b"}",
    b'{"name":"\xff"}',
]
BAD_PATHS = {
    ("DELETE", f"/accounts/{SECRET}"): "account_id",
    ("DELETE", f"/accounts/{SECRET}/agents/{uuid4()}"): "account_id",
    ("DELETE", f"/accounts/{uuid4()}/agents/{SECRET}"): "agent_id",
    ("POST", f"/agents/block_agent/{SECRET}"): "agent_id",
    ("POST", f"/agents/unblock_agent/{SECRET}%00"): "agent_id",
}


@pytest.fixture
def known(databases: Databases, management: Management) -> Iterator[dict[str, str]]:
    """An account and an agent, to whom nothing happens meanwhile."""
    account_id = management.open_account()
    yield {"account": account_id, "agent": management.create_agent(account_id)}
    assert counts(databases) == {"AccountOpened": 1, "AgentCreated": 1}


@pytest.mark.parametrize("path", BAD_FIELDS)
def test_a_bad_field_is_named_and_not_repeated(
    management: Management, known: dict[str, str], path: str
) -> None:
    needed: dict[str, object] = {}
    if "block" not in path:
        needed = account() if path == "/accounts" else agent()
    for field, values in BAD_FIELDS[path].items():
        for value in values:
            body = json.dumps({**needed, field: value}).encode()
            problem = refused(management, "POST", path.format(**known), body)
            assert list(problem["errors"]) == [field], body
        missing = {name: value for name, value in needed.items() if name != field}
        if missing != needed:
            problem = refused(
                management, "POST", path.format(**known), json.dumps(missing).encode()
            )
            assert problem["errors"] == {field: ["is required"]}


@pytest.mark.parametrize("path", BAD_FIELDS)
def test_what_is_no_json_object_is_refused(
    management: Management, known: dict[str, str], path: str
) -> None:
    for body in BAD_BODIES:
        refused(management, "POST", path.format(**known), body)


COMMANDS_BY_HTTP = {
    ("POST", "/accounts"): account(),
    ("DELETE", "/accounts/{account}"): None,
    ("POST", "/accounts/{account}/agents"): agent(),
    ("DELETE", "/accounts/{account}/agents/{agent}"): None,
    ("POST", "/agents/block_agent/{agent}"): None,
    ("POST", "/agents/unblock_agent/{agent}"): None,
}


def test_a_bad_header_is_named(management: Management, known: dict[str, str]) -> None:
    for (method, path), body in COMMANDS_BY_HTTP.items():
        for name, value in {"Idempotency-Key": "a b", "Consistency-Token": "x"}.items():
            answer = management.ask(method, path.format(**known), body, **{name: value})
            assert (answer.status_code, list(answer.json()["errors"])) == (422, [name])


def test_a_bad_id_is_named_and_not_repeated(management: Management, known: dict[str, str]) -> None:
    assert known
    for (method, path), field in BAD_PATHS.items():
        assert list(refused(management, method, path, b"")["errors"]) == [field], path
    agents = f"/accounts/{SECRET}/agents"
    body = json.dumps(agent()).encode()
    assert list(refused(management, "POST", agents, body)["errors"]) == ["account_id"]


def refused(management: Management, method: str, path: str, text: bytes) -> dict[str, Any]:
    """The problem that the body is refused with; it does not repeat what was sent."""
    answer = httpx.request(
        method,
        management.service.url + path,
        content=text,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422, (path, text[:100], answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text
    problem: dict[str, Any] = answer.json()
    return problem


def test_large_bodies_and_other_types_are_refused(management: Management) -> None:
    agent_id = management.create_agent(management.open_account())
    for path in ("/accounts", f"/accounts/{agent_id}/agents", f"/agents/block_agent/{agent_id}"):
        url = management.service.url + path
        as_json = {"Content-Type": "application/json"}
        assert httpx.post(url, content=b" " * 70_000, headers=as_json).status_code == 413
        assert httpx.post(url, content=b"{}").status_code == 415
        assert httpx.post(url, data={"name": "x"}).status_code == 415
    assert management.ask("GET", "/agents/block_agent/1").status_code == 405


def test_a_page_of_another_site_may_not_send_commands(
    databases: Databases, management: Management
) -> None:
    for foreign in (
        {"Origin": "https://example.org"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
    ):
        for method, path in (
            ("POST", "/accounts"),
            ("DELETE", f"/accounts/{uuid4()}"),
            ("POST", f"/agents/block_agent/{uuid4()}"),
            ("POST", "/dev/erase_db"),
        ):
            answer = management.ask(method, path, account(), **foreign, **TWO_FA)
            assert answer.status_code == 403
            assert answer.headers["content-type"] == "application/problem+json"
    assert not counts(databases)
    own = {"Origin": management.service.url, "Sec-Fetch-Site": "same-origin"}
    assert management.ask("POST", "/accounts", account(), **own).status_code == 201


def test_the_documentation_is_at_its_older_address_too(management: Management) -> None:
    pages = [management.ask("GET", path) for path in ("/docs", "/_swagger")]
    assert [page.status_code for page in pages] == [200, 200]
    assert pages[0].content == pages[1].content
    paths = management.ask("GET", "/openapi.json").json()["paths"]
    assert set(paths) == {
        "/accounts",
        "/accounts/{account_id}",
        "/accounts/{account_id}/agents",
        "/accounts/{account_id}/agents/{agent_id}",
        "/agents/block_agent/{agent_id}",
        "/agents/unblock_agent/{agent_id}",
        "/dev/erase_db",
        "/healthz",
        "/healthcheck",
        "/readyz",
        "/metrics",
    }
    block = paths["/agents/block_agent/{agent_id}"]["post"]
    assert not block["requestBody"].get("required")
    assert "content" not in block["responses"]["202"]


def test_ids_of_accounts_and_agents_are_ids(management: Management) -> None:
    account_id = management.open_account()
    assert str(UUID(account_id)) == account_id
    shouted = management.ask("DELETE", f"/accounts/{account_id.upper()}")
    assert shouted.status_code == 202
