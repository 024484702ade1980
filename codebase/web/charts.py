"""Bar charts for pages: what the macro `bar_chart` of templates/parts.html draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count

from codebase.web.html import grouped

# What the bars are drawn in; a page stretches it to the room that there is.
WIDTH, HEIGHT = 600, 176
BARS_OF_GROUP = 0.7
"""The part of a group's width that its bars take; the rest keeps groups apart."""
TICKS = 4
LABELS_MAX = 6
"""Along the axis: so many can be read side by side on a telephone."""


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
    """What the macro `bar_chart` draws; made by the function of that name.

    `ticks` are the heights of lines and what to write beside them, evenly spaced from the bottom to
    the top; `groups` has a label for each group, empty for those that stand between others.
    """

    title: str
    description: str
    unit: str
    width: int
    height: int
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    groups: Sequence[str]
    series: Sequence[Series]


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
    scale = HEIGHT / float(ticks[-1])
    group_width = WIDTH / max(1, len(groups))
    return Chart(
        title=title,
        description=_described(groups, series, unit),
        unit=unit,
        width=WIDTH,
        height=HEIGHT,
        bars=list(_bars(groups, series, unit, group_width, scale)),
        ticks=[(_place(HEIGHT - float(tick) * scale), grouped(tick)) for tick in ticks],
        groups=_labels(groups),
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
            start = group * group_width + group_width * (1 - BARS_OF_GROUP) / 2
            yield Bar(
                x=_place(start + number * width),
                y=_place(HEIGHT - height),
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


def _labels(groups: Sequence[str]) -> list[str]:
    """As many as there is room for, evenly, with half a step left at the end."""
    step = -(-len(groups) // LABELS_MAX)
    return [
        group if (len(groups) - number) % step == step // 2 else ""
        for number, group in enumerate(groups, 1)
    ]


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
