"""What a context, a part of the business, brings to the engine; the engine knows none by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from codebase.engine.projections.projection import Projection
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Aggregate


@dataclass(frozen=True, kw_only=True)
class Group:
    """Services that answer together on one address: one process, one port, one documentation."""

    port: int
    services: tuple[str, ...]


AddressOf = Callable[[str], str]
"""The address of a service or group in the embedded run, by its name."""


def no_welcome(address_of: AddressOf, *, with_tokens: bool) -> str:  # noqa: ARG001 - as others
    """What a context says that has nothing to show."""
    return ""


def no_budgets(_settings: Settings) -> Mapping[str, Decimal]:
    """What a context without budgets has."""
    return {}


class Welcome(Protocol):
    """Says where a context's services are to be found."""

    def __call__(self, address_of: AddressOf, *, with_tokens: bool) -> str:
        """One line for the operator; empty when there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """One part of the business.

    Args:
        name: of its folders in `model` and `views`.
        aggregates: whose streams it writes.
        projections: what it shows, in the read model that read_model_sync keeps; services that
            keep tables of their own bring their own projectors.
        settings: what can be configured about it.
        budgets: settings -> name of each budget that its events spend from, and its limit.
        migrations: store (`write_model` or `read_model`) -> a folder of migrations of its own,
            beside those that everybody shares.
        services: the package that its services are folders of.
        groups: its services that answer together, by the group's name.
        addresses: variable -> the service or group whose address it holds in the embedded run.
        remembered: fields of `settings` that an embedded home keeps for the commands on it.
        welcome: what the embedded run says of it once all is ready: where to look, what to try.
        administrators: its services that call others in the name of every client.
    """

    name: str
    aggregates: tuple[Aggregate[Any, Any, Any], ...]
    projections: tuple[Projection, ...] = ()
    settings: type[Settings] = Settings
    budgets: Callable[[Settings], Mapping[str, Decimal]] = no_budgets
    migrations: Mapping[str, Path] = field(default_factory=dict)
    services: str = "codebase.services"
    groups: Mapping[str, Group] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    remembered: tuple[str, ...] = ()
    welcome: Welcome = no_welcome
    administrators: tuple[str, ...] = ()
