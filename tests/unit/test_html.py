"""Pages: what is shown is escaped, what is missing is an error, charts are drawn to scale."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from codebase.foundation.settings import Settings
from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import Month
from codebase.services.billing.charts import charts_of, months_up_to
from codebase.services.billing.invoices import Invoice, Invoices, PriceOfPart, Standing
from codebase.views.accounts.teams import TEAMS
from codebase.web.auth import LOCAL
from codebase.web.charts import HEIGHT, LABELS_MAX, WIDTH, Chart, Series, bar_chart
from codebase.web.html import Pages, links_to

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NASTY = "<script>alert('Ann & Bob')</script>\" onload=\"x"
PAGES = Pages("codebase.services.billing")
amounts = st.decimals(0, 10**9, places=2)


def billing_page(name: str, regions: list[Region]) -> str:
    months = months_up_to(Month(2026, 11))
    return PAGES.render(
        "page.html",
        links=links_to(TEAMS, Settings(development=True), "Billing"),
        made_at=NOW,
        region=None,
        month=months[-1],
        regions=[
            Standing(
                region=region,
                accounts=1,
                closed_accounts=0,
                agents=2,
                in_use=1,
                blocked=1,
                price_per_hour=Decimal("0.0850"),
                currency="EUR",
            )
            for region in regions
        ],
        invoices=Invoices(
            month="2026-11",
            is_complete=False,
            charged_until=NOW,
            count=1234,
            totals={"EUR": Decimal("1234.50")},
            invoices=[
                {
                    "account_id": "0b0b7e0a-97c0-4f0b-8b0e-1a6a3d0b6b7c",
                    "account_name": name,
                    "is_closed": True,
                    "region": "emea",
                    "agents": 2,
                    "hours": "1:00:00.000001",
                    "duration": "PT1H0M0.000001S",
                    "total": Decimal("1234.50"),
                    "currency": "EUR",
                }
            ],
        ),
        billed={Region.EMEA: Decimal("1234.50")},
        charts=charts_of(months, [{Region.EMEA: Decimal(n)} for n in range(6)], regions),
    )


@pytest.mark.parametrize("name", [NASTY, "{{ 7 * 7 }}", "Ann", "\N{SNOWMAN}"])
def test_names_are_text_and_nothing_else(name: str) -> None:
    page = billing_page(name, list(Region))
    assert "<script" not in page
    table = page.partition("Invoices of 2026-11")[2]
    shown = re.search(r'page\?month=2026-11">(.*?)</a>', table)
    assert shown is not None
    read = ET.fromstring(f"<a>{shown[1].replace('&#34;', '&quot;')}</a>")  # noqa: S314 - ours
    assert read.text == name


def test_a_page_shows_numbers_as_people_read_them() -> None:
    page = billing_page("Ann", list(Region))
    for text in ("1,234.50 EUR", "1 largest of 1,234", "2026-11-21 12:00:00 UTC", "1:00:00"):
        assert text in page


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    answer = PAGES.answer(
        "invoice.html",
        LOCAL,
        links=[],
        made_at=NOW,
        invoice=Invoice(
            month="2026-11",
            is_complete=True,
            charged_until=NOW,
            account_id="0b0b7e0a-97c0-4f0b-8b0e-1a6a3d0b6b7c",
            account_name="Ann",
            is_closed=False,
            region="emea",
            currency="EUR",
            price_per_hour=Decimal("0.0850"),
            prices=[PriceOfPart(begins=NOW, price_per_hour=Decimal("0.0850"))],
            total=Decimal("0.00"),
            lines=[],
        ),
    )
    page = bytes(answer.body).decode()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.findall(r"<script|\bstyle=|\bon[a-z]+=|src=|url\(|@import", page)
    assert not re.findall(r'href="(?!/)', page), "without addresses no links to elsewhere"
    assert "None of its agents was in use" in page


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        PAGES.render("invoice.html", links=[], made_at=NOW)


def test_the_teams_know_of_each_other_in_the_embedded_run_only() -> None:
    assert links_to(TEAMS, Settings(), "Billing") == []
    links = links_to(TEAMS, Settings(development=True, port_offset=1000), "Compliance")
    assert [link.address for link in links] == [
        "http://127.0.0.1:9070/",
        "http://127.0.0.1:9060/",
        "http://127.0.0.1:9073/",
    ]
    assert [link.is_here for link in links] == [False, True, False]


def chart_of(*columns: list[Decimal]) -> Chart:
    return bar_chart(
        title="t",
        unit="EUR",
        groups=[str(number) for number in range(len(columns[0]))],
        series=[
            Series(name=f"s{number}", values=values, colour=number)
            for number, values in enumerate(columns)
        ],
    )


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(amounts, min_size=n, max_size=n), min_size=1, max_size=3)
    )
)
def test_bars_lie_within_the_chart_and_in_proportion(columns: list[list[Decimal]]) -> None:
    chart = chart_of(*columns)
    values = [value for column in columns for value in column]
    top = Decimal(chart.ticks[-1][1].replace(",", ""))
    assert top >= max(values)
    assert 2 <= len(chart.ticks) <= 6
    for bar, value in zip(chart.bars, values, strict=True):
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        assert 0 <= bar.y <= bar.y + bar.height <= HEIGHT
        assert (bar.height > 0) == (value > 0)
        exact = value / top * HEIGHT
        assert abs(Decimal(bar.height) - max(exact, Decimal(1 if value else 0))) < Decimal("0.1")


def test_ticks_are_round_numbers() -> None:
    chart = chart_of([Decimal("7.30")])
    assert [label for _, label in chart.ticks] == ["0", "2", "4", "6", "8"]
    assert [label for _, label in chart_of([Decimal(0)]).ticks][-1] == "1"
    assert [label for _, label in chart_of([Decimal(3)]).ticks] == ["0", "1", "2", "3"]
    assert [label for _, label in chart_of([Decimal(31_000)]).ticks][-1] == "40,000"


def test_a_chart_says_in_words_what_it_shows() -> None:
    page = billing_page("Ann", [Region.EMEA])
    svg = re.search(r'<svg viewBox.*?role="img".*?</svg>', page, re.DOTALL)
    assert svg is not None
    drawn = ET.fromstring(svg[0])  # noqa: S314 - ours
    labels = drawn.attrib["aria-labelledby"].split()
    assert [element.attrib.get("id") for element in drawn[:2]] == labels
    assert "2026-11 5" in (drawn[1].text or "")
    # What is read is beside the picture, which is stretched, and may break before the hyphen.
    assert not list(drawn.iter("text"))
    assert page.count("2026\u200b-11") == 1


@pytest.mark.parametrize("number", range(1, 37))
def test_labels_are_as_many_as_can_be_read_and_even(number: int) -> None:
    labels = chart_of([Decimal(1)] * number).groups
    assert len(labels) == number
    places = [place for place, label in enumerate(labels) if label]
    assert all(labels[place] == str(place) for place in places)
    assert min(number, LABELS_MAX // 2) <= len(places) <= LABELS_MAX
    assert len({after - before for before, after in pairwise(places)}) <= 1
