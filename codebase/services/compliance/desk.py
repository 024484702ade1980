"""Where requests are taken in, and what is shown of them."""

from __future__ import annotations

from dataclasses import dataclass

from codebase.services.compliance.agents import Agents
from codebase.services.compliance.dispatch import Dispatch
from codebase.services.compliance.requests import Asked, NewRequest, Requests


@dataclass(frozen=True, slots=True)
class Desk:
    """Agents as the log has them, requests as they were made, and whoever sends them."""

    agents: Agents
    requests: Requests
    dispatch: Dispatch

    async def ask(self, request: NewRequest) -> tuple[Asked, bool]:
        """Take a request in, for good: see `Requests.add`."""
        stored = await self.requests.add(request)
        self.dispatch.wake()
        return stored
