"""HTML pages: templates, the one style that they share, and charts; no script and nothing foreign.

A service keeps its templates beside its service.py and extends `base.html` (see
templates/base.html for what a page may fill in, templates/parts.html for tables' and charts'
macros):

    PAGES = Pages("codebase.services.billing")
    ...
    return PAGES.answer("page.html", links=links_to(TEAMS, settings, "Billing"), invoices=invoices)
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from itertools import count

from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from codebase.foundation.settings import Settings

EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound

# Geometry of a chart, in the units of its own coordinates.
WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 12, 28
BARS_OF_GROUP = 0.7
"""The part of a group's width that its bars take; the rest keeps groups apart."""
TICKS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link in a page's header; `is_here` marks the page that is shown."""

    title: str
    address: str
    is_here: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One bar for each group of a chart, in the chart's order of groups; none below zero.

    `colour` is 0, 1 or 2, the same for the same thing in all charts of a page.
    """

    name: str
    values: Sequence[Decimal]
    colour: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A rectangle; `colour` is that of its series, `text` what is said when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """What the macro `bar_chart` draws; made by the function of that name."""

    title: str
    description: str
    unit: str
    width: int
    height: int
    left: int
    right: int
    bottom: int
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    groups: Sequence[tuple[float, str]]
    series: Sequence[Series]


class Pages:
    """The templates of one service, and of everybody.

    Args:
        package: of the service; its templates lie beside its modules.
    """

    def __init__(self, package: str) -> None:
        shared = PackageLoader("codebase.web")
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader(package, ""), shared]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = shared.get_source(self._environment, "style.css")[0].strip()
        self._environment.globals["style"] = Markup(style)  # noqa: S704 - a file of ours
        self._environment.filters |= {"moment": moment, "grouped": grouped, "money": money}
        self._headers = security_headers(style)

    def render(self, template: str, **values: object) -> str:
        """The text of a page; `values` are escaped, and one that is missing is an error."""
        return self._environment.get_template(template).render(**values)

    def answer(self, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
        """A page as an answer that no cache keeps and that loads nothing."""
        return HTMLResponse(self.render(template, **values), status, self._headers)


def security_headers(style: str) -> dict[str, str]:
    """Nothing but this very style sheet is let in, whatever a page is made to contain.

    Args:
        style: the text of the page's one `<style>`.
    """
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        # With no-referrer a browser would not say either where a form comes from: see
        # web/auth.py's require_same_origin.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def links_to(pages: Iterable[tuple[str, int]], settings: Settings, title: str) -> list[Link]:
    """Pages that belong together, as far as their addresses are known: in the embedded run.

    Args:
        pages: titles, and ports in the embedded run.
        settings: whether this is one, and what its ports are shifted by.
        title: of the page that is shown.
    """
    if not settings.development:
        return []
    host = "127.0.0.1" if settings.host in EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    return [
        Link(
            title=page,
            address=f"http://{host}:{port + settings.port_offset}/",
            is_here=page == title,
        )
        for page, port in pages
    ]


def moment(value: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC"


def grouped(value: Decimal | int) -> str:
    """A number with its digits in groups of three, with the decimals that it has."""
    return f"{value:,}"


def money(value: Decimal | int) -> str:
    """An amount with its digits in groups of three, and two decimals."""
    return f"{value:,.2f}"


def bar_chart(*, title: str, unit: str, groups: Sequence[str], series: Sequence[Series]) -> Chart:
    """Bars side by side, one group for each of `groups`.

    Args:
        title: what is shown, in words.
        unit: what the axis counts.
        groups: along the axis.
        series: at least one; each with as many values as there are groups.
    """
    top = max((value for each in series for value in each.values), default=Decimal(0))
    ticks = list(_ticks(top))
    scale = (HEIGHT - TOP - BOTTOM) / float(ticks[-1])
    group_width = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    return Chart(
        title=title,
        description=_described(groups, series, unit),
        unit=unit,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        bars=list(_bars(groups, series, unit, group_width, scale)),
        ticks=[(_place(HEIGHT - BOTTOM - float(tick) * scale), grouped(tick)) for tick in ticks],
        groups=[
            (_place(LEFT + (number + 0.5) * group_width), group)
            for number, group in enumerate(groups)
        ],
        series=series,
    )


def _bars(
    groups: Sequence[str],
    series: Sequence[Series],
    unit: str,
    group_width: float,
    scale: float,
) -> Iterator[Bar]:
    width = group_width * BARS_OF_GROUP / len(series)
    for number, each in enumerate(series):
        for group, (name, value) in enumerate(zip(groups, each.values, strict=True)):
            # The smallest amount that is not nothing can still be seen.
            height = max(1.0, float(value) * scale) if value else 0.0
            start = LEFT + group * group_width + group_width * (1 - BARS_OF_GROUP) / 2
            yield Bar(
                x=_place(start + number * width),
                y=_place(HEIGHT - BOTTOM - height),
                width=_place(width * 0.9),
                height=_place(height),
                colour=each.colour,
                text=f"{each.name}, {name}: {grouped(value)} {unit}",
            )


def _ticks(top: Decimal) -> Iterator[Decimal]:
    """Round numbers from 0 to the first that is not below `top`, about four steps."""
    if top <= 0:
        top = Decimal(1)
    rough = top / TICKS
    power = Decimal(1).scaleb(rough.adjusted())
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
    for number in count():
        # Neither 1.0 nor 1E+1.
        yield Decimal(format((step * number).normalize(), "f"))
        if step * number >= top:
            return


def _described(groups: Sequence[str], series: Sequence[Series], unit: str) -> str:
    """The chart in words, for those who do not see it."""
    parts = (
        f"{each.name}: "
        + ", ".join(
            f"{group} {grouped(value)}" for group, value in zip(groups, each.values, strict=True)
        )
        for each in series
    )
    return f"In {unit}. " + "; ".join(parts)


def _place(value: float) -> float:
    return round(value, 1)
