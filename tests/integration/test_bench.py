"""The benchmark can still measure: every section in its smallest size, whatever its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from bench.__main__ import SECTIONS
from bench.lab import Effort, Lab
from bench.ports import Ports
from bench.visits import REPEATED

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_OTHER_ENVIRONMENTS = {"load", "rivals"}
"""Locust and other people's frameworks, which only ./bench.sh installs."""


@pytest.fixture(scope="module")
def lab(ports: Ports) -> Iterator[Lab]:
    with Lab.open(Effort(small=True), ports) as opened:
        yield opened


def test_what_is_repeated_is_a_section() -> None:
    assert set(REPEATED) <= set(SECTIONS)


@pytest.mark.parametrize("name", [name for name in SECTIONS if name not in IN_OTHER_ENVIRONMENTS])
def test_every_section_still_measures(lab: Lab, name: str) -> None:
    results = list(SECTIONS[name](lab))
    lab.clear()
    assert any(result.target for result in results)
    assert all(math.isfinite(result.value) for result in results)
