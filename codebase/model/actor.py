"""On whose behalf a command is sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated client; administrators may act for every client."""

    name: str
    is_admin: bool = False

    def may_act_for(self, client: str) -> bool:
        """Whether what belongs to `client` is within this actor's reach."""
        return self.is_admin or self.name == client
