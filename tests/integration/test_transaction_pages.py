"""The pages about card transactions: what they show, to whom, and how exactly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.foundation.tokens import new_token
from codebase.model.payments.transaction import Status
from codebase.services.transact.flow import flow_of
from codebase.services.transact.last_hours import last_hours
from codebase.views.payments.settings import PaymentSettings
from codebase.views.payments.transaction_day import HOURS, Counted, first_hour
from tests.integration.payments import (
    CARD,
    FAILED_RULE,
    REASON,
    Outside,
    Payer,
    paying,
    payment,
    settings_of,
)

if TYPE_CHECKING:
    from tests.databases import Databases

NOON = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
LATEST = {"Consistency-Token": "latest"}
FIGURE = re.compile(r'<div class="figure"><b>([^<]*)</b><span>([^<]*)</span>')
BOX = re.compile(r'<text class="count"[^>]*>([^<]*)</text>\n<text[^>]*>([^<]*)</text>')


@pytest.fixture
def settings(databases: Databases, outside: Outside) -> PaymentSettings:
    return settings_of(databases, outside)


def tell(settings: PaymentSettings, story: Callable[[Payer], Awaitable[None]]) -> None:
    async def told() -> None:
        async with paying(settings) as payer:
            await story(payer)

    asyncio.run(told())


async def shown(payer: Payer, path: str = "/", **headers: str) -> str:
    answer = await payer.client.get(path, headers={**LATEST, **headers})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; style-src 'sha"
    )
    return answer.text


def figures(page: str) -> dict[str, str]:
    return {meaning: value for value, meaning in FIGURE.findall(page)}


def boxes(page: str) -> dict[str, str]:
    return {name: count for count, name in BOX.findall(page)}


def rows(page: str) -> list[str]:
    """The rows of the last table, the newest first."""
    return page.rpartition("<tbody>")[2].partition("</tbody>")[0].strip().splitlines()


def test_transactions_are_counted_added_up_and_listed_with_reasons(
    settings: PaymentSettings, outside: Outside
) -> None:
    manners = {"10.10": "fraud", "99.99": "fail"}
    outside.police = lambda body, _nth: manners.get(body["payment"]["amount"], "clear")
    outside.provider = lambda body, _nth: "refuse" if body["amount"] == "5.05" else "charge"

    async def story(payer: Payer) -> None:
        assert set(boxes(await shown(payer)).values()) == {"0"}
        for amount in ("0.10", "1234.20"):
            await payer.pay_until(200, payment(amount))
        flagged = (await payer.pay_until(402, payment("10.10"))).json()["transactionID"]
        await payer.pay_until(402, payment("5.05"))
        assert (await payer.pay(payment("99.99"))).status_code == 202
        page = await shown(payer)
        assert "in this hour, which is not over, or in the 23 before it" in page
        assert figures(page) == {
            "requested": "5",
            "paid": "2",
            "taken for fraud": "1",
            "failed": "1",
            "on their way now": "1",
        }
        assert boxes(page) == {
            "pending": "1",
            "cleared": "0",
            "fraudulent": "1",
            "alerted": "0",
            "initiated": "0",
            "complete": "2",
            "failed": "1",
        }
        paid = [
            Decimal(sum_) for sum_ in re.findall(r"<title>paid, \d\dh: ([\d.]+) INR", plain(page))
        ]
        assert sum(paid) == Decimal("1234.30")
        refused = re.findall(r"<title>refused, \d\dh: ([\d.]+) INR", page)
        assert sum(map(Decimal, refused)) == Decimal("15.15")
        listed = rows(page)
        assert [re.search(r"([\d.,]+) INR", row)[1] for row in listed] == [  # type: ignore[index]
            "99.99",
            "5.05",
            "10.10",
            "1,234.20",
            "0.10",
        ]
        assert all("unknown 4321" in row for row in listed)
        assert "no money there" in listed[1]
        assert str(REASON["sentence"]) in listed[2]
        # It was not refused for a rule that failed; the page of the transaction has it.
        assert str(FAILED_RULE["sentence"]) not in listed[2]
        assert f'href="/transactions/{flagged}/page"' in listed[2]
        assert CARD not in page
        assert CARD[6:12] not in plain(re.sub(r"[0-9a-f-]{36}", "", page))

        one = await shown(payer, f"/transactions/{flagged}/page")
        steps = rows(one)
        assert [re.search(r'badge \w+">(\w+)<', step)[1] for step in steps] == [  # type: ignore[index]
            "pending",
            "fraudulent",
        ]
        for said in ("sentence", "rule", "observed", "limit"):
            assert str(REASON[said]) in steps[1]
        assert str(FAILED_RULE["sentence"]) in steps[1]

        only = rows(await shown(payer, "/?status=PAYMENT_FAILED"))
        assert len(only) == 1
        assert "5.05 INR" in only[0]
        assert len(rows(await shown(payer, "/?status="))) == 5

    tell(settings, story)


def plain(page: str) -> str:
    return page.replace(",", "").replace("paid ", "paid, ").replace("refused ", "refused, ")


def test_older_transactions_are_a_page_away(settings: PaymentSettings) -> None:
    async def story(payer: Payer) -> None:
        for number in range(26):
            await payer.pay(payment(f"{number + 1}.00"))
        page = await shown(payer)
        assert len(rows(page)) == 25
        older = re.search(r'rel="next" href="([^"]*)"', page)
        assert older
        [last] = rows(await shown(payer, older[1]))
        assert "1.00 INR" in last
        unknown = await payer.client.get(f"/?last_reference={uuid4()}")
        assert unknown.status_code == 404

    tell(settings, story)


def test_pages_show_a_client_its_own_and_operators_nothing_personal(
    databases: Databases, outside: Outside
) -> None:
    who = (("shop", "client"), ("other", "client"), ("root", "admin"), ("watch", "operator"))
    secrets, entries = zip(*(new_token(*each) for each in who), strict=True)
    shop, other, root, watch = secrets
    settings = settings_of(databases, outside, api_tokens=entries, service_token=root)
    outside.provider = lambda _body, _nth: "refuse"

    async def story(payer: Payer) -> None:
        answer = await payer.pay(payment(name="A secret lamp"), **{"X-Token": shop})
        path = f"{answer.headers['Location']}/page"

        async def ended() -> bool:
            page = await shown(payer, **{"X-Token": root})
            return figures(page)["failed"] == "1"

        while not await ended():
            pass
        for token in (shop, root, watch):
            for page in [
                await shown(payer, **{"X-Token": token}),
                await shown(payer, path, **{"X-Token": token}),
            ]:
                assert ("A secret lamp" in page) is (token != watch)
                assert ("no money there" in page) is (token != watch)
                assert "4321" in page
        page = await shown(payer, **{"X-Token": other})
        assert figures(page)["requested"] == "0"
        assert set(boxes(page).values()) == {"0"}
        assert "There is no transaction." in page
        answer = await payer.client.get(path, headers={"X-Token": other})
        assert answer.status_code == 404
        assert (await payer.client.get("/")).status_code == 401

    tell(settings, story)


def counted(hours_ago: int, status: Status, currency: str, amount: str) -> Counted:
    hour = NOON.replace(minute=0) - timedelta(hours=hours_ago)
    return Counted(hour, status.value, currency, 1, Decimal(amount))


def test_amounts_are_added_up_exactly_by_hour_outcome_and_currency() -> None:
    found = [
        counted(0, Status.PAYMENT_COMPLETE, "INR", "999999999.99"),
        counted(23, Status.PAYMENT_COMPLETE, "INR", "0.10"),
        counted(2, Status.FRAUDULENT, "INR", "0.10"),
        counted(2, Status.ALERTED, "INR", "0.20"),
        counted(2, Status.PAYMENT_FAILED, "INR", "0.30"),
        counted(1, Status.PAYMENT_INITIATED, "INR", "0.01"),
        counted(1, Status.PENDING, "INR", "0.02"),
        *(counted(1, Status.CLEARED, currency, "1.00") for currency in ("USD", "EUR", "AED")),
    ]
    hours = last_hours(found, first_hour(NOON))
    assert [chart.unit for chart in hours.charts] == ["INR", "AED", "EUR"]
    assert hours.other_currencies == ["USD"]
    assert (hours.total, hours.fraudulent, hours.is_cut_off) == (10, 2, False)
    paid, refused, on_its_way = (series.values for series in hours.charts[0].series)
    assert len(paid) == HOURS
    assert (paid[0], paid[-1], sum(paid)) == (
        Decimal("0.10"),
        Decimal("999999999.99"),
        Decimal("1000000000.09"),
    )
    assert (refused[-3], sum(refused)) == (Decimal("0.60"), Decimal("0.60"))
    assert (on_its_way[-2], sum(on_its_way)) == (Decimal("0.03"), Decimal("0.03"))


def test_the_picture_has_a_box_for_each_state_and_an_arrow_for_each_step() -> None:
    flow = flow_of({Status.PAYMENT_COMPLETE: 3, Status.PENDING: 1})
    assert {box.name: box.transactions for box in flow.boxes if box.transactions} == {
        "complete": 3,
        "pending": 1,
    }
    filled = {box.name: box.filled for box in flow.boxes}
    assert (filled["complete"], filled["pending"], filled["failed"]) == (
        0.75 * flow.box_width,
        0.25 * flow.box_width,
        0,
    )
    assert len(set(flow.arrows)) == 8
    corners = [(box.x, box.y) for box in flow.boxes]
    assert len(set(corners)) == len(Status)
    assert all(
        x + flow.box_width <= flow.width and y + flow.box_height <= flow.height for x, y in corners
    )
