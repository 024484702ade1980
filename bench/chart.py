"""The chart of a run: what was measured beside others, and every ratio beside its target.

`python -m bench.chart` draws bench/chart.svg anew from bench/results.json. It is plain SVG, with
colours for a light and a dark page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from bench import report

FILE = Path(__file__).parent / "chart.svg"
Row = Mapping[str, Any]

WIDTH = 960
MARGIN = 16
LABEL_WIDTH = 520
BAR_WIDTH = 300
BAR_HEIGHT = 14
LINE_HEIGHT = 24
TITLE_HEIGHT = 36
FULL = 2.0
"""A bar of this many times the target fills its line; what is longer is cut."""
LABEL_MAX = 74
"""Characters that fit before a bar."""
BESIDE = "beside it: "

STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .title { font-weight: 600; font-size: 15px }
    .page { fill: #ffffff }
    .ours, .met { fill: #1a7f37 }
    .rival { fill: #8c959f }
    .missed { fill: #bc4c00 }
    .target { stroke: #1f2328; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .page { fill: #0d1117 }
      .ours, .met { fill: #3fb950 }
      .rival { fill: #6e7681 }
      .missed { fill: #db6d28 }
      .target { stroke: #e6edf3 }
    }
"""


def save() -> None:
    """Draw what the last whole run has measured."""
    rows = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    FILE.write_text(drawn(rows), encoding="utf-8")


def drawn(rows: Sequence[Row]) -> str:
    """The chart as SVG.

    Args:
        rows: as in results.json.
    """
    lines = [*_rates(rows), *_ratios(rows)]
    shapes, y = [], MARGIN
    for height, shape in lines:
        shapes.append(f'<g transform="translate({MARGIN} {y})">{shape}</g>')
        y += height
    height = y + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img">\n<title>What the benchmark measured</title>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _rates(rows: Iterable[Row]) -> Iterable[tuple[int, str]]:
    """Groups of bars: ours, and others beside it."""
    shown = sorted((row for row in rows if row.get("chart")), key=itemgetter("chart"))
    for title, group in groupby(shown, key=itemgetter("chart")):
        bars = list(group)
        yield _title(f"{title}, per second")
        longest = max(row["value"] for row in bars)
        for row in bars:
            name = row["name"].strip()
            kind = "rival" if name.startswith(BESIDE) else "ours"
            share = row["value"] / longest
            yield _bar(name.removeprefix(BESIDE), share, f"{row['value']:,.0f}", kind)


def _ratios(rows: Iterable[Row]) -> Iterable[tuple[int, str]]:
    """Every ratio that has a target, as a part of that target."""
    shown = [row for row in rows if row["unit"] == "ratio" and row["target"]]
    if not shown:
        return
    yield _title("Ratios; the line is the target: at least (≥) or at most (≤)")
    for row in shown:
        comparison, bound = row["target"].split()
        share = row["value"] / float(bound) / FULL
        sign = {">=": "≥", "<=": "≤"}.get(comparison, comparison)
        value = f"{row['value']:.3g} {sign} {bound}"
        kind = "met" if row["ok"] else "missed"
        yield _bar(row["name"].strip(), share, value, kind, target=1 / FULL)


def _title(text: str) -> tuple[int, str]:
    return TITLE_HEIGHT, f'<text class="title" y="24">{escape(text)}</text>'


def _bar(
    name: str, share: float, value: str, kind: str, *, target: float | None = None
) -> tuple[int, str]:
    """A line: a name, a bar of which `share` is filled, and its value."""
    if len(name) > LABEL_MAX:
        name = name[: LABEL_MAX - 1] + "…"
    width = max(1, round(min(share, 1) * BAR_WIDTH))
    shape = (
        f'<text y="15" x="{LABEL_WIDTH - 10}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{kind}" x="{LABEL_WIDTH}" y="3" width="{width}" height="{BAR_HEIGHT}"'
        ' rx="2"/>'
    )
    if target is not None:
        x = LABEL_WIDTH + round(target * BAR_WIDTH)
        shape += f'<line class="target" x1="{x}" x2="{x}" y1="0" y2="20"/>'
    shape += f'<text y="15" x="{LABEL_WIDTH + BAR_WIDTH + 8}">{escape(value)}</text>'
    return LINE_HEIGHT, shape


if __name__ == "__main__":
    save()
