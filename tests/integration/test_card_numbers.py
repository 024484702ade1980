"""A card's number is in the request, and nowhere else: not whole, and not to be guessed.

Two hundred distinct numbers go through the service: paid, refused, taken for fraud, malformed,
parked, cut off by a crash. Then whatever was written anywhere is searched for each of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.keys import keys_of
from codebase.model.payments.cards import CardNumber, CardReducer
from codebase.views.payments.settings import PaymentSettings
from tests import processes
from tests.integration.flow import channel_to, eventually, is_projected, is_relayed, query
from tests.integration.jobs import on_a_loop
from tests.integration.payments import (
    POLICE_PATH,
    Outside,
    outside_open,
    payment,
    settings_of,
    some_card,
)
from tests.integration.police import documented
from tests.integration.test_logs_fluentd import receiver
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from codebase.foundation.settings import Settings
    from tests.conftest import PostgresUnderTest
    from tests.databases import Databases

PAID, REFUSED, FRAUD, MALFORMED, PARKED, CRASHED = 130, 15, 15, 30, 5, 5
PARKED_NOW = "SELECT count(*) FROM reaction.intent WHERE state = 'parked'"
WAITING_NOW = "SELECT count(*) FROM reaction.intent WHERE state = 'waiting'"
WORD = re.compile(rb"[A-Za-z0-9+/_-]{10,}")
DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256")


@contextmanager
def collector(port: int) -> Iterator[list[bytes]]:
    """Takes traces, as they come over the wire."""
    taken: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    @asynccontextmanager
    async def at_work() -> AsyncIterator[None]:
        app = web.Application()
        app.add_routes([web.post("/v1/traces", take)])
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
        await runner.cleanup()

    with on_a_loop(at_work):
        yield taken


class Everything:
    """The service with its neighbours as a process, and all that it says."""

    def __init__(self, settings: PaymentSettings, folder: Path, port: int, **extra: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.output = folder / "output"
        self._arguments = ["serve", "transact", "fraud_police", "read_model_sync", "event_relay"]
        self._arguments += ["--port", str(port)]
        told = {
            name.upper(): str(value)
            for name, value in settings.model_dump(exclude_defaults=True).items()
        }
        self._environment = {
            "PATH": os.environ["PATH"],
            "ORDERLY_HOME": str(folder),
            **told,
            "CARD_KEYS": ",".join(settings.card_keys),
            "LOG_LEVEL": "DEBUG",
            "ACCESS_LOG": "true",
            **extra,
        }
        self.answers: list[bytes] = []

    @contextmanager
    def running(self, **extra: str) -> Iterator[BaseProcess]:
        with self.output.open("ab") as output:
            process = processes.start(self._arguments, {**self._environment, **extra}, output)
        try:
            eventually(lambda: self._is_ready(process), "the service is not ready")
            yield process
        finally:
            process.terminate()
            process.join(PATIENCE_SECONDS)

    def _is_ready(self, process: BaseProcess) -> bool:
        assert process.is_alive(), self.output.read_text()
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, **options: Any) -> int:  # noqa: ANN401 - httpx's
        answer = httpx.request(method, f"{self.url}{path}", **options)
        self.answers.append(f"{answer.headers} {answer.text}".encode())
        return answer.status_code

    def pay(self, body: Mapping[str, Any], key: str | None = None) -> int:
        headers = {"Idempotency-Key": key or uuid4().hex}
        return self.ask("POST", "/transact", json=body, headers=headers)


def malformed(number: str, nth: int) -> tuple[str, str, dict[str, Any]]:
    """A request with a number where there should be none, or in no form that is taken."""
    good = payment(card=number)
    spaced = " ".join(number[at : at + 4] for at in range(0, 16, 4))
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/transact", {"json": payment(card=spaced)}),
        ("POST", "/transact", {"json": payment(card=f"{number}12345")}),
        ("POST", "/transact", {"json": {**good, number: 1}}),
        ("POST", "/transact", {"json": {**good, "track2": f";{number}=2912"}}),
        ("POST", "/transact", {"json": payment(number)}),
        ("POST", "/transact", {"json": payment(card=number, method=number)}),
        ("POST", "/transact", {"json": payment(card=number, name=f"card {spaced}")}),
        ("POST", "/transact", {"json": payment(card=number, id=int(number))}),
        ("POST", "/transact", {"json": payment(card=[number])}),
        ("POST", "/transact", {"content": f'{{"card":{number}'}),
        ("POST", "/transact", {"json": good, "headers": {"Idempotency-Key": number}}),
        ("POST", "/transact", {"json": good, "headers": {"Content-Type": f"text/{number}"}}),
        ("GET", f"/transactions/{number}", {}),
        ("GET", f"/transactions?last_reference={number}&{number}=1", {}),
        ("POST", f"/transact/{number}", {"json": good}),
        *to_the_police(number, spaced),
    ]
    return ways[nth % len(ways)]


def right_card(chance: random.Random) -> str:
    """A number that no other test has, with Luhn's digit, by which texts are searched for them."""
    numbers = iter(lambda: some_card(chance), None)
    return next(number for number in numbers if CardNumber(number).has_luhn_digit)


def to_the_police(number: str, spaced: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Whatever people write, with a number in it."""
    listing = {"list": "block", "ends_at": "2999-01-01T00:00:00Z", "reason": "stolen"}
    label = {"label": "confirmed", "reason": f"it was {number}"}
    header = {"X-User-Id": f"user {number}"}
    return [
        ("POST", "/listings", {"json": {**listing, "client": "shop", "reason": number}}),
        ("POST", "/listings", {"json": {**listing, "client": spaced}}),
        ("POST", f"/decisions/{uuid4()}/label", {"json": label}),
        ("POST", POLICE_PATH, {"json": documented(userID=spaced)}),
        ("POST", POLICE_PATH, {"json": documented(), "headers": header}),
        ("POST", POLICE_PATH, {"json": documented(paymentMethod=f"card-{number}")}),
    ]


@dataclass(frozen=True, eq=False)
class Found:
    """All that was written, by where it was found."""

    places: Mapping[str, bytes]

    def holding(self, wanted: bytes) -> list[str]:
        return [name for name, content in self.places.items() if wanted in content]

    @cached_property
    def words(self) -> frozenset[bytes]:
        """Whatever may be a digest: the runs of letters and digits that are long enough."""
        return frozenset(word for each in self.places.values() for word in WORD.findall(each))


def dump(server: PostgresUnderTest, url: str) -> bytes:
    name = url.rpartition("/")[2].partition("?")[0]
    command = [str(server.program("pg_dump")), server.superuser_url(name)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def files_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def guesses(number: str) -> Iterator[bytes]:
    """Whatever would be written if a number were hashed without a key.

    Who knows the issuer and the last four has a million numbers to try, and this one among them.
    """
    for name in DIGESTS:
        digest = hashlib.new(name, number.encode()).digest()
        for kept in (digest, digest[:16], digest[:8]):
            yield kept.hex().encode()
            yield base64.b64encode(kept).rstrip(b"=")
            yield base64.urlsafe_b64encode(kept).rstrip(b"=")


@pytest.fixture
def outside(free_port: Callable[[], int]) -> Iterator[Outside]:
    with outside_open(free_port()) as opened:
        yield opened


def manner_of_police(body: Mapping[str, Any], _nth: int) -> str:
    return {"fraud": "fraud", "parked": "nonsense"}.get(body["order"]["name"], "clear")


def test_no_number_is_found_anywhere_but_in_its_request(
    *,
    databases: Databases,
    with_broker: Settings,
    postgres_server: PostgresUnderTest,
    server_folder: Path,
    outside: Outside,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    chance = random.Random("cards")  # noqa: S311 - repeatable
    settings = settings_of(databases, outside).model_copy(
        update={"broker_url": with_broker.broker_url, "read_model_check_seconds": 0.2}
    )
    logs, traces = free_port(), free_port()
    everything = Everything(
        settings,
        tmp_path,
        free_port(),
        LOGGING_HOST="127.0.0.1",
        LOGGING_PORT=str(logs),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{traces}",
    )
    outside.police = manner_of_police
    outside.provider = lambda body, _nth: "refuse" if body["amount"] == "402.00" else "charge"
    numbers = [right_card(chance) for _ in range(200)]
    assert len(numbers) == PAID + REFUSED + FRAUD + MALFORMED + PARKED + CRASHED
    left = iter(numbers)
    with channel_to(settings) as channel, receiver(logs) as log, collector(traces) as traced:
        with everything.running(ORDERLY_FAILPOINT="transact_after_append") as dying:
            channel.queue_declare("canary", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind("canary", "events", "#")
            with pytest.raises(httpx.TransportError):
                everything.pay(payment(card=next(left), name="crashed"))
            dying.join(PATIENCE_SECONDS)
            assert dying.exitcode == EXIT_STATUS
        with everything.running():
            for _ in range(PAID):
                assert everything.pay(payment(card=next(left), name="paid")) in {200, 202}
            for _ in range(REFUSED):
                assert everything.pay(payment("402.00", card=next(left))) in {202, 402}
            for _ in range(FRAUD):
                assert everything.pay(payment(card=next(left), name="fraud")) in {202, 402}
            for nth in range(MALFORMED):
                method, path, options = malformed(next(left), nth)
                assert 400 <= everything.ask(method, path, **options) < 500, (path, options)
            for _ in range(PARKED):
                assert everything.pay(payment(card=next(left), name="parked")) == 202
            eventually(lambda: query(databases.as_owner(), PARKED_NOW) == [(PARKED,)])
            for _ in range(CRASHED - 1):
                assert everything.pay(payment(card=next(left), name="crashed")) in {200, 202}
            eventually(lambda: query(databases.as_owner(), WAITING_NOW) == [(0,)])
            eventually(lambda: is_projected(databases) and is_relayed(databases))
            assert everything.ask("GET", "/metrics") == 200
            assert everything.ask("GET", "/transactions?size=1000") == 200
        assert next(left, None) is None
        published = channel.queue_declare("canary", passive=True).method.message_count
    found = Found(
        {
            "write model": dump(postgres_server, settings.required("write_model_owner_url")),
            "read model": dump(postgres_server, settings.required("read_model_owner_url")),
            "broker": files_below(server_folder / "rabbitmq"),
            "server's log": (server_folder / "postgres" / "log").read_bytes(),
            "output": everything.output.read_bytes(),
            "FluentD": json.dumps([each.record for each in log.records], default=str).encode(),
            "traces": b"".join(traced),
            "answers": b"".join(everything.answers),
            "police and provider": json.dumps([*outside.asked, *outside.bodies]).encode(),
            "home": files_below(tmp_path),
        }
    )
    assert published > 4 * PAID
    search(found, numbers, settings, databases)


def search(
    found: Found, numbers: list[str], settings: PaymentSettings, databases: Databases
) -> None:
    """Nothing is found of any number; and the search would find what is there."""
    for place in ("write model", "read model", "answers", "police and provider", "broker"):
        assert found.holding(b"crashed").count(place) == 1, place
    for place in ("output", "FluentD", "traces"):
        assert b"/transact" in found.places[place], place
    for number in numbers:
        assert found.holding(number.encode()) == []
        # Beside the last four, which are known, the middle would be all that is missing.
        assert found.holding(number[6:].encode()) == []
        assert found.words.isdisjoint(guesses(number))
    reducer = CardReducer(keys_of("CARD_KEYS", settings.card_keys))
    first = reducer.reduce(CardNumber.read(numbers[0])).fingerprints[0]
    assert {"write model", "police and provider"} <= set(found.holding(first.encode()))
    assert first.partition(":")[2].encode() in found.words
    [(kept,)] = query(databases.as_owner(), "SELECT count(*) FROM event WHERE version = 1")
    assert kept == len(numbers) - MALFORMED
    keys = [entry.partition(":")[2] for entry in settings.card_keys]
    assert all(found.holding(key.encode()) == [] for key in keys)
