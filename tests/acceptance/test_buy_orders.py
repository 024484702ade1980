"""The contract of buy orders, through the ports of the running system."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest

from codebase.foundation.tokens import new_token
from tests.acceptance.conftest import System, until

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest

AMOUNT = "100"
SPENT_AND_LEFT = """
    SELECT sum(s.spent), b.limit_value - sum(s.spent)
    FROM budget AS b JOIN budget_share AS s USING (name)
    GROUP BY b.limit_value
"""


def limit_order_book(system: System, btc: str) -> None:
    with system.databases.as_owner() as connection:
        connection.execute("SELECT set_budget_limit(name, %s) FROM budget", [Decimal(btc)])


def recorded(system: System) -> int:
    with system.databases.as_owner() as connection:
        row = connection.execute("SELECT count(*) FROM event").fetchone()
        return int(row[0]) if row else 0


def test_an_order_is_placed_and_shown_as_the_contract_says(system_in_one_process: System) -> None:
    system = system_in_one_process
    system.start()
    key = str(uuid4())
    answer = system.put(key, "123.45")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"idempotence_key", "buy_order"}
    assert body["idempotence_key"] == key
    order = body["buy_order"]
    assert set(order) == {
        "id",
        "created_at",
        "currency",
        "currency_amount",
        "btc_rate",
        "btc_amount",
        "price_source",
    }
    assert (order["currency"], order["currency_amount"]) == ("USD", "123.45")
    assert order["price_source"] == "demo"
    assert Decimal(order["btc_rate"]).as_tuple().exponent == -8
    assert Decimal(order["btc_amount"]).as_tuple().exponent == -8
    assert UUID(order["id"])
    assert order["created_at"].endswith("+00:00")
    assert answer.headers["location"] == f"/buy_orders/{order['id']}"
    assert "idempotent-replayed" not in answer.headers

    token = {"Consistency-Token": answer.headers["consistency-token"]}
    url = f"{system['fetch_buy_orders'].url}{answer.headers['location']}"
    assert httpx.get(url, headers=token).json() == order
    page = httpx.get(f"{system['fetch_buy_orders'].url}/buy_orders", headers=token).json()
    assert page == {"rows": [order], "last_reference": order["id"]}


def test_a_hundred_concurrent_puts_with_one_key_are_one_order(
    system_in_one_process: System,
) -> None:
    system = system_in_one_process
    system.start()
    key = str(uuid4())
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: system.put(key), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert recorded(system) == 1


def test_a_key_with_other_content_is_refused_and_changes_nothing(
    system_in_one_process: System,
) -> None:
    system = system_in_one_process
    system.start("btc_price", "create_buy_order")
    key = str(uuid4())
    first = system.put(key, "100")
    for other in (system.put(key, "101"), system.put(key, "100", "EUR")):
        assert other.status_code == 422
        assert other.json()["type"] == "/problems/idempotence-key-reused"
    assert system.put(key, "100").content == first.content
    assert system.put(key, "100.00").content == first.content
    assert recorded(system) == 1


def test_a_repeat_is_answered_with_everything_else_away(
    system: System, rabbitmq_server: RabbitUnderTest
) -> None:
    """The price source, the broker and the read model are down, and the order book is full."""
    assert rabbitmq_server.port
    system.start("btc_price", "create_buy_order")
    key = str(uuid4())
    first = system.put(key)
    system["btc_price"].kill()
    system["create_buy_order"].stop()
    system["create_buy_order"].start(
        READ_MODEL_URL="postgresql://nobody@127.0.0.1:1/nothing",
        BROKER_URL="amqp://nobody@127.0.0.1:1/",
    )
    limit_order_book(system, "0.1")
    with system.databases.as_owner() as connection:
        connection.execute("UPDATE budget_share SET spent = granted")
    again = system.put_until_answered(key)
    assert again.status_code == 200
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    new = system.put()
    assert new.status_code == 503
    assert int(new.headers["retry-after"]) >= 1
    assert recorded(system) == 1


def test_the_order_book_holds_to_the_last_satoshi_and_what_fits_gets_in(
    system: System, free_port: Callable[[], int]
) -> None:
    """Fifty writers on three processes; the demo price is above 10,000."""
    second = System(system.folder, system.databases, None, free_port)
    third = System(system.folder, system.databases, None, free_port)
    for other, name in ((second, "second"), (third, "third")):
        other.environment["BTC_PRICE_URL"] = system["btc_price"].url
        other.folder = system.folder / name
        other.folder.mkdir()
    try:
        system.start("btc_price", "create_buy_order")
        second.start("create_buy_order")
        third.start("create_buy_order")
        limit_order_book(system, "0.05")
        systems = [system, second, third]
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda n: systems[n % 3].put(amount="100"), range(150)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 409}
        refused = next(answer for answer in answers if answer.status_code == 409).json()
        assert refused["type"] == "/problems/order-book-limit"
        assert Decimal(refused["left_btc"]) >= 0
        spent = sum(
            Decimal(answer.json()["buy_order"]["btc_amount"])
            for answer in answers
            if answer.status_code == 200
        )
        assert spent <= Decimal("0.05")
        assert system.put(amount="100").status_code == 409
        with system.databases.as_owner() as connection:
            row = connection.execute(SPENT_AND_LEFT).fetchone()
        assert row
        assert row[0] == spent
        small = system.put(amount="0.01")
        assert small.status_code == (200 if row[1] >= Decimal("0.00000030") else 409)
    finally:
        second.stop()
        third.stop()


@pytest.mark.parametrize("page_size", [1, 7, 100])
def test_paging_shows_each_order_once_while_others_are_placed(
    system_in_one_process: System, page_size: int
) -> None:
    system = system_in_one_process
    system.start()
    with ThreadPoolExecutor(16) as pool:
        before = {
            answer.json()["buy_order"]["id"]
            for answer in pool.map(lambda _: system.put(), range(60))
        }
        system.until_shown(before)
        meanwhile = [pool.submit(system.put) for _ in range(60)]
        seen = [order["id"] for order in system.pages(page_size)]
        during = {one.result().json()["buy_order"]["id"] for one in meanwhile}
    assert len(seen) == len(set(seen))
    assert before <= set(seen) <= before | during
    system.until_shown(before | during)
    times = [order["created_at"] for order in system.pages(page_size)]
    assert times == sorted(times, reverse=True)


def test_pages_refuse_what_they_cannot_know(system_in_one_process: System) -> None:
    system = system_in_one_process
    system.start()
    url = f"{system['fetch_buy_orders'].url}/buy_orders"
    assert httpx.get(url).json() == {"rows": [], "last_reference": None}
    unknown = httpx.get(url, params={"last_reference": str(uuid4())})
    assert unknown.status_code == 404
    for bad in ({"last_reference": "x"}, {"page_size": "0"}, {"page_size": "1001"}):
        answer = httpx.get(url, params=bad)
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == list(bad)
    assert httpx.get(f"{url}/{uuid4()}").status_code == 404
    last = system.put().json()["buy_order"]["id"]
    system.until_shown({last})
    end = httpx.get(url, params={"last_reference": last})
    assert end.json() == {"rows": [], "last_reference": None}


def test_a_token_always_finds_what_was_written(system_in_one_process: System) -> None:
    """Under load, with a projector that takes its time."""
    system = system_in_one_process
    system.start(PROJECTOR_DELAY_SECONDS="0.05")

    def write_and_read(_: int) -> tuple[int, str, str]:
        with httpx.Client() as client:
            order = {"currency": "EUR", "amount": "1", "idempotence_key": str(uuid4())}
            put = client.put(f"{system['create_buy_order'].url}/buy_order", json=order)
            path = put.headers["location"]
            # The client knows nothing of tokens; it keeps the cookie as any client would.
            client.cookies.set("Consistency-Token", put.cookies["Consistency-Token"])
            got = client.get(f"{system['fetch_buy_orders'].url}{path}")
            return got.status_code, put.json()["buy_order"]["id"], got.json().get("id", "")

    with ThreadPoolExecutor(16) as pool:
        for status, wrote, read in pool.map(write_and_read, range(200)):
            assert (status, read) == (200, wrote)


def test_a_read_model_that_is_behind_says_so_and_never_guesses(system: System) -> None:
    system.start("btc_price", "create_buy_order", "read_model_sync")
    system["fetch_buy_orders"].start(CONSISTENCY_WAIT_MS="200").wait_until_ready()
    system["read_model_sync"].kill()
    put = system.put()
    token = {"Consistency-Token": put.headers["consistency-token"]}
    url = f"{system['fetch_buy_orders'].url}/buy_orders"
    for path in (url, f"{system['fetch_buy_orders'].url}{put.headers['location']}"):
        behind = httpx.get(path, headers=token)
        assert behind.status_code == 503
        assert behind.json()["type"] == "/problems/read-model-behind"
        assert int(behind.headers["retry-after"]) >= 1
    assert httpx.get(url).status_code == 200
    system["read_model_sync"].start().wait_until_ready()
    until(lambda: httpx.get(url, headers=token).status_code == 200, "the read model is behind")
    malformed = httpx.get(url, headers={"Consistency-Token": "nonsense"})
    assert malformed.status_code == 422
    assert list(malformed.json()["errors"]) == ["Consistency-Token"]


def test_a_read_model_that_went_back_never_passes_for_up_to_date(system: System) -> None:
    """After a crash of its server the read model may have lost its last commits."""
    system.start(CONSISTENCY_WAIT_MS="200")
    put = system.put()
    token = {"Consistency-Token": put.headers["consistency-token"]}
    url = f"{system['fetch_buy_orders'].url}{put.headers['location']}"
    until(lambda: httpx.get(url, headers=token).status_code == 200, "the order is not there")
    system["read_model_sync"].kill()
    with system.databases.as_read_model_owner() as connection, connection.transaction():
        connection.execute("DELETE FROM buy_order")
        connection.execute("UPDATE projection_checkpoint SET position = 0")
    assert httpx.get(url, headers=token).status_code == 503
    assert httpx.get(url).status_code == 404
    system["read_model_sync"].start().wait_until_ready()
    until(lambda: httpx.get(url, headers=token).status_code == 200, "the order is not back")


def test_the_key_may_come_by_header(system_in_one_process: System) -> None:
    system = system_in_one_process
    system.start()
    url = f"{system['create_buy_order'].url}/buy_order"
    key = str(uuid4())
    order = {"currency": "USD", "amount": "1"}
    by_header = httpx.put(url, json=order, headers={"Idempotency-Key": key.upper()})
    by_body = httpx.put(url, json={**order, "idempotence_key": key})
    both = httpx.put(
        url, json={**order, "idempotence_key": key}, headers={"Idempotency-Key": f'"{key}"'}
    )
    assert by_header.status_code == 200
    assert by_header.content == by_body.content == both.content
    other = httpx.put(
        url, json={**order, "idempotence_key": key}, headers={"Idempotency-Key": str(uuid4())}
    )
    bad = httpx.put(url, json=order, headers={"Idempotency-Key": "no UUID"})
    for answer in (other, bad):
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == ["Idempotency-Key"]
    assert recorded(system) == 1


def test_orders_belong_to_the_client_that_placed_them(system_in_one_process: System) -> None:
    system = system_in_one_process
    secrets, entries = zip(
        *(
            new_token(name, role)
            for name, role in [("a", "client"), ("b", "client"), ("z", "admin")]
        ),
        strict=True,
    )
    a, b, admin = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    system.environment |= {"API_TOKENS": ",".join(entries), "SERVICE_TOKEN": secrets[2]}
    system.start()
    assert system.put().status_code == 401
    assert system.put(headers={"X-Token": "wrong"}).status_code == 401
    key = str(uuid4())
    of_a = system.put(key, headers=a)
    of_b = system.put(key, headers={"X-Token": secrets[1]})
    assert of_a.status_code == of_b.status_code == 200
    ids = [answer.json()["buy_order"]["id"] for answer in (of_a, of_b)]
    assert ids[0] != ids[1]
    until(lambda: len(list(system.pages(headers=admin))) == 2, "the admin does not see both")
    assert [order["id"] for order in system.pages(headers=a)] == [ids[0]]
    assert [order["id"] for order in system.pages(headers=b)] == [ids[1]]
    url = f"{system['fetch_buy_orders'].url}/buy_orders"
    assert httpx.get(f"{url}/{ids[0]}", headers=b).status_code == 404
    assert httpx.get(url, headers=b, params={"last_reference": ids[0]}).status_code == 404
    assert httpx.get(f"{url}/{ids[0]}", headers=admin).status_code == 200
    assert httpx.get(url).status_code == 401


BAD_BODIES = {
    "NaN": (b'{"currency":"USD","amount":NaN,"idempotence_key":"KEY"}', "amount"),
    "Infinity": (b'{"currency":"USD","amount":Infinity,"idempotence_key":"KEY"}', "amount"),
    "1e999": (b'{"currency":"USD","amount":1e999,"idempotence_key":"KEY"}', "amount"),
    "1e2": (b'{"currency":"USD","amount":1e2,"idempotence_key":"KEY"}', "amount"),
    "text NaN": (b'{"currency":"USD","amount":"NaN","idempotence_key":"KEY"}', "amount"),
    "0.001": (b'{"currency":"USD","amount":"0.001","idempotence_key":"KEY"}', "amount"),
    "number 0.001": (b'{"currency":"USD","amount":0.001,"idempotence_key":"KEY"}', "amount"),
    "-0": (b'{"currency":"USD","amount":"-0","idempotence_key":"KEY"}', "amount"),
    "number -0": (b'{"currency":"USD","amount":-0,"idempotence_key":"KEY"}', "amount"),
    "0": (b'{"currency":"USD","amount":"0","idempotence_key":"KEY"}', "amount"),
    "a billion": (b'{"currency":"USD","amount":"1000000000","idempotence_key":"KEY"}', "amount"),
    "full-width": (
        '{"currency":"USD","amount":"１２","idempotence_key":"KEY"}'.encode(),
        "amount",
    ),
    "NUL": (b'{"currency":"USD","amount":"1\\u0000","idempotence_key":"KEY"}', "amount"),
    "surrogate": (b'{"currency":"\\ud800","amount":"1","idempotence_key":"KEY"}', "currency"),
    "true": (b'{"currency":"USD","amount":true,"idempotence_key":"KEY"}', "amount"),
    "null": (b'{"currency":"USD","amount":null,"idempotence_key":"KEY"}', "amount"),
    "currency": (b'{"currency":"JPY","amount":"1","idempotence_key":"KEY"}', "currency"),
    "no key": (b'{"currency":"USD","amount":"1"}', "idempotence_key"),
    "bad key": (b'{"currency":"USD","amount":"1","idempotence_key":"1"}', "idempotence_key"),
    "unknown": (b'{"currency":"USD","amount":"1","idempotence_key":"KEY","x":1}', "x"),
    "duplicate": (
        b'{"currency":"USD","amount":"1","amount":"2","idempotence_key":"KEY"}',
        "amount",
    ),
    "list": (b"[]", "body"),
    "no JSON": (b"{", "body"),
    "empty": (b"", "body"),
    "not UTF-8": (b'{"currency":"\xff"}', "body"),
    "deep": (b"[" * 10_000 + b"]" * 10_000, "body"),
    "large": (b'{"currency":"' + b"U" * 50_000_000 + b'"}', "body"),
}


def test_bad_input_is_named_and_never_echoed(system_in_one_process: System) -> None:
    system = system_in_one_process
    system.start("btc_price", "create_buy_order")
    url = f"{system['create_buy_order'].url}/buy_order"
    headers = {"Content-Type": "application/json"}
    with httpx.Client() as client:
        for name, (body, field) in BAD_BODIES.items():
            sent = body.replace(b"KEY", str(uuid4()).encode())
            try:
                answer = client.put(url, content=sent, headers=headers)
            except httpx.WriteError:
                assert name == "large", name
                continue
            assert 400 <= answer.status_code < 500, name
            assert answer.headers["content-type"] == "application/problem+json", name
            assert field in answer.json()["errors"], (name, answer.json())
            assert "１２" not in answer.text
        for content_type in ("text/plain", "application/json; charset=utf-16", None):
            headers = {"Content-Type": content_type} if content_type else {}
            answer = client.put(url, content=b"{}", headers=headers)
            assert answer.status_code == 415
    assert recorded(system) == 0


def test_numbers_are_taken_when_they_are_read_exactly(system_in_one_process: System) -> None:
    system = system_in_one_process
    system.start("btc_price", "create_buy_order")
    url = f"{system['create_buy_order'].url}/buy_order"
    key = str(uuid4())
    body = f'{{"currency":"USD","amount":123.45,"idempotence_key":"{key}"}}'
    headers = {"Content-Type": "application/json"}
    number = httpx.put(url, content=body, headers=headers)
    assert number.json()["buy_order"]["currency_amount"] == "123.45"
    assert system.put(key, "123.45").content == number.content


def test_the_database_going_away_is_a_503_and_heals_unaided(
    system: System,
) -> None:
    system.start()
    first = system.put().json()["buy_order"]["id"]
    system.until_shown({first})
    key = str(uuid4())
    system.databases.server.stop()
    try:
        put = system.put(key)
        got = httpx.get(f"{system['fetch_buy_orders'].url}/buy_orders")
        for answer in (put, got):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        for name in ("create_buy_order", "fetch_buy_orders", "event_relay", "read_model_sync"):
            until(lambda name=name: not system[name].is_ready(), f"{name} says it is ready")
    finally:
        system.databases.server.start()
    second = system.put_until_answered(key).json()["buy_order"]["id"]
    until(system["fetch_buy_orders"].is_ready, "queries do not recover")
    system.until_shown({first, second})


def test_everything_works_without_a_broker(system_without_broker: System) -> None:
    system = system_without_broker
    system.start()
    ids = {system.put().json()["buy_order"]["id"] for _ in range(20)}
    system.until_shown(ids)
    assert system.verify() == ""


def test_the_price_service_answers_as_the_contract_says(system_in_one_process: System) -> None:
    system = system_in_one_process
    system.start("btc_price")
    url = system["btc_price"].url
    price = httpx.get(f"{url}/buy", params={"currency": "USD"}).json()
    assert {"timestamp", "currency", "rate", "source", "age_s"} <= set(price)
    assert (price["currency"], price["source"]) == ("USD", "demo")
    assert httpx.get(f"{url}/buy", params={"currency": "JPY"}).status_code == 422
    record = httpx.get(f"{url}/record").json()
    assert {one["currency"] for one in record["prices"]} == {"EUR", "GBP", "USD"}
