"""A card's number is in the request, and nowhere else: not whole, and not to be guessed.

Two thousand distinct numbers go through the services: paid, refused, taken for fraud, malformed,
shown to the fraud police, parked, tried again, cut off by crashes. Then whatever was written
anywhere is searched for each of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
from aiohttp import web

from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.keys import keys_of
from codebase.model.payments.alert import Channel
from codebase.model.payments.cards import CardNumber, CardReducer
from codebase.views.payments.settings import PaymentSettings
from tests import processes
from tests.card_search import MIDDLE, beginnings, digested, guessed, held
from tests.integration.alerts import topics
from tests.integration.answering import answering
from tests.integration.flow import channel_to, eventually, is_projected, is_relayed, query
from tests.integration.jobs import on_a_loop
from tests.integration.payments import (
    POLICE_PATH,
    Outside,
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

PAID, REFUSED, FRAUD, MALFORMED = 1_100, 100, 150, 420
SHOWN, LISTED, PARKED, RETRIED, CRASHED = 60, 20, 30, 60, 60
GUESSED = 100
ISSUER, LAST_FOUR = "453957", "1486"
AT_ONCE = 16
PARKED_NOW = "SELECT count(*) FROM reaction.intent WHERE state = 'parked'"
WAITING_NOW = "SELECT count(*) FROM reaction.intent WHERE state = 'waiting'"
ALERTED = """
    SELECT count(*) FROM event WHERE category = 'transaction' AND type = 'TransactionAlerted'
"""
ALL_ARE_SENT = {"alert.sent": len(Channel) * FRAUD}
SHORT_MESSAGE = re.compile(rb'"id":\s*"(\S+)\.sms",\s*"text":\s*"Fraud: 1 transaction')
ADMIN = "administrator of cards"


@contextmanager
def collector(port: int) -> Iterator[list[bytes]]:
    """Takes traces and short messages, as they come over the wire."""
    taken: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(f"{request.path} {dict(request.headers)} ".encode() + await request.read())
        return web.Response(content_type="application/x-protobuf")

    routes = [web.post(path, take) for path in ("/v1/traces", "/sms")]
    with on_a_loop(lambda: answering(port, *routes)):
        yield taken


class Everything:
    """The services with their neighbours as a process, and all that they say."""

    def __init__(self, settings: PaymentSettings, folder: Path, port: int, **extra: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.output = folder / "output"
        self.answers: list[tuple[str, bytes]] = []
        self._arguments = ["serve", "transact", "fraud_police", "alertman", "read_model_sync"]
        self._arguments += ["event_relay", "--port", str(port)]
        told = {
            name.upper(): str(value)
            for name, value in settings.model_dump(exclude_defaults=True).items()
        }
        self._environment = {
            "PATH": os.environ["PATH"],
            "ORDERLY_HOME": str(folder),
            **told,
            "CARD_KEYS": ",".join(settings.card_keys),
            "API_TOKENS": ",".join(tokens()),
            "ALERT_MAIL_FOLDER": str(folder / "mails"),
            "LOG_LEVEL": "DEBUG",
            "ACCESS_LOG": "true",
            **extra,
        }
        self._client = httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def started(self, **extra: str) -> BaseProcess:
        with self.output.open("ab") as output:
            return processes.start(self._arguments, {**self._environment, **extra}, output)

    @contextmanager
    def running(self, **extra: str) -> Iterator[BaseProcess]:
        process = self.started(**extra)
        try:
            eventually(lambda: self._is_ready(process), "the service is not ready")
            yield process
        finally:
            process.terminate()
            process.join(PATIENCE_SECONDS)

    def dies_at(self, failpoint: str) -> None:
        """Of what is left to do, without a request."""
        ends_at_failpoint(self.started(ORDERLY_FAILPOINT=failpoint))

    def _is_ready(self, process: BaseProcess) -> bool:
        assert process.is_alive(), self.output.read_text()
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, **options: Any) -> int:  # noqa: ANN401 - httpx's
        return self.answer(method, path, **options).status_code

    def answer(
        self,
        method: str,
        path: str,
        *,
        by: str = ADMIN,
        **options: Any,  # noqa: ANN401 - httpx's
    ) -> httpx.Response:
        headers = {"X-Token": by, **options.pop("headers", {})}
        answer = self._client.request(method, path, headers=headers, **options)
        place = "metrics" if path == "/metrics" else "answers"
        place = "problems" if answer.status_code >= 400 else place
        self.answers.append((place, f"{answer.headers} {answer.text}".encode()))
        return answer

    def pay(self, body: Mapping[str, Any], key: str | None = None, **options: Any) -> int:  # noqa: ANN401 - httpx's
        headers = {"Idempotency-Key": key or uuid4().hex, **beside(body["payment"]["card"])}
        return self.ask("POST", "/transact", json=body, headers=headers, **options)

    def shows_all(self) -> None:
        """Have all of it read, as people and their programs do."""
        for path in ("/metrics", "/", "/rules"):
            assert self.ask("GET", path) == 200
        for path in ("/transactions", "/alerts", "/decisions", "/listings"):
            last: str | None = ""
            while last is not None:
                after = f"&last_reference={last}" if last else ""
                answer = self.answer("GET", f"{path}?size=1000{after}")
                last = answer.raise_for_status().json()["last_reference"]

    def answered(self, place: str) -> bytes:
        """All answers of this kind."""
        return b"".join(answer for kind, answer in self.answers if kind == place)

    def all_pay(self, bodies: Iterable[Mapping[str, Any]], wanted: set[int]) -> None:
        """Several at once, each by another client if they are taken for fraud."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            asked = [
                threads.submit(self.pay, body, by=client_of(nth) if is_fraud(body) else ADMIN)
                for nth, body in enumerate(bodies)
            ]
        found = {each.result() for each in asked}
        assert found <= wanted, found

    def refuses(self, numbers: Iterable[str]) -> None:
        """Whatever has a number where there should be none, several at once."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            asked = [
                (way, threads.submit(self.ask, way[0], way[1], **way[2]))
                for way in (malformed(number, nth) for nth, number in enumerate(numbers))
            ]
        for way, answer in asked:
            assert 400 <= answer.result() < 500, way


def ends_at_failpoint(process: BaseProcess) -> None:
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == EXIT_STATUS


def is_fraud(body: Mapping[str, Any]) -> bool:
    return bool(body["order"]["name"] == "fraud")


def client_of(nth: int) -> str:
    """Who of many clients has a transaction that is taken for fraud: each has a mail of its own."""
    return f"token of client {nth}"


def tokens() -> Iterator[str]:
    """API_TOKENS: an administrator and as many clients as there are alerts."""
    for name, role, token in (
        ("admin", "admin", ADMIN),
        *((f"client{nth}", "client", client_of(nth)) for nth in range(FRAUD)),
    ):
        yield f"{name}:{role}:{hashlib.sha256(token.encode()).hexdigest()}"


def beside(number: str) -> dict[str, str]:
    """Headers that nobody asked for, in which a client says its card's number as well."""
    texts = ("User-Agent", "Referer", "Cookie", "X-Request-Id", "tracestate", "baggage", "X-Card")
    trace = {"traceparent": f"00-{number:0>32}-{number}-01"}
    return {**dict.fromkeys(texts, f"card={number}"), **trace}


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
        *to_alertman(number, spaced),
    ]
    return ways[nth % len(ways)]


def to_the_police(number: str, spaced: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Whatever people write, with a number in it."""
    listing = {"list": "block", "ends_at": "2999-01-01T00:00:00Z", "reason": "stolen"}
    label = {"label": "confirmed", "reason": f"it was {number}"}
    header = {"X-User-Id": f"user {number}"}
    key = {"Idempotency-Key": f"about-{number}"}
    settled = {"outcome": "PAYMENT_FAILED", "reason": spaced}
    as_uuid = f"{number[:8]}-{number[8:12]}-{number[12:]}-8000-000000000000"
    return [
        ("POST", "/listings", {"json": {**listing, "client": "shop", "reason": number}}),
        ("POST", "/listings", {"json": {**listing, "client": spaced}}),
        ("POST", f"/decisions/{uuid4()}/label", {"json": label}),
        ("POST", POLICE_PATH, {"json": documented(userID=spaced)}),
        ("POST", POLICE_PATH, {"json": documented(), "headers": header}),
        ("POST", POLICE_PATH, {"json": documented(paymentMethod=f"card-{number}")}),
        ("POST", POLICE_PATH, {"json": documented(card=number, name=spaced)}),
        ("POST", POLICE_PATH, {"json": documented(card=number, transactionID=as_uuid)}),
        ("POST", "/listings", {"json": {**listing, "card": number}, "headers": key}),
        ("POST", f"/decisions/{uuid4()}/label", {"json": {**label, "reason": "x"}, "headers": key}),
        ("POST", f"/transactions/{uuid4()}/settle", {"json": settled}),
        ("POST", f"/transactions/{uuid4()}/settle", {"json": {**settled, "reason": number}}),
    ]


def to_alertman(number: str, spaced: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The same where alerts are silenced."""
    silence = {"matcher": {"client": "shop"}, "ends_at": "2999-01-01T00:00:00Z", "reason": "tests"}
    return [
        ("POST", "/silences", {"json": {**silence, "reason": f"card {spaced}"}}),
        ("POST", "/silences", {"json": {**silence, "matcher": {"client": number}}}),
        ("POST", f"/alerts/{number}/retry", {}),
        ("POST", f"/alerts/{uuid4()}/retry", {"headers": {"Idempotency-Key": number}}),
        ("POST", "/silences", {"json": silence, "headers": {"Idempotency-Key": number}}),
        ("POST", "/forms/silence", {"data": {"client": spaced, "reason": number, "hours": "4"}}),
        ("GET", f"/alerts?state={number}", {}),
    ]


@dataclass(frozen=True, eq=False)
class Found:
    """All that was written, by where it was found."""

    places: Mapping[str, bytes]

    def holding(self, wanted: bytes) -> list[str]:
        return [name for name, content in self.places.items() if wanted in content]

    def leaks(self, numbers: list[str]) -> dict[str, set[str]]:
        """Place -> the numbers that are to be read in it."""
        found = {name: held(content, numbers) for name, content in self.places.items()}
        return {name: leaked for name, leaked in found.items() if leaked}


def dump(server: PostgresUnderTest, url: str) -> bytes:
    name = url.rpartition("/")[2].partition("?")[0]
    command = [str(server.program("pg_dump")), server.superuser_url(name)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def files_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def manner_of_police(body: Mapping[str, Any], nth: int) -> str:
    if body["order"]["name"] == "retried" and nth == 1:
        return "fail"
    return {"fraud": "fraud", "parked": "nonsense"}.get(body["order"]["name"], "clear")


def distinct_cards() -> list[str]:
    """Two thousand; of a hundred that are paid with it is known how they begin and end."""
    chance = random.Random("cards")  # noqa: S311 - repeatable
    middles = chance.sample(range(10**6), GUESSED)
    alike = [f"{ISSUER}{middle:06}{LAST_FOUR}" for middle in middles]
    others = [some_card(chance) for _ in range(2_000 - GUESSED)]
    numbers = [*others[:CRASHED], *alike, *others[CRASHED:]]
    assert len({number[MIDDLE.start :] for number in numbers}) == len(numbers)
    return numbers


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
        SMS_WEBHOOK_URL=f"http://127.0.0.1:{traces}/sms",
    )
    outside.police = manner_of_police
    outside.provider = lambda body, _nth: "refuse" if body["amount"] == "402.00" else "charge"
    numbers = distinct_cards()
    with channel_to(settings) as channel:
        channel.exchange_declare("events", "topic", durable=True)
        channel.queue_declare("canary", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("canary", "events", "#")
    with receiver(logs) as log, collector(traces) as collected, closing(everything):
        use(everything, numbers, databases)
    with channel_to(settings) as channel:
        published = channel.queue_declare("canary", passive=True).method.message_count
    found = Found(
        {
            "write model": dump(postgres_server, settings.required("write_model_owner_url")),
            "read model": dump(postgres_server, settings.required("read_model_owner_url")),
            "broker": files_below(server_folder / "rabbitmq"),
            "server's log": (server_folder / "postgres" / "log").read_bytes(),
            "output": everything.output.read_bytes(),
            "FluentD": json.dumps([each.record for each in log.records], default=str).encode(),
            "traces": b"".join(each for each in collected if each.startswith(b"/v1/traces")),
            "short messages": b"".join(each for each in collected if each.startswith(b"/sms")),
            "mails": files_below(tmp_path / "mails"),
            **{place: everything.answered(place) for place in ("answers", "problems", "metrics")},
            "police and provider": json.dumps([*outside.asked, *outside.bodies]).encode(),
            "home": files_below(tmp_path),
        }
    )
    assert published > 4 * PAID
    shows_what_was_written(found, numbers, settings)
    assert found.leaks(numbers) == {}
    known = beginnings(found.places.values())
    assert [each for each in numbers if digested(known, each, payment(card=each))] == []
    assert guessed(known, ISSUER, LAST_FOUR) == set()


def use(everything: Everything, numbers: list[str], databases: Databases) -> None:
    """Show each of the numbers to somebody."""
    left = iter(numbers)

    def bodies(name: str, many: int, amount: str = "123.00") -> list[dict[str, Any]]:
        return [payment(amount, card=card, name=name) for card in islice(left, many)]

    crashed = [(body, uuid4().hex) for body in bodies("crashed", CRASHED)]
    with everything.running(ORDERLY_FAILPOINT="transact_after_append") as dying:
        with ThreadPoolExecutor(CRASHED) as threads:
            asked = [threads.submit(everything.pay, *each) for each in crashed]
        assert all(isinstance(each.exception(), httpx.TransportError) for each in asked)
        ends_at_failpoint(dying)
    everything.dies_at("transact_after_decision")
    everything.dies_at("transact_after_charge")
    with everything.running():
        for body, key in crashed:
            assert everything.pay(body, key) in {200, 202}
        everything.all_pay(bodies("paid", PAID), {200, 202})
        everything.all_pay(bodies("refused", REFUSED, "402.00"), {202, 402})
        fraud, key = bodies("fraud", FRAUD), uuid4().hex
        assert everything.pay(fraud[0], key) in {202, 402}
        everything.all_pay(fraud[1:], {202, 402})
        everything.refuses(islice(left, MALFORMED))
        for card in islice(left, SHOWN):
            assert everything.ask("POST", POLICE_PATH, json=documented(card=card)) == 200
        for card in islice(left, LISTED):
            listing = {"list": "block", "card": card, "ends_at": "2999-01-01T00:00:00Z"}
            assert everything.ask("POST", "/listings", json={**listing, "reason": "stolen"}) == 201
        everything.all_pay(bodies("parked", PARKED), {202})
        everything.all_pay(bodies("retried", RETRIED), {200, 202})
        eventually(lambda: query(databases.as_owner(), PARKED_NOW) == [(PARKED,)])
        eventually(lambda: query(databases.as_owner(), ALERTED) == [(FRAUD,)])
        # On a slow machine all of them were told at first that it goes on.
        assert everything.pay(fraud[0], key) == 402
        # By each channel; only then is nothing to come of what is not waiting.
        eventually(lambda: Counter(topics(databases, "alert").values()) == ALL_ARE_SENT)
        eventually(lambda: query(databases.as_owner(), WAITING_NOW) == [(0,)])
        eventually(lambda: is_projected(databases) and is_relayed(databases))
        everything.shows_all()
    assert next(left, None) is None


def shows_what_was_written(found: Found, numbers: list[str], settings: PaymentSettings) -> None:
    """Each place is one where something of the cards would be seen, if it were there."""
    for place in ("write model", "read model", "answers", "police and provider", "broker"):
        assert found.holding(b"crashed").count(place) == 1, place
    assert b"fraudulent-transaction" in found.places["problems"]
    assert b"orderly_fraud_decisions" in found.places["metrics"]
    for place in ("output", "FluentD", "traces"):
        assert b"/transact" in found.places[place], place
    assert found.places["mails"].count(b"card ending in") == FRAUD
    # One that was answered too late has come twice.
    assert len(set(SHORT_MESSAGE.findall(found.places["short messages"]))) == FRAUD
    reducer = CardReducer(keys_of("CARD_KEYS", settings.card_keys))
    first = reducer.reduce(CardNumber.read(numbers[0])).fingerprints[0]
    assert {"write model", "police and provider"} <= set(found.holding(first.encode()))
    keys = [entry.partition(":")[2] for entry in settings.card_keys]
    assert all(found.holding(key.encode()) == [] for key in keys)
