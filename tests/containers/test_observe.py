"""Prometheus and what Grafana would ask it; Grafana itself is checked as files only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from codebase.registry import SYSTEM
from tests.acceptance.conftest import PROJECT, until
from tests.containers.conftest import ADDRESS, Cluster, SystemInContainers

ORIGIN = f"http://{ADDRESS}:9099"
# What a healthy cluster has nothing of.
MAY_BE_EMPTY = {
    "Not ready",
    "Down",
    "Alerts",
    "Answers 5xx",
    "Fraud alerts, by what became of them",
}
OF_REACTIONS = "Reactions"
"""How titles begin of what a cluster without any reaction shows nothing of."""


@pytest.fixture
def prometheus(cluster: Cluster) -> Iterator[Cluster]:
    cluster.compose("up", "--detach", "--no-build", "--no-deps", "prometheus")
    until(is_ready, "Prometheus is not ready")
    yield cluster
    cluster.compose("rm", "--stop", "--force", "prometheus")


def ask(path: str, **parameters: str) -> Any:  # noqa: ANN401 - any JSON
    answer = httpx.get(f"{ORIGIN}/api/v1/{path}", params=parameters)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()["data"]


def is_ready() -> bool:
    try:
        return httpx.get(f"{ORIGIN}/-/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def jobs_up() -> dict[str, int]:
    counted: dict[str, int] = {}
    for target in ask("targets")["activeTargets"]:
        job = target["labels"]["job"]
        counted[job] = counted.get(job, 0) + (target["health"] == "up")
    return counted


def panels() -> list[tuple[str, str]]:
    """Title and query of everything that the dashboard shows."""
    file = PROJECT / "config/grafana/dashboards/orderly.json"
    return [
        (panel["title"], target["expr"])
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]


def may_be_empty(title: str) -> bool:
    return title in MAY_BE_EMPTY or (title.startswith(OF_REACTIONS) and not SYSTEM.reactions())


def test_every_process_is_measured_and_every_panel_has_something_to_show(
    prometheus: Cluster, system: SystemInContainers
) -> None:
    assert prometheus
    wanted = {"orderly": len(SYSTEM.names()), "rabbitmq": 1}
    until(lambda: jobs_up() == wanted, lambda: f"up are {jobs_up()}")
    rules = ask("rules")["groups"][0]["rules"]
    assert len(rules) > 10
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}

    def without_data() -> list[str]:
        assert system.put().status_code == httpx.codes.OK
        list(system.pages())
        return [
            f"{title}: {query}"
            for title, query in panels()
            if not may_be_empty(title) and not ask("query", query=query)["result"]
        ]

    for title, query in panels():
        assert ask("query", query=query)["resultType"] == "vector", title
    until(lambda: not without_data(), lambda: f"nothing to show: {without_data()}")
