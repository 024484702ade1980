"""What we deploy: one folder per deployable, named verb_noun."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from codebase.infra.projection import Projector


def names() -> list[str]:
    """Every deployable: the folders here that have a service.py."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/service.py"))


def load(name: str) -> ModuleType:
    """The service module of one deployable, with `PORT` and `open_service(runtime)`."""
    return import_module(f"codebase.services.{name}.service")


def projectors() -> list[Projector]:
    """The projectors of every deployable: its `PROJECTOR`, or the alternatives in `PROJECTORS`."""
    found: list[Projector] = []
    for module in map(load, names()):
        own = getattr(module, "PROJECTOR", None)
        # Services that only read know the name of the projector that writes.
        found += [own] if isinstance(own, Projector) else getattr(module, "PROJECTORS", ())
    return found
