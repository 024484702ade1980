"""The gateway, a real nginx with the cluster's configuration: whom it limits, what it logs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from codebase.embedded.keeper import Keeper, Program
from tests.integration.flow import eventually
from tests.integration.shell import Reply, Server, in_time, running, small_service

CONFIGURATION = Path(__file__).parents[2] / "config/nginx/nginx.conf"
INSTALL = "sudo apt-get install --no-install-recommends nginx-light"
BURST = 5
TOO_MANY = 429
NOBODY = 1
"""A port that nothing listens on."""
PERSONAL = "alice.liddell"


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A running gateway; `port_of` tells where what the cluster publishes on a port is."""

    port_of: dict[int, int]
    log: Path

    def on(self, port: int) -> Server:
        return Server(self.port_of[port])

    def lines(self, count: int) -> list[dict[str, Any]]:
        """So many records, as soon as they are there."""
        eventually(lambda: self.log.read_text().count("\n") >= count)
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def configuration(folder: Path, port_of: dict[int, int], service: int) -> str:
    """The cluster's, with other ports, one service behind it, and a limit that is soon reached."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    for before, after in {
        "http://$service:8080": f"http://127.0.0.1:{service}",
        "/tmp/": f"{folder}/",  # noqa: S108 - where the cluster's has a tmpfs
        "rate=2000r/s": "rate=1r/m",
        "burst=2000": f"burst={BURST - 1}",
    }.items():
        assert before in text
        text = text.replace(before, after)
    ports = "|".join(map(str, port_of))
    text = re.sub(
        rf"\blisten ({ports});", lambda m: f"listen 127.0.0.1:{port_of[int(m[1])]};", text
    )
    text = re.sub(rf"\b({ports})(?=\s+[$\w]+;|\) )", lambda m: str(port_of[int(m[1])]), text)
    return text.replace("127.0.0.1:8081;", f"127.0.0.1:{port_of[8081]};")


StartGateway = Callable[[int], Gateway]


@pytest.fixture
def gateway(keeper: Keeper, free_port: Callable[[], int], tmp_path: Path) -> Iterator[StartGateway]:
    """Call it with the port of the service that is behind it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, f"no nginx on this machine: {INSTALL}"
    started = []

    def start(service: int) -> Gateway:
        text = CONFIGURATION.read_text(encoding="utf-8")
        port_of = {int(port): free_port() for port in re.findall(r"listen (\d+);", text)}
        port_of[8081] = free_port()
        file, log = tmp_path / "nginx.conf", tmp_path / "log"
        file.write_text(configuration(tmp_path, port_of, service))
        nginx = Program(
            name="nginx",
            command=[program, "-c", file, "-g", "daemon off; master_process off;"],
            environment={},
        )
        with log.open("ab") as output:
            process = keeper.spawn(nginx, output)
        started.append(process)
        eventually(lambda: answers(port_of[8081]) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return Gateway(port_of=port_of, log=log)

    yield start
    for process in started:
        keeper.stop(process)


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_a_token_opens_no_bucket_of_its_own(
    gateway: StartGateway, free_port: Callable[[], int]
) -> None:
    service = free_port()
    limited = gateway(service)

    async def scenario() -> None:
        async with running([small_service()], service):
            statuses, began = [], monotonic()
            for number in range(3 * BURST):
                header = "X-Token" if number % 2 else "Authorization"
                sent = {header: f"Bearer guess-{number}"}
                statuses.append(
                    (await limited.on(8777).ask("GET", "/healthz", headers=sent)).status
                )
            minutes = (monotonic() - began) / 60
        assert set(statuses) == {200, 429}
        assert statuses[:BURST] == BURST * [200]
        # And no others, but for one in each minute that it takes.
        assert statuses.count(200) <= BURST + minutes

    in_time(scenario)
    assert "REJECTED" in {line["rate"] for line in limited.lines(3 * BURST)}


def test_a_log_says_what_came_of_a_request_and_nothing_of_its_path(
    gateway: StartGateway, free_port: Callable[[], int]
) -> None:
    service = free_port()
    written = gateway(service)
    email = f"{PERSONAL}@example.org"
    headers = {"Referer": f"http://x/?search={email}", "User-Agent": email}
    answered: list[Reply] = []
    paths = (
        f"/agents/find_agent/{email}?also={email}",
        # Nobody has these, so that they count for no limit.
        f"/{email}",
        f"/x?of={email}",
    )

    async def scenario() -> None:
        asking = written.on(9090)
        async with running([small_service()], service):
            answered.extend([await asking.ask("POST", path, headers=headers) for path in paths])
        # Nobody is there any more, and soon all is used up.
        while answered[-1].status != TOO_MANY:
            answered.append(await asking.ask("POST", paths[0], headers=headers))
        async with asking.client() as client:
            client.send(f"GET /{email} HTTP/1.1\r\nHost: {email} {email}\r\n\r\n".encode())
            answered.append(await client.reply())

    in_time(scenario)
    # One more in each minute that it takes.
    passed = len(answered) - len(paths) - 2
    assert passed >= BURST - 1
    assert [answer.status for answer in answered] == [
        *(404, 404, 404),
        *[503] * passed,
        *(TOO_MANY, 400),
    ]
    lines = written.lines(len(answered))
    assert PERSONAL not in written.log.read_text()
    assert [line["status"] for line in lines] == [answer.status for answer in answered]
    assert [line["route"] for line in lines] == [
        *("/agents", "other", "/x"),
        *["/agents"] * (passed + 1),
        "other",
    ]
    # What was answered here is in no other log; the rest is found there by the same id.
    assert lines[0]["request_id"] == answered[0].headers["x-request-id"]
    assert lines[3]["request_id"] == answered[3].json["instance"]
    assert (lines[0]["passed_to"], lines[0]["method"]) == ("fetch_agents", "POST")
    assert (lines[3]["upstream_status"], lines[-2]["rate"]) == ("502", "REJECTED")


def test_the_gateways_own_answers_are_kept_nowhere_and_taken_for_what_they_are(
    gateway: StartGateway,
) -> None:
    alone = gateway(NOBODY)

    async def scenario() -> None:
        for path, status in {"/nowhere": 404, "/accounts": 503, "/_swagger": 200}.items():
            answer = await alone.on(9090).ask("GET", path)
            assert answer.status == status
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
            if status != 503:
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]

    in_time(scenario)


def test_what_a_service_says_of_its_answer_is_said_once(
    gateway: StartGateway, free_port: Callable[[], int]
) -> None:
    service = free_port()
    before = gateway(service)

    async def scenario() -> None:
        async with running([small_service()], service) as behind:
            for path in ("/docs", "/_swagger", "/healthz", "/readyz"):
                own = await behind.ask("GET", path)
                async with before.on(8777).client() as client:
                    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    head = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
                for name in ("x-content-type-options", "cache-control", "content-security-policy"):
                    assert head.count(f"\r\n{name}: ") == (name in own.headers), name

    in_time(scenario)
