"""Where the system is put together: every context, and what can be found out from them.

A context is added here, by one line; services are found by their folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from codebase.engine.context import Context, Group
from codebase.engine.projections.projection import Projector
from codebase.engine.projections.read_model import read_model
from codebase.engine.reactions.reaction import Reaction
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Aggregate
from codebase.views.accounts.context import ACCOUNT_CONTEXT
from codebase.views.buy_orders.context import BUY_ORDER_CONTEXT
from codebase.views.payments.context import PAYMENT_CONTEXT


@dataclass(frozen=True)
class System:
    """Contexts and the services that are deployed for them.

    A service is a folder with a `service.py`, which has `PORT`, `NEEDS` (the secrets that it is
    told) and `open_service(runtime)`, and may have `PROJECTOR` (or `PROJECTORS`, if they are
    alternatives) for tables of its own, `REACTIONS` for what events cause, `MESSAGES`, routing key
    -> body, for the commands that it takes by message, and `SEVERAL_PROCESSES`: true, if it is
    right that several share its port, because whatever one of them keeps in memory the others can
    do without.
    """

    contexts: tuple[Context, ...]

    @property
    def aggregates(self) -> tuple[Aggregate[Any, Any, Any], ...]:
        """Every aggregate there is."""
        return tuple(each for context in self.contexts for each in context.aggregates)

    @property
    def settings(self) -> tuple[type[Settings], ...]:
        """What can be configured, beside what every process has."""
        return tuple(context.settings for context in self.contexts)

    @property
    def groups(self) -> Mapping[str, Group]:
        """The groups of all contexts."""
        return {name: one for context in self.contexts for name, one in context.groups.items()}

    @cached_property
    def read_model(self) -> Projector:
        """The projector of the views that all contexts share."""
        return read_model(each for context in self.contexts for each in context.projections)

    @cached_property
    def _packages(self) -> Mapping[str, str]:
        """Service -> the package it is a folder of."""
        # A set would lose the order.
        found = dict.fromkeys(context.services for context in self.contexts)
        return {
            path.parent.name: package
            for package in found
            for folder in import_module(package).__path__
            for path in sorted(Path(folder).glob("*/service.py"))
        }

    def names(self) -> list[str]:
        """Every deployable."""
        return sorted(self._packages)

    def load(self, name: str) -> ModuleType:
        """The service module of one deployable."""
        return import_module(f"{self._packages[name]}.{name}.service")

    def in_groups(self, chosen: Iterable[str]) -> list[str]:
        """The services that `chosen` stand for: names of services, or of groups of them."""
        groups = self.groups
        return [
            name
            for each in chosen
            for name in (groups[each].services if each in groups else [each])
        ]

    def port_of(self, name: str) -> int:
        """The port of a service, or of a group of services."""
        return self.groups[name].port if name in self.groups else int(self.load(name).PORT)

    def needs_of(self, chosen: Iterable[str]) -> frozenset[str]:
        """The secrets that a process of these services, or groups of services, is told."""
        return frozenset(need for name in self.in_groups(chosen) for need in self.load(name).NEEDS)

    def one_process_each(self, chosen: Iterable[str]) -> list[str]:
        """Those of the services that may not have several processes."""
        names = self.in_groups(chosen)
        return [name for name in names if not getattr(self.load(name), "SEVERAL_PROCESSES", False)]

    def on_one_machine(self) -> dict[str, int]:
        """What the whole system consists of, with its ports: groups, and the services in none."""
        grouped = {name for group in self.groups.values() for name in group.services}
        alone = [name for name in self.names() if name not in grouped]
        return {name: self.port_of(name) for name in [*alone, *self.groups]}

    def projectors(self) -> list[Projector]:
        """The shared read model's projector, and those of services with tables of their own."""
        found = [self.read_model]
        for module in map(self.load, self.names()):
            own = getattr(module, "PROJECTOR", None)
            found += [own] if own else getattr(module, "PROJECTORS", ())
        return found

    def reactions(self) -> list[Reaction]:
        """What events cause, by any service."""
        return [
            each
            for module in map(self.load, self.names())
            for each in getattr(module, "REACTIONS", ())
        ]

    def messages(self) -> dict[str, type[BaseModel]]:
        """Routing key -> body, of every command that is taken by message."""
        bodies: dict[str, type[BaseModel]] = {}
        for module in map(self.load, self.names()):
            bodies |= getattr(module, "MESSAGES", {})
        return bodies


SYSTEM = System(contexts=(BUY_ORDER_CONTEXT, ACCOUNT_CONTEXT, PAYMENT_CONTEXT))
