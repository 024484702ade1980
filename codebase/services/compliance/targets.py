"""Who does what the reaction says: block_agent, by message or by HTTP, and the case in the log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Submission
from codebase.engine.messages.command_message import SENDER, MalformedError, Reply
from codebase.engine.reactions.bus_target import CommandOn
from codebase.engine.reactions.reaction import Sent
from codebase.engine.reactions.service_target import ServiceCommand
from codebase.engine.reactions.waiting import Waiting
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    REQUEST,
    NoteAnswer,
    NoteSent,
    Outcome,
    case_of,
)
from codebase.services.compliance.reaction import NOTE_SENT

AWAY = frozenset({"the broker is away", "block_agent is away"})
"""What keeps everything from being sent is said once, and not of each request."""


def change(sent: Sent) -> ServiceCommand:
    """What block_agent is to do; it has the request's own id as key."""
    data, action = sent.send.data, sent.send.action
    return ServiceCommand(
        key=UUID(data["request_id"]),
        topic=f"agent.{action}",
        path=f"/agents/{action}_agent/{{agent_id}}",
        about={"agent_id": str(sent.subject)},
        details={"reason": data["reason"]},
    )


def note(sent: Sent) -> CommandOn:
    """What is noted in the case of an agent."""
    data = sent.send.data
    request_id = UUID(data["request_id"])
    noted = (
        NoteSent(request_id=request_id)
        if sent.send.action == NOTE_SENT
        else NoteAnswer(
            request_id=request_id, outcome=Outcome(data["outcome"]), detail=data.get("detail")
        )
    )
    return CommandOn(aggregate=COMPLIANCE_CASE, stream_id=case_of(sent.subject), command=noted)


async def hear(bus: CommandBus, request_id: UUID, reply: Reply) -> None:
    """Note what became of a request that was sent by message.

    Raises:
        MalformedError: nobody asked for it.
    """
    case = await bus.holder(REQUEST, str(request_id))
    if case is None:
        raise MalformedError("correlation_id: nobody asked for this")
    answer = NoteAnswer(request_id=request_id, outcome=Outcome(reply.outcome), detail=reply.detail)
    await bus.execute(Submission.without_key(COMPLIANCE_CASE, case, answer, SENDER))


async def details(waiting: Waiting, agent_ids: Collection[UUID]) -> Mapping[str, str]:
    """What requests about these agents wait for, by their ids."""
    found = await waiting.reasons(agent_ids)
    return {data["request_id"]: reason for data, reason in found if reason not in AWAY}
