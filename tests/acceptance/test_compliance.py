"""Compliance through its port: what is asked for is carried out once, whatever goes away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pika
import pytest

from codebase.engine.messages.dead_letters import DEAD_LETTERS
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.tokens import new_token
from tests.acceptance.conftest import Service, System, until
from tests.integration import flow
from tests.integration.jobs import told_to_act

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import RabbitUnderTest

MANAGEMENT = ("create_account", "create_agent", "block_agent")
OPEN_STATES = {"waiting", "sent"}
REPLIES = "reply.compliance"
"""The queue that outcomes come back by; its name is part of the contract."""


class Office:
    """Compliance, and the services that take its commands, in processes of their own."""

    def __init__(self, system: System, free_port: Callable[[], int]) -> None:
        self.system = system
        self.databases = told_to_act(system.databases)
        self.management = Service(system, MANAGEMENT, free_port())
        self.relay = Service(system, ("event_relay",), free_port())
        self.compliance = Service(system, ("compliance",), free_port())
        self.other = Service(system, ("compliance",), free_port())
        self.other.name = "other-compliance"
        system.environment |= {
            "BLOCK_AGENT_URL": self.management.url,
            "REPLY_WAIT_SECONDS": "0.3",
        }
        self._services = [self.management, self.relay, self.compliance, self.other]

    @property
    def has_broker(self) -> bool:
        return "BROKER_URL" in self.system.environment

    def open(self) -> Office:
        """Start what there has to be, and wait for it."""
        started = [self.management, self.compliance, *([self.relay] if self.has_broker else [])]
        for service in started:
            service.start()
        for service in started:
            service.wait_until_ready()
        return self

    def close(self) -> None:
        for service in self._services:
            if service._process is not None:  # noqa: SLF001 - the class next door
                service.kill()

    def new_agent(self, name: str = "Bo", email: str | None = None, **headers: str) -> str:
        body: dict[str, Any] = {"name": "Ada", "email": f"{uuid4()}@example.org"}
        body |= {"region": "emea", "vip": False}
        url = f"{self.management.url}/accounts"
        opened = httpx.post(url, json=body, headers=headers).raise_for_status()
        url = f"{url}/{opened.json()['id']}/agents"
        body = {"name": name, "email": email or f"{uuid4()}@example.org"}
        created = httpx.post(url, json=body, headers=headers).raise_for_status()
        return str(created.json()["id"])

    def ask(self, action: str, agent_id: str, body: object = None, **headers: str) -> Any:  # noqa: ANN401
        url = f"{self.compliance.url}/{action}_agent/{agent_id}"
        return httpx.post(url, json=body, headers=headers)

    def asked(self, action: str, agent_id: str, **headers: str) -> str:
        """The id of a new request."""
        answer = self.ask(action, agent_id, **headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.compliance.url}{path}", headers=headers)

    def request(self, request_id: str, **headers: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/requests/{request_id}", **headers).json()
        return found

    def state(self, request_id: str, **headers: str) -> str | None:
        """None while it is not shown yet: it may have been made at the other process."""
        return self.request(request_id, **headers).get("state")

    def outcome(self, request_id: str, **headers: str) -> str:
        """What became of a request, waited for."""

        def is_answered() -> bool:
            return self.state(request_id, **headers) not in {None, *OPEN_STATES}

        until(is_answered, lambda: f"no outcome: {self.request(request_id, **headers)}")
        return str(self.state(request_id, **headers))

    def until_state(self, request_id: str, state: str, detail: str | None = None) -> None:
        def is_so() -> bool:
            now = self.request(request_id)
            is_there = now.get("state") == state
            return is_there and (detail is None or detail in (now["detail"] or ""))

        until(is_so, lambda: f"not {state}: {self.request(request_id)}")

    def happened(self, agent_id: str) -> list[str]:
        with self.databases.as_owner() as log:
            rows = log.execute(
                "SELECT type FROM event WHERE stream_id = %s ORDER BY version", [agent_id]
            ).fetchall()
        return [row[0] for row in rows]

    def shown(self, search: str = "", **parameters: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.compliance.url}/agents", params={"search": search, **parameters})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found

    def until_blocked(self, agent_id: str, *, blocked: bool = True) -> None:
        until(
            lambda: [one["blocked"] for one in self.shown(agent_id)] == [blocked],
            f"the view does not show {agent_id} as {'blocked' if blocked else 'at work'}",
        )


@pytest.fixture
def with_broker(system: System, free_port: Callable[[], int]) -> Iterator[Office]:
    """With a broker; nothing is started yet."""
    made = Office(system, free_port)
    yield made
    made.close()


@pytest.fixture
def without_broker(system_without_broker: System, free_port: Callable[[], int]) -> Iterator[Office]:
    """Without one; nothing is started yet."""
    made = Office(system_without_broker, free_port)
    yield made
    made.close()


@pytest.fixture(params=["with_broker", "without_broker"])
def office(request: pytest.FixtureRequest) -> Office:
    """Both ways to block_agent, one after the other; nothing is started yet."""
    found: Office = request.getfixturevalue(request.param)
    return found


def test_an_agent_is_blocked_and_unblocked_and_what_became_of_it_is_shown(office: Office) -> None:
    office.open()
    agent_id = office.new_agent("Cy")
    answer = office.ask("block", agent_id, {"reason": "late with the papers"})
    assert answer.status_code == 202
    assert answer.json() | {"id": "", "requested_at": ""} == {
        "id": "",
        "agent_id": agent_id,
        "action": "block",
        "reason": "late with the papers",
        "requested_by": "local",
        "requested_at": "",
    }
    first = answer.json()["id"]
    assert answer.headers["location"] == f"/requests/{first}"
    assert office.outcome(first) == "done"
    second, third, fourth = (office.asked(one, agent_id) for one in ("block", "unblock", "unblock"))
    assert [office.outcome(one) for one in (second, third, fourth)] == [
        "unchanged",
        "done",
        "unchanged",
    ]
    assert office.happened(agent_id) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]
    with office.databases.as_owner() as log:
        row = log.execute("SELECT data ->> 'reason' FROM event WHERE type = 'AgentBlocked'")
        assert row.fetchone() == ("late with the papers",)
    page = office.get("/requests").json()
    assert [one["id"] for one in page["items"]] == [fourth, third, second, first]
    assert (page["last_reference"], page["size"]) == (first, 500)
    office.until_blocked(agent_id, blocked=False)
    shown = office.request(first)
    assert (shown["agent_name"], shown["detail"]) == ("Cy", None)
    assert "fingerprint" not in shown
    assert shown["requested_at"] <= shown["sent_at"] <= shown["answered_at"]


def test_an_agent_that_there_is_not_is_refused_with_the_reason(office: Office) -> None:
    office.open()
    nobody = str(uuid4())
    request_id = office.asked("block", nobody)
    assert office.outcome(request_id) == "refused"
    assert office.request(request_id)["detail"] == f"Agent {nobody} not found"
    assert f"Agent {nobody} not found" in office.get("/").text


def test_requests_for_one_agent_are_carried_out_in_their_order(office: Office) -> None:
    office.open()
    agents = [office.new_agent() for _ in range(3)]
    rounds = 5
    asked = [
        office.asked(action, agent_id)
        for _ in range(rounds)
        for action in ("block", "unblock")
        for agent_id in agents
    ]
    assert {office.outcome(one) for one in asked} == {"done"}
    for agent_id in agents:
        expected = ["AgentCreated"] + ["AgentBlocked", "AgentUnblocked"] * rounds
        assert office.happened(agent_id) == expected


def test_a_repeat_is_the_same_request(without_broker: Office) -> None:
    office = without_broker.open()
    agent_id = office.new_agent()
    key = {"Idempotency-Key": "17"}
    first, again = (office.ask("block", agent_id, {"reason": "a"}, **key) for _ in range(2))
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert office.outcome(first.json()["id"]) == "done"
    later = office.ask("block", agent_id, {"reason": "a"}, **key)
    assert later.content == first.content
    for action, other, body in (
        ("unblock", agent_id, {"reason": "a"}),
        ("block", str(uuid4()), {"reason": "a"}),
        ("block", agent_id, None),
    ):
        answer = office.ask(action, other, body, **key)
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/idempotence-key-reused"
    assert len(office.get("/requests").json()["items"]) == 1


def test_requests_wait_for_whoever_carries_them_out(office: Office) -> None:
    """block_agent is not there at all; with a broker, not even its queue."""
    office.open()
    agent_id = office.new_agent()
    office.management.stop()
    if office.has_broker:
        delete_queue(office, "block_agent")
    request_id = office.asked("block", agent_id)
    if office.has_broker:
        office.until_state(request_id, "waiting", "no service takes commands at the moment")
    else:
        until(lambda: "block_agent is away" in office.get("/").text, "the page says nothing")
        assert office.request(request_id)["state"] == "waiting"
    until(office.compliance.is_ready, "it is not ready")
    office.management.start()
    assert office.outcome(request_id) == "done"
    until(lambda: " away" not in office.get("/").text, "the page goes on about it")


@pytest.mark.parametrize(
    "place",
    ["reaction_after_call", "reaction_before_acknowledging", "reaction_after_acknowledging"],
)
def test_compliance_that_dies_in_the_middle_has_one_effect(with_broker: Office, place: str) -> None:
    office = with_broker.open()
    agent_id = office.new_agent()
    office.compliance.stop()
    office.compliance.start(ORDERLY_FAILPOINT=place).wait_until_ready()
    request_id = office.asked("block", agent_id)
    assert office.compliance.wait() == EXIT_STATUS
    office.compliance.start().wait_until_ready()
    assert office.outcome(request_id) == "done"
    assert office.happened(agent_id) == ["AgentCreated", "AgentBlocked"]


def test_compliance_that_dies_after_an_answer_by_http_has_one_effect(
    without_broker: Office,
) -> None:
    office = without_broker.open()
    agent_id = office.new_agent()
    office.compliance.stop()
    place = {"ORDERLY_FAILPOINT": "reaction_after_call"}
    office.compliance.start(**place).wait_until_ready()
    request_id = office.asked("block", agent_id)
    assert office.compliance.wait() == EXIT_STATUS
    office.compliance.start().wait_until_ready()
    # The repeat is answered as the first was.
    assert office.outcome(request_id) == "done"
    assert office.happened(agent_id) == ["AgentCreated", "AgentBlocked"]


def test_a_command_whose_reply_is_lost_is_sent_again(with_broker: Office) -> None:
    office = with_broker.open()
    agent_id = office.new_agent()
    office.management.stop()
    request_id = office.asked("block", agent_id)
    office.until_state(request_id, "sent")
    office.compliance.stop()
    office.management.start().wait_until_ready()
    with channel_to(office) as channel:
        until(lambda: flow.messages_in(channel, REPLIES), "no reply")
    office.compliance.start().wait_until_ready()
    assert office.outcome(request_id) == "done"
    assert office.happened(agent_id) == ["AgentCreated", "AgentBlocked"]


def test_compliance_may_be_away_for_a_while(with_broker: Office) -> None:
    """What is answered and what happens meanwhile is there when it comes back."""
    office = with_broker.open()
    agents = [office.new_agent() for _ in range(3)]
    office.management.stop()
    requests = [office.asked("block", agent_id) for agent_id in agents]
    for request_id in requests:
        office.until_state(request_id, "sent")
    office.compliance.kill()
    office.management.start().wait_until_ready()
    until(lambda: all(len(office.happened(one)) == 2 for one in agents), "they are not blocked")
    late = office.new_agent()
    url = f"{office.management.url}/agents/block_agent/{late}"
    httpx.post(url).raise_for_status()
    office.compliance.start().wait_until_ready()
    assert [office.outcome(one) for one in requests] == ["done"] * 3
    for agent_id in (*agents, late):
        office.until_blocked(agent_id)
    assert office.system.verify() == ""


def test_the_broker_goes_away_and_comes_back(
    with_broker: Office, rabbitmq_server: RabbitUnderTest
) -> None:
    office = with_broker.open()
    agents = [office.new_agent() for _ in range(3)]
    assert office.outcome(office.asked("block", agents[0])) == "done"
    rabbitmq_server.stop()
    try:
        requests = [office.asked("block", agent_id) for agent_id in agents[1:]]
        until(lambda: "the broker is away" in office.get("/").text, "the page says nothing")
        assert [office.request(one)["state"] for one in requests] == ["waiting"] * 2
        until(office.compliance.is_ready, "it is not ready")
    finally:
        rabbitmq_server.start()
    assert [office.outcome(one) for one in requests] == ["done"] * 2
    until(lambda: " away" not in office.get("/").text, "the page goes on about it")


def test_what_is_no_reply_is_put_aside_with_the_reason(with_broker: Office) -> None:
    office = with_broker.open()
    agent_id, nobody = office.new_agent(), str(uuid4())
    done = b'{"outcome":"done"}'
    useless: list[tuple[bytes, str | None, str]] = [
        (done, nobody, "correlation_id: nobody asked for this"),
        (done, None, "correlation_id: must be a UUID"),
        (done, "17", "correlation_id: must be a UUID"),
        (b"", nobody, "body: "),
        (b'{"outcome":"splendid"}', nobody, "outcome: "),
        (b'{"outcome":"done","detail":"\\u0000"}', nobody, "detail: "),
        (done + b" " * 70_000, nobody, "body: must have at most"),
    ]
    with channel_to(office) as channel:
        for body, correlation_id, _ in useless:
            properties = pika.BasicProperties(correlation_id=correlation_id)
            channel.basic_publish("", REPLIES, body, properties)
        letters: list[Any] = []
        until(
            lambda: (
                letters.extend(flow.messages_in(channel, DEAD_LETTERS))
                or len(letters) == len(useless)
            ),
            "they are not put aside",
        )
    for (body, _, reason), (properties, letter) in zip(useless, letters, strict=True):
        assert letter == body
        assert properties.headers["reason"].startswith(reason)
        assert properties.headers["queue"] == REPLIES
    assert office.outcome(office.asked("block", agent_id)) == "done"


def test_two_processes_work_side_by_side_and_one_goes_on_without_the_other(office: Office) -> None:
    office.open()
    office.other.start().wait_until_ready()
    agents = [office.new_agent() for _ in range(3)]
    asked = []
    for agent_id in agents:
        asked.append(office.asked("block", agent_id))
        url = f"{office.other.url}/unblock_agent/{agent_id}"
        asked.append(httpx.post(url).raise_for_status().json()["id"])
    assert {office.outcome(one) for one in asked} == {"done"}
    office.compliance.kill()
    url = f"{office.other.url}/block_agent/{agents[0]}"
    last = httpx.post(url).raise_for_status().json()["id"]
    until(lambda: len(office.happened(agents[0])) == 4, "nobody takes over")
    office.compliance.start().wait_until_ready()
    assert office.outcome(last) == "done"
    changes = ["AgentCreated", "AgentBlocked", "AgentUnblocked"]
    assert office.happened(agents[0]) == [*changes, "AgentBlocked"]
    assert [office.happened(one) for one in agents[1:]] == [changes] * 2


def test_agents_are_found_by_name_address_and_id_page_by_page(without_broker: Office) -> None:
    office = without_broker.open()
    names = ["Éva", "bea", "Bert", "BEAT", "Zoë", "be_t"]
    agents = {name: office.new_agent(name) for name in names}
    mail = office.new_agent("Mia", "Mia@Example.org")
    until(lambda: len(office.shown()) == len(names) + 1, "they are not all there")
    in_order = [one["name"] for one in office.shown()]
    assert in_order == ["be_t", "bea", "BEAT", "Bert", "Mia", "Zoë", "Éva"]
    paged: list[str] = []
    parameters = {"size": "2"}
    while page := office.shown(**parameters):
        paged += [one["name"] for one in page]
        parameters["last_reference"] = page[-1]["id"]
    assert paged == in_order
    assert [one["name"] for one in office.shown("BEA")] == ["bea", "BEAT"]
    after = office.shown("be", size="2")[-1]["id"]
    assert [one["name"] for one in office.shown("be", last_reference=after)] == ["BEAT", "Bert"]
    assert [one["name"] for one in office.shown("é")] == ["Éva"]
    assert [one["id"] for one in office.shown("mia@example.ORG")] == [mail]
    for nothing in ("x", "be%", "nobody@example.org", str(uuid4()), "\0", "\U0010ffff"):
        assert office.shown(nothing) == []
    zoe = office.shown(agents["Zoë"])
    assert [one["name"] for one in zoe] == ["Zoë"]
    assert [one["name"] for one in office.shown(zoe[0]["account_id"])] == ["Zoë"]
    office.outcome(office.asked("block", agents["Bert"]))
    office.until_blocked(agents["Bert"])
    assert [one["name"] for one in office.shown(blocked="true")] == ["Bert"]
    assert office.shown("bea", blocked="true") == []
    # A removed agent is not shown, and a page that ended with it leads on.
    account = office.shown(agents["bea"])[0]["account_id"]
    removal = httpx.delete(f"{office.management.url}/accounts/{account}")
    assert removal.status_code == 202
    until(lambda: office.shown(agents["bea"]) == [], "it is still shown")
    assert [one["name"] for one in office.shown(size="1", last_reference=agents["bea"])] == ["BEAT"]


def test_only_an_administrator_may_use_it(with_broker: Office) -> None:
    office = with_broker
    roles = {"alice": "client", "boss": "admin"}
    tokens = {name: new_token(name, role) for name, role in roles.items()}
    office.system.environment["API_TOKENS"] = ",".join(entry for _, entry in tokens.values())
    office.open()
    alice, boss = ({"X-Token": tokens[name][0]} for name in ("alice", "boss"))
    agent_id = office.new_agent(**alice)
    paths = ["/", "/agents", "/requests", f"/requests/{uuid4()}"]
    for headers, expected in (({}, 401), ({"X-Token": "x"}, 401), (alice, 403)):
        for path in paths:
            assert office.get(path, **headers).status_code == expected, path
        for action in ("block", "unblock"):
            assert office.ask(action, agent_id, **headers).status_code == expected
        posted = httpx.post(f"{office.compliance.url}/", data=form(agent_id), headers=headers)
        assert posted.status_code == expected
    assert office.outcome(office.asked("block", agent_id, **boss), **boss) == "done"
    assert len(office.get("/requests", **boss).json()["items"]) == 1
    assert office.request(office.asked("block", agent_id, **boss), **boss)["requested_by"] == "boss"


@pytest.mark.parametrize("role", ["client", "admin", None])
def test_without_a_broker_it_has_to_be_an_administrator_itself(
    without_broker: Office, role: str | None
) -> None:
    office = without_broker
    tokens = {"alice": new_token("alice", "client"), "boss": new_token("boss", "admin")}
    if role:
        tokens["services"] = new_token("services", role)
        office.system.environment["SERVICE_TOKEN"] = tokens["services"][0]
    office.system.environment["API_TOKENS"] = ",".join(entry for _, entry in tokens.values())
    if role != "admin":
        assert office.compliance.start().wait() == 2
        assert "SERVICE_TOKEN: without BROKER_URL compliance needs" in office.compliance.log()
        return
    office.open()
    boss = {"X-Token": tokens["boss"][0]}
    agent_id = office.new_agent(**{"X-Token": tokens["alice"][0]})
    assert office.outcome(office.asked("block", agent_id, **boss), **boss) == "done"


def form(agent_id: str, **more: str) -> dict[str, str]:
    return {"agent_id": agent_id, "action": "block", "key": str(uuid4()), **more}


def test_the_page_blocks_an_agent_by_its_own_form(without_broker: Office) -> None:
    office = without_broker.open()
    agent_id = office.new_agent("<b>Bo</b>")
    until(lambda: office.shown(agent_id), "the agent is not there")
    page = office.get("/?search=%3Cb")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    # With no-referrer a browser would send `Origin: null`, and be refused.
    assert page.headers["referrer-policy"] == "same-origin"
    assert "<b>Bo" not in page.text
    assert "&lt;b&gt;Bo&lt;/b&gt;" in page.text
    action, fields = form_on(page.text)
    assert fields["agent_id"] == agent_id
    sent = {**fields, "reason": "late <papers>"}
    own = {"Origin": office.compliance.url}
    for headers in (own, {"Sec-Fetch-Site": "same-origin", "Origin": "null"}):
        # The same button, pressed twice.
        posted = httpx.post(f"{office.compliance.url}{action}", data=sent, headers=headers)
        assert (posted.status_code, posted.headers["location"]) == (303, action)
    for headers in ({"Origin": "https://example.org"}, {"Sec-Fetch-Site": "cross-site", **own}):
        refused = httpx.post(f"{office.compliance.url}{action}", data=sent, headers=headers)
        assert refused.status_code == 403
    (request,) = office.get("/requests").json()["items"]
    assert request["reason"] == "late <papers>"
    assert office.outcome(request["id"]) == "done"
    office.until_blocked(agent_id)
    page = office.get("/")
    assert "late &lt;papers&gt;" in page.text
    assert form_on(page.text)[1]["action"] == "unblock"


def form_on(page: str) -> tuple[str, dict[str, str]]:
    """Where the first form for an agent goes, and what it sends."""
    found = re.search(r'<form class="choose" method="post" action="([^"]*)">(.*?)</form>', page)
    assert found
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', found[2])
    return found[1].replace("&amp;", "&"), dict(hidden)


def test_bad_input_is_refused_and_nothing_is_asked_for(without_broker: Office) -> None:
    office = without_broker.open()
    agent_id, secret = office.new_agent(), "4111111111111111"
    url = office.compliance.url
    answers = [
        office.ask("block", secret),
        office.ask("block", agent_id, {"reason": ""}),
        office.ask("block", agent_id, {"reason": f"{secret}\0"}),
        office.ask("block", agent_id, {"reason": "x" * 201}),
        office.ask("block", agent_id, {"colour": secret}),
        office.ask("block", agent_id, [secret]),
        office.ask("block", agent_id, **{"Idempotency-Key": "a b"}),
        office.get(f"/requests/{secret}"),
        office.get("/requests?size=0"),
        office.get("/requests?size=1001"),
        office.get(f"/requests?last_reference={secret}"),
        office.get(f"/agents?last_reference={secret}"),
        office.get("/agents?blocked=perhaps"),
        office.get(f"/agents?search={'x' * 255}"),
        office.get(f"/?older_than={secret}"),
        httpx.post(f"{url}/", data=form(secret)),
        httpx.post(f"{url}/", data=form(agent_id, action="dance")),
        httpx.post(f"{url}/", data=form(agent_id, key=secret)),
        httpx.post(f"{url}/", data=form(agent_id, reason=f"{secret}\0")),
        httpx.post(f"{url}/", data=form(agent_id, colour=secret)),
        httpx.post(f"{url}/", data={str(number): "" for number in range(20)}),
        httpx.post(f"{url}/", content=b"a=%ff", headers={"Content-Type": FORM_TYPE}),
        httpx.post(f"{url}/", content=b"\xff", headers={"Content-Type": FORM_TYPE}),
    ]
    for answer in answers:
        assert answer.status_code == 422, answer.request.url
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"]
        assert secret not in answer.text
    assert httpx.post(f"{url}/", json=form(agent_id)).status_code == 415
    for path in ("/requests", "/agents"):
        assert office.get(f"{path}?last_reference={uuid4()}").status_code == 404
    assert office.get(f"/requests/{uuid4()}").status_code == 404
    assert office.get("/requests").json()["items"] == []


FORM_TYPE = "application/x-www-form-urlencoded"


@contextmanager
def channel_to(office: Office) -> Iterator[Any]:
    """A channel of a test's own on the office's virtual host."""
    url = office.system.environment["BROKER_URL"]
    settings = office.databases.settings.model_copy(update={"broker_url": url})
    with flow.channel_to(settings) as channel:
        yield channel


def delete_queue(office: Office, queue: str) -> None:
    with channel_to(office) as channel:
        channel.queue_delete(queue)


def test_what_is_asked_for_is_on_the_exchange_as_the_contract_says(with_broker: Office) -> None:
    """Somebody else's block_agent could take it."""
    office = with_broker
    office.compliance.start().wait_until_ready()
    with channel_to(office) as channel:
        channel.exchange_declare("commands", "topic", durable=True)
        channel.queue_declare("theirs")
        channel.queue_bind("theirs", "commands", "agent.*")
        agent_id = str(uuid4())
        request_id = office.ask("unblock", agent_id, {"reason": "a"}).json()["id"]
        taken: list[tuple[Any, bytes]] = []
        until(lambda: taken.extend(flow.messages_in(channel, "theirs")) or taken, "nothing comes")
        properties, body = taken[0]
        assert json.loads(body) == {
            "agent_id": agent_id,
            "reason": "a",
            "idempotence_key": request_id,
        }
        assert (properties.correlation_id, properties.message_id) == (request_id, request_id)
        assert (properties.reply_to, properties.delivery_mode) == (REPLIES, 2)
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", REPLIES, b'{"outcome":"refused","detail":"no"}', reply)
        assert office.outcome(request_id) == "refused"
        # The first answer counts. What comes after it is read before what comes after that.
        channel.basic_publish("", REPLIES, b'{"outcome":"done"}', reply)
        channel.basic_publish("", REPLIES, b"nonsense", reply)
        letters: list[Any] = []
        until(lambda: letters.extend(flow.messages_in(channel, DEAD_LETTERS)) or letters, "none")
        assert [body for _, body in letters] == [b"nonsense"]
    assert office.request(request_id)["state"] == "refused"
    assert office.request(request_id)["detail"] == "no"
