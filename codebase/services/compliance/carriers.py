"""How requests get to block_agent: by message, or by HTTP where there is no broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

import httpx
from pika.exceptions import UnroutableError
from pydantic import ValidationError

from codebase.engine.messages.command_message import Became
from codebase.engine.messages.command_sender import OutgoingCommand, commands_to
from codebase.engine.messages.connection import BROKER_ERRORS, what_the_broker_does
from codebase.engine.messages.reply_queues import RESERVED
from codebase.foundation.backoff import doubled
from codebase.foundation.errors import ConfigurationError
from codebase.services.compliance.requests import Action, State
from codebase.views.accounts.settings import AccountSettings
from codebase.web.auth import Authenticator
from codebase.web.problems import HttpProblem, ProblemDetails

REPLIES = f"{RESERVED}compliance"
"""The queue that outcomes come back by."""

HTTP_DEADLINE_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0

# They speak of what is configured, or of what passes, and not of the request itself.
NOT_AN_OUTCOME = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class AwayError(Exception):
    """There is no way to block_agent at the moment; the text says what is away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A request that is to be sent; `attempts` is how often that was tried before."""

    id: UUID
    agent_id: UUID
    action: Action
    reason: str | None
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """What came of sending a request; `pause_seconds` until the next time, if it needs one."""

    id: UUID
    state: State
    detail: str | None = None
    pause_seconds: float = 0.0


class Carrier(Protocol):
    """A way to block_agent."""

    def carry(self, due: Sequence[Due]) -> Iterator[Carried]:
        """Send requests one after the other.

        Raises:
            AwayError: the rest was not sent.
        """


class ByBroker:
    """Publishes commands; their outcomes come back by the queue `reply.compliance`.

    Args:
        settings: the broker's address, and how long a reply may take.
        replies_are_taken: whether somebody listens to the queue, which then exists.
    """

    def __init__(self, settings: AccountSettings, replies_are_taken: Callable[[], bool]) -> None:
        self._url = settings.required("broker_url")
        self._reply_wait_seconds = settings.reply_wait_seconds
        self._replies_are_taken = replies_are_taken

    def carry(self, due: Sequence[Due]) -> Iterator[Carried]:
        """Sent is what the broker has confirmed; a request that is not answered is due again."""
        if not self._replies_are_taken():
            raise AwayError("the broker is away")
        try:
            with commands_to(self._url, "compliance") as send:
                for request in due:
                    yield self._carried(send, request)
        except BROKER_ERRORS as error:
            raise AwayError(what_the_broker_does(error)) from error

    def _carried(self, send: Callable[[OutgoingCommand], None], request: Due) -> Carried:
        try:
            send(command_for(request))
        except UnroutableError:
            return _waits(request, "no service takes commands at the moment")
        pause = pause_after(request.attempts, self._reply_wait_seconds)
        return Carried(id=request.id, state=State.SENT, pause_seconds=pause)


def command_for(request: Due) -> OutgoingCommand:
    """The message that a request is sent as."""
    return OutgoingCommand(
        routing_key=f"agent.{request.action}",
        body=json.dumps(
            {
                "agent_id": str(request.agent_id),
                "reason": request.reason,
                "idempotence_key": str(request.id),
            }
        ).encode(),
        message_id=str(request.id),
        reply_to=REPLIES,
    )


class ByHttp:
    """Asks block_agent, which answers with the outcome.

    Args:
        settings: block_agent's address, the token that it wants, and how long to wait when its
            answer did not come.
    """

    def __init__(self, settings: AccountSettings) -> None:
        self._url = settings.block_agent_url
        self._headers = {"X-Token": settings.service_token} if settings.service_token else {}
        self._reply_wait_seconds = settings.reply_wait_seconds

    def carry(self, due: Sequence[Due]) -> Iterator[Carried]:
        """One that may have arrived without an answer is sent, and due again."""
        with asyncio.Runner() as runner:
            # What is configured for the way to the internet is not for the way to our services.
            client = httpx.AsyncClient(trust_env=False, timeout=HTTP_DEADLINE_SECONDS)
            try:
                for request in due:
                    yield from self._carried(runner, client, request)
            finally:
                runner.run(client.aclose())

    def _carried(
        self, runner: asyncio.Runner, client: httpx.AsyncClient, request: Due
    ) -> Iterator[Carried]:
        try:
            answer = runner.run(self._post(client, request))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise AwayError("block_agent is away") from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            pause = pause_after(request.attempts, self._reply_wait_seconds)
            yield Carried(id=request.id, state=State.SENT, pause_seconds=pause)
            raise AwayError("block_agent does not answer") from error
        yield outcome_of(request, answer)

    async def _post(self, client: httpx.AsyncClient, request: Due) -> httpx.Response:
        # httpx bounds each step, this bounds all of them together.
        async with asyncio.timeout(HTTP_DEADLINE_SECONDS):
            return await client.post(
                f"{self._url}/agents/{request.action}_agent/{request.agent_id}",
                json={"reason": request.reason},
                headers={**self._headers, "Idempotency-Key": str(request.id)},
            )


def outcome_of(request: Due, answer: httpx.Response) -> Carried:
    """What an answer of block_agent means for the request."""
    status, said = answer.status_code, answer.headers.get("outcome")
    if answer.is_success and said in {Became.DONE, Became.UNCHANGED}:
        return Carried(id=request.id, state=State(said))
    if answer.is_client_error and status not in NOT_AN_OUTCOME:
        with suppress(ValidationError):
            problem = ProblemDetails.model_validate_json(answer.content)
            return Carried(id=request.id, state=State.REFUSED, detail=problem.detail)
    # A proxy's words, say, are no outcome either.
    return _waits(request, f"block_agent answered {status}")


def _waits(request: Due, detail: str) -> Carried:
    pause = pause_after(request.attempts, FIRST_PAUSE_SECONDS)
    return Carried(id=request.id, state=State.WAITING, detail=detail, pause_seconds=pause)


def pause_after(attempts: int, first_seconds: float) -> float:
    """Longer with every attempt."""
    return doubled(first_seconds, attempts, LONGEST_PAUSE_SECONDS)


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
