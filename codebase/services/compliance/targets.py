"""Who does what the reaction says: block_agent, by message or by HTTP, and the case in the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.engine.messages.command_message import SENDER, Became, MalformedError, Reply
from codebase.engine.messages.reply_queues import RESERVED
from codebase.engine.reactions.bus_target import BusTarget, CommandOn
from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.posting_target import POSTED, PostingTarget
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    AwayError,
    FailedError,
    InDoubtError,
    NotSentError,
    Target,
)
from codebase.engine.reactions.waiting import Waiting
from codebase.foundation.errors import ConfigurationError
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    REQUEST,
    NoteAnswer,
    NoteSent,
    Outcome,
    case_of,
)
from codebase.services.compliance.reaction import BLOCK_AGENT, CASE, NOTE_SENT
from codebase.views.accounts.settings import AccountSettings
from codebase.web.auth import Authenticator
from codebase.web.problems import HttpProblem
from codebase.web.runtime import Runtime

AWAY = frozenset({"the broker is away", "block_agent is away"})
"""What keeps everything from being sent is said once, and not of each request."""
OUTCOMES = {Became.DONE, Became.UNCHANGED, POSTED}
REPLIES = f"{RESERVED}compliance"
"""The queue that outcomes come back by."""


class BlockAgent:
    """The way to block_agent; what it is asked for has the request's own id as key.

    Args:
        way: the target that it is reached by.
        whose: begins its sentences about what is wrong; those about the broker are whole.
    """

    def __init__(self, way: Target, whose: str = "") -> None:
        self._way = way
        self._whose = whose
        self.deadline_seconds = way.deadline_seconds
        self.away: str | None = None
        """What keeps requests from being sent, as far as this process knows, or None."""

    async def send(self, sent: Sent) -> Answer:
        """Send the command.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no outcome.
        """
        named = replace(sent, key=UUID(sent.send.data["request_id"]))
        try:
            answer = await self._way.send(named)
        except (NotSentError, FailedError) as error:
            said = f"{self._whose}{error}"
            self.away = said if isinstance(error, AwayError) else None
            raise type(error)(said) from error
        except (InDoubtError, asyncio.CancelledError):
            self.away = f"{self._whose or 'the broker '}does not answer"
            raise
        self.away = None
        return _outcome(answer)

    async def inquire(self, sent: Sent) -> Answer | None:  # noqa: ARG002 - as every target
        """Nothing to ask: a repeat of the command is answered as the command was."""
        return None


def _outcome(answer: Answer) -> Answer:
    """The answer, if it is one of block_agent's: a proxy's words, say, are no outcome.

    Raises:
        FailedError: it is none.
    """
    if answer.refused is None:
        if answer.data.get("outcome") not in OUTCOMES:
            raise FailedError("block_agent answered without an outcome")
    elif not answer.data.keys() >= {"type", "detail"}:
        status = answer.refused.partition(" ")[0]
        raise FailedError(f"block_agent answered {status}")
    return answer


def message(sent: Sent) -> tuple[str, bytes]:
    """The message that a request is sent as."""
    body = {
        "agent_id": str(sent.subject),
        "reason": sent.send.data["reason"],
        "idempotence_key": str(sent.key),
    }
    return f"agent.{sent.send.action}", json.dumps(body).encode()


def call(sent: Sent) -> Call:
    """The same by HTTP."""
    path = f"/agents/{sent.send.action}_agent/{sent.subject}"
    return Call(method="POST", path=path, body={"reason": sent.send.data["reason"]})


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
    await bus.execute(
        Submission(
            aggregate=COMPLIANCE_CASE,
            stream_id=case,
            command=answer,
            idempotence_key=None,
            content=Content.of("note_answer", reply, {"request_id": request_id}),
            actor=SENDER,
            command_id=uuid4().hex,
        )
    )


@asynccontextmanager
async def way_to_block_agent(
    runtime: Runtime, settings: AccountSettings, bus: CommandBus
) -> AsyncIterator[BlockAgent]:
    """By message when there is a broker, else by HTTP."""
    if settings.broker_url:
        name, limit = REPLIES.removeprefix(RESERVED), settings.body_limit_bytes
        posting = PostingTarget(
            settings.broker_url, name, message, partial(hear, bus), body_limit_bytes=limit
        )
        async with posting.at_work(runtime.seconds_to_stop):
            yield BlockAgent(posting)
        return
    headers = {"X-Token": settings.service_token} if settings.service_token else {}
    session = await runtime.http_session()
    http = HttpTarget(session, settings.block_agent_url, call, headers=headers)
    yield BlockAgent(http, "block_agent ")


async def details(waiting: Waiting, agent_ids: Collection[UUID]) -> Mapping[str, str]:
    """What requests about these agents wait for, by their ids."""
    found = await waiting.reasons(agent_ids)
    return {data["request_id"]: reason for data, reason in found if reason not in AWAY}


def targets(way: BlockAgent, bus: CommandBus) -> dict[str, Target]:
    """Everybody that the reaction sends to."""
    return {BLOCK_AGENT: way, CASE: BusTarget(bus, "compliance", note)}


def require_admin_token(settings: AccountSettings) -> None:
    """Without a broker and with tokens, compliance has to be an administrator for block_agent.

    A client would be told that the agents of others do not exist, and so would whoever asked.

    Raises:
        ConfigurationError: SERVICE_TOKEN is not that of an administrator.
    """
    if settings.broker_url or not settings.api_tokens:
        return
    sent = (settings.service_token or "").encode()
    try:
        caller = Authenticator(settings.api_tokens).caller({b"x-token": sent}, "here")
    except HttpProblem:
        caller = None
    if caller is None or not caller.is_admin:
        raise ConfigurationError(
            "SERVICE_TOKEN: without BROKER_URL compliance needs the token of an API_TOKENS entry"
            " with the role admin, to block the agents of every client"
        )
