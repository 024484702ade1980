"""Where requests are taken in, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome, Submission
from codebase.model.accounts.compliance_case import Request
from codebase.views.accounts.compliance_agents import Agents
from codebase.views.accounts.compliance_requests import Asked, Requests

CATEGORY = "compliance_request"
"""Of the ids that are derived from idempotence keys."""


class Taken(NamedTuple):
    """A request as it was made, whether that was before, and what the bus says."""

    asked: Asked
    replayed: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Desk:
    """Agents and requests as the log has them, and the way to whoever carries requests out.

    Args:
        agents: to be shown.
        requests: to be shown.
        bus: takes requests in.
        away: what keeps them from being sent, or None.
        require_open: raises ServiceUnavailable while nothing may be asked for.
    """

    agents: Agents
    requests: Requests
    bus: CommandBus
    away: Callable[[], str | None]
    require_open: Callable[[], None]

    async def ask(self, submission: Submission) -> Taken:
        """Take a request in, for good.

        Args:
            submission: of a `MakeRequest`.

        Raises:
            KeyReused: the same key stands for another request.
            ServiceUnavailable: not known whether it was taken in; the same key finds out.
        """
        self.require_open()
        outcome = await self.bus.execute(submission)
        request: Request = outcome.state.requests[submission.command.request_id]
        made = asdict(request.made)
        at = request.requested_at or outcome.recorded_at
        assert at is not None, "it has been recorded"  # noqa: S101 - an invariant
        asked = Asked(id=made.pop("request_id"), requested_at=at, **made)
        return Taken(asked, outcome.replayed or not outcome.changed, outcome)
