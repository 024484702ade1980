"""What we deploy: one folder per deployable, named verb_noun."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from codebase.engine.projections.projection import Projector


@dataclass(frozen=True, kw_only=True)
class Group:
    """Services that answer together on one address: one process, one port, one documentation."""

    port: int
    services: tuple[str, ...]


GROUPS = {
    "account_management": Group(
        port=9090,
        services=(
            "create_account",
            "create_agent",
            "block_agent",
            "fetch_accounts",
            "fetch_agents",
        ),
    ),
}


def names() -> list[str]:
    """Every deployable: the folders here that have a service.py."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/service.py"))


def load(name: str) -> ModuleType:
    """The service module of one deployable, with `PORT` and `open_service(runtime)`."""
    return import_module(f"codebase.services.{name}.service")


def in_groups(chosen: Iterable[str]) -> list[str]:
    """The services that `chosen` stand for: names of services, or of groups of them."""
    return [
        name for each in chosen for name in (GROUPS[each].services if each in GROUPS else [each])
    ]


def port_of(name: str) -> int:
    """The port of a service, or of a group of services."""
    return GROUPS[name].port if name in GROUPS else int(load(name).PORT)


def on_one_machine() -> dict[str, int]:
    """What the whole system consists of, with its ports: groups, and the services in none."""
    grouped = {name for group in GROUPS.values() for name in group.services}
    alone = [name for name in names() if name not in grouped]
    return {name: port_of(name) for name in [*alone, *GROUPS]}


def projectors() -> list[Projector]:
    """The projectors of every deployable: its `PROJECTOR`, or the alternatives in `PROJECTORS`."""
    found: list[Projector] = []
    for module in map(load, names()):
        own = getattr(module, "PROJECTOR", None)
        # Services that only read know the name of the projector that writes.
        found += [own] if isinstance(own, Projector) else getattr(module, "PROJECTORS", ())
    return found
