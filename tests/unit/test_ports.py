"""Ports of processes that test side by side: none has what another one may take."""

from __future__ import annotations

from itertools import combinations

import pytest

from bench import ports
from bench.ports import EMBEDDED, OFFSETS, PORTS, PROCESSES_MAX, Ports

RUNS = 20


def offsets(process: int) -> set[int]:
    own = Ports(process)
    return {own.free_offset() for _ in range(RUNS)}


def test_no_two_processes_are_given_a_port_that_both_could_take() -> None:
    takers = [Ports(process) for process in range(PROCESSES_MAX)]
    given = [{taker.free_port() for _ in range(200)} for taker in takers]
    assert all(one.isdisjoint(other) for one, other in combinations(given, 2))
    assert all(port in PORTS for port in set().union(*given))


def test_no_two_embedded_runs_have_a_port_in_common_nor_one_that_is_lent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever listens on this machine meanwhile is passed over, and then there may be too few.
    monkeypatch.setattr(ports, "is_free", lambda _: True)
    runs = [offset for process in range(PROCESSES_MAX) for offset in offsets(process)]
    assert len(runs) == len(set(runs)) == PROCESSES_MAX * RUNS
    lent = [port + offset for offset in runs for port in EMBEDDED]
    assert len(lent) == len(set(lent))
    assert max(EMBEDDED) + max(OFFSETS) < min(PORTS)
