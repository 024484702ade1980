"""The chart of the benchmark: every comparison is a bar, and can be read."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from bench.chart import STYLE, drawn
from bench.report import Result, at_least, at_most

ROWS = [
    result.as_json()
    for result in (
        Result(name="ours", value=3000, unit="/s", chart="orders <b>"),
        Result(name="  beside it: theirs", value=1000, unit="/s", chart="orders <b>"),
        Result(name="ours ÷ theirs", value=3, unit="ratio", target=at_least(2)),
        Result(name="late ÷ soon", value=1.8, unit="ratio", target=at_most(1.5)),
        Result(name="a ratio without a target", value=1, unit="ratio"),
        Result(name="a number in no comparison", value=1, unit="s", target=at_most(2)),
    )
]
SVG = "{http://www.w3.org/2000/svg}"


def bars() -> list[tuple[str, str, int, str]]:
    """(name, class, width, value) of every bar."""
    found = []
    for line in ET.fromstring(drawn(ROWS)).iter(f"{SVG}g"):  # noqa: S314 - our own
        bar, texts = line.find(f"{SVG}rect"), line.findall(f"{SVG}text")
        if bar is not None:
            name, value = (str(text.text) for text in texts)
            found.append((name, bar.attrib["class"], int(bar.attrib["width"]), value))
    return found


def test_what_is_compared_is_a_bar_and_so_is_every_ratio_with_a_target() -> None:
    assert bars() == [
        ("ours", "ours", 300, "3,000"),
        ("theirs", "rival", 100, "1,000"),
        ("ours ÷ theirs", "met", 225, "3 ≥ 2"),
        ("late ÷ soon", "missed", 180, "1.8 ≤ 1.5"),
    ]


def test_no_text_is_smaller_than_twelve_pixels() -> None:
    sizes = [int(size) for size in re.findall(r"font(?:-size)?: (?:\d+ )?(\d+)px", STYLE)]
    assert len(sizes) == STYLE.count("font:") + STYLE.count("font-size:")
    assert min(sizes) >= 12


def test_a_dark_page_has_colours_of_its_own() -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    assert set(re.findall(r"^ *([^@\n]+?) \{.*(?:fill|stroke):", light, re.MULTILINE)) == set(
        re.findall(r"^ *([^@\n]+?) \{.*(?:fill|stroke):", dark, re.MULTILINE)
    )
