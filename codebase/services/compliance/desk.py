"""Where requests are taken in, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from codebase.engine.commands.bus import CommandBus
from codebase.model.accounts.compliance_case import COMPLIANCE_CASE, Action, MakeRequest, case_of
from codebase.views.accounts.compliance_agents import Agents
from codebase.views.accounts.compliance_requests import Asked, Requests
from codebase.web.fields import Text
from codebase.web.request_body import RequestBody
from codebase.web.schemas import example
from codebase.web.shell import Answer, Command

CATEGORY = "compliance_request"
"""Of the ids that are derived from idempotence keys."""
BLOCK, UNBLOCK = "block_agent", "unblock_agent"
ACTIONS = {BLOCK: Action.BLOCK, UNBLOCK: Action.UNBLOCK}
"""What is asked for, by the names of the commands that ask for it."""


class Reason(RequestBody):
    """Why an agent is to be blocked or unblocked."""

    model_config = example(reason="The account is 60 days overdue")

    reason: Text | None = None


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

    async def ask(self, request: Command[Reason]) -> Answer:
        """Take a request in, for good.

        Raises:
            KeyReused: the same key stands for another request.
            ServiceUnavailable: not known whether it was taken in; the same key finds out.
        """
        wanted = MakeRequest(
            request_id=request.id_of_creation(CATEGORY),
            agent_id=request.path["agent_id"],
            action=ACTIONS[request.name],
            reason=request.body.reason,
            requested_by=request.caller.name,
        )
        self.require_open()
        case = case_of(wanted.agent_id)
        outcome = await self.bus.execute(request.submission(COMPLIANCE_CASE, case, wanted))
        known = outcome.state.requests[wanted.request_id]
        made, at = asdict(known.made), known.requested_at or outcome.recorded_at
        assert at is not None, "it has been recorded"  # noqa: S101 - an invariant
        asked = Asked(id=made.pop("request_id"), requested_at=at, **made)
        answer = Answer.to(outcome, asked, Location=f"/requests/{asked.id}")
        answer.replayed |= not outcome.changed
        return answer
