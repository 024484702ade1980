"""The walls between rooms that import-linter has no words for; the others are in pyproject.toml."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest

CONTRACTS: list[dict[str, Any]] = tomllib.loads(Path("pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("codebase", include_external_packages=True)


@pytest.fixture(scope="module")
def packages(graph: grimp.ImportGraph) -> set[str]:
    """Whatever is imported that is neither ours nor part of Python."""
    foreign = {each for each in graph.modules if graph.is_module_squashed(each)}
    return foreign - sys.stdlib_module_names


def forbidden(contract: dict[str, Any]) -> Iterator[str]:
    return (each for each in contract.get("forbidden_modules", ()) if "codebase" not in each)


def test_every_package_that_a_wall_keeps_out_is_one_that_is_used(packages: set[str]) -> None:
    named = {each for contract in CONTRACTS for each in forbidden(contract)}
    assert named <= packages


def test_the_models_wall_keeps_every_package_out(packages: set[str]) -> None:
    [wall] = [each for each in CONTRACTS if each.get("source_modules") == ["codebase.model"]]
    assert set(forbidden(wall)) == packages


def contexts_in(modules: Iterable[str], graph: grimp.ImportGraph) -> set[str]:
    """The contexts that any of `modules`, or what they import, belongs to."""
    contexts = {each.rpartition(".")[2] for each in graph.find_children("codebase.views")}
    return {
        context
        for context in contexts
        for room in ("model", "views")
        for module in modules
        if module.startswith(f"codebase.{room}.{context}.")
    }


def test_every_service_and_every_view_is_of_one_context_or_of_none(
    graph: grimp.ImportGraph,
) -> None:
    rooms = graph.find_children("codebase.services") | graph.find_children("codebase.views")
    crowded = {}
    for room in rooms:
        imported = graph.find_upstream_modules(room, as_package=True)
        if len(found := contexts_in(imported, graph)) > 1:
            crowded[room] = found
    assert crowded == {}
