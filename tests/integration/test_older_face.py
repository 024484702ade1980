"""Clients of the older system of buy orders know its addresses and words, and nothing of ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from codebase.foundation.http_session import http_session
from codebase.model.money import Currency
from codebase.services.price_record.service import PriceService, create_app
from codebase.views.buy_orders.settings import BuyOrderSettings
from codebase.web.shell import assemble
from tests.integration.everything import every_service
from tests.integration.flow import eventually, is_projected

if TYPE_CHECKING:
    from tests.databases import Databases


class Face(NamedTuple):
    """Where the older system answers, and the newer one."""

    place: str
    orders: str
    prices: str
    newer: str
    databases: Databases

    def order(self, query: str = "", body: object = None, **headers: str) -> httpx.Response:
        content = {} if body is None else {"json": body}
        return httpx.post(f"{self.place}/place_order/{query}", headers=headers, **content)  # type: ignore[arg-type]

    def page(self, link: str) -> dict[str, Any]:
        eventually(lambda: is_projected(self.databases))
        answer = httpx.get(f"{self.orders}{link}")
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def all_pages(self, link: str) -> Iterator[list[dict[str, str]]]:
        while link:
            page = self.page(link)
            yield page["data"]
            link = page["_links"]


@pytest.fixture
def face(databases: Databases, free_port: Callable[[], int]) -> Iterator[Face]:
    with every_service(databases.settings, free_port) as urls:
        for name in ("place_order", "price_record"):
            eventually(
                lambda name=name: httpx.get(f"{urls[name]}/readyz").status_code == httpx.codes.OK
            )
        yield Face(
            urls["place_order"],
            urls["get_orders"],
            urls["price_record"],
            urls["create_buy_order"],
            databases,
        )


def test_the_documented_calls_answer_as_printed(face: Face) -> None:
    for answer, told in (
        (face.order("?currency=eur&amount=69"), "EUR:69.00"),
        (face.order(body={"currency": "USD", "amount": 600}), "USD:600.00"),
        (face.order("?currency=gbp&amount=0.01"), "GBP:0.01"),
        (face.order("?currency=GBP", {"amount": "12.5"}), "GBP:12.50"),
    ):
        assert answer.status_code == 201, answer.text
        assert answer.json() == {"data": f"Order was placed for {told}"}
    page = face.page("/get_orders/?start=0&page_size=10")
    assert page["_links"] is None
    shown = [(one["CURRENCY"], one["AMOUNT"]) for one in page["data"]]
    assert shown == [("GBP", "12.50"), ("GBP", "0.01"), ("USD", "600.00"), ("EUR", "69.00")]
    [first, *_] = page["data"]
    assert list(first) == [
        "UUID", "TIMESTAMP", "AMOUNT", "CURRENCY", "EXCHANGE_RATE", "BITCOIN_AMOUNT",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)", first["TIMESTAMP"])
    assert re.fullmatch(r"\d+\.\d{8}", first["EXCHANGE_RATE"])
    assert re.fullmatch(r"\d+\.\d{8}", first["BITCOIN_AMOUNT"])
    prices = httpx.get(f"{face.prices}/record").json()["prices"]
    assert {one["currency"] for one in prices} == set(Currency)


def test_what_is_not_acceptable_is_told_in_the_older_words(face: Face) -> None:
    for query, sentence in (
        ("?currency=CHF&amount=69", "Requested currency unsupported"),
        ("?currency=EUR&amount=1000000000", "Requested amount exceeds limit"),
        ("?currency=EUR&amount=999999999.99", "Requested btc value exceeds limit"),
    ):
        answer = face.order(query)
        assert (answer.status_code, answer.json()) == (406, {"data": sentence})
    assert face.page("/get_orders/")["data"] == []


def test_what_cannot_be_read_is_named(face: Face) -> None:
    nothing: dict[str, Any] = {}
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("", nothing, "currency"),
        ("?currency=EUR", nothing, "amount"),
        ("?currency=EUR&amount=0", nothing, "amount"),
        ("?currency=EUR&amount=1.234", nothing, "amount"),
        ("?currency=EUR&amount=1e3", nothing, "amount"),
        ("?currency=EUR&amount=1&amount=2", nothing, "amount"),
        ("?currency=EUR&amount=1", {"amount": 2}, "amount"),
        ("?currency=EUR&amount=1", {"currency": "USD"}, "currency"),
        ("?currency=EUR&amount=1&colour=red", nothing, "colour"),
        ("?currency=%FF&amount=1", nothing, "query"),
        ("", {"currency": "EUR", "amount": True}, "amount"),
        ("", {"currency": "EUR", "amount": [1]}, "amount"),
    ]
    for query, body, field in wrong:
        answer = face.order(query, body or None)
        assert answer.status_code == 422, (query, body, answer.text)
        assert list(answer.json()["errors"]) == [field], (query, body)


def test_a_key_makes_one_order_through_either_face(face: Face) -> None:
    key = str(uuid4())
    headers = {"Idempotency-Key": key}
    first, again = (face.order("?currency=eur&amount=69", **headers) for _ in range(2))
    newer = httpx.put(
        f"{face.newer}/buy_order",
        json={"currency": "EUR", "amount": "69.00", "idempotence_key": key},
    )
    assert [first.status_code, again.status_code, newer.status_code] == [201, 201, 200]
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == newer.headers["idempotent-replayed"] == "true"
    assert face.order("?currency=eur&amount=70", **headers).status_code == 422
    [row] = face.page("/get_orders/")["data"]
    assert row["UUID"] == newer.json()["buy_order"]["id"]


def test_without_a_price_or_a_log_the_service_is_unavailable_and_says_when_to_try_again(
    face: Face,
) -> None:
    face.databases.server.stop()
    try:
        answer = face.order("?currency=eur&amount=69")
    finally:
        face.databases.server.start()
    assert (answer.status_code, answer.json()) == (503, {"data": "API Service unavailable"})
    assert int(answer.headers["retry-after"]) >= 1


def test_paging_while_orders_come_in_gives_each_once(face: Face) -> None:
    placed = []
    for number in range(1, 26):
        assert face.order(f"?currency=eur&amount={number}").status_code == 201
        placed.append(f"{number}.00")
    seen: list[str] = []
    for page in face.all_pages("/get_orders/?start=0&page_size=4"):
        seen += [row["AMOUNT"] for row in page]
        assert face.order("?currency=usd&amount=999").status_code == 201
    assert seen == placed[::-1]


def test_a_start_leaves_out_the_newest_and_is_bounded(face: Face) -> None:
    for number in range(1, 6):
        assert face.order(f"?currency=eur&amount={number}").status_code == 201
    page = face.page("/get_orders/?start=2&page_size=2")
    assert [row["AMOUNT"] for row in page["data"]] == ["3.00", "2.00"]
    assert parse_qs(urlsplit(page["_links"]).query)["page_size"] == ["2"]
    assert face.page(page["_links"]) == {"data": [page_of_one(face)], "_links": None}
    for wrong in ("start=-1", "start=10001", "page_size=0", "last_reference=x"):
        answer = httpx.get(f"{face.orders}/get_orders/?{wrong}")
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == [wrong.partition("=")[0]]
    assert httpx.get(f"{face.orders}/get_orders/?last_reference={uuid4()}").status_code == 404


def page_of_one(face: Face) -> dict[str, str]:
    """The oldest order."""
    [oldest] = face.page("/get_orders/?start=4&page_size=1")["data"]
    return dict(oldest)


def test_the_price_record_says_that_prices_are_away(free_port: Callable[[], int]) -> None:
    async def asked() -> list[httpx.Response]:
        settings = BuyOrderSettings(btc_price_url=f"http://127.0.0.1:{free_port()}")
        async with http_session() as nobody:
            app = assemble([create_app(PriceService(settings, nobody))], settings)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as one:
                return [await one.get(path) for path in ("/record", "/readyz")]

    record, ready = asyncio.run(asked())
    assert (record.status_code, ready.status_code) == (503, 503)
    assert "btc_price" in record.json()["detail"]
    assert list(ready.json()["errors"]) == ["btc_price"]
