"""Targets by HTTP: other services where there is no broker, and whoever is outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
from pydantic_core import to_json

from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    AwayError,
    FailedError,
    InDoubtError,
    NotAllowedError,
    NotSentError,
    Undone,
)

ANSWER_LIMIT_BYTES = 65_536

# They speak of what passes, and nothing was done.
NOT_NOW = frozenset(
    {HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
)
# They speak of what is configured, or of the one thing that is asked for.
NOT_ALLOWED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
EXACT = json.JSONDecoder(parse_float=str)
"""A number with a fraction stays the text that it was."""
REFUSAL_MAX = 500
"""Characters of what a refusal says that are kept."""


# Not frozen, though never changed: as `NewEvent`, one is made for every attempt.
@dataclass(kw_only=True, slots=True)
class Call:
    """A request, but for what every request has.

    Args:
        method: of HTTP.
        path: below the target's address.
        body: as JSON knows it; None: there is none.
        headers: beside `Idempotency-Key` and those of the target.
    """

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpTarget:
    """A service that honours `Idempotency-Key`: the same key has one effect and one answer.

    Args:
        session: of this process.
        url: the service's address.
        call: what was sent -> the request for it.
        inquiry: what was sent -> the request that tells what became of it, answered 404 when
            nothing did; None: to send the same key again tells it as well.
        headers: with every request, such as a token.
        deadline_seconds: for each request, all of it.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        call: Callable[[Sent], Call],
        *,
        inquiry: Callable[[Sent], Call] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_seconds: float = 5.0,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._call = call
        self._inquiry = inquiry
        self._headers = dict(headers or {})
        self.deadline_seconds = deadline_seconds

    async def send(self, sent: Sent) -> Answer:
        """Make the request.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        status, data = await self._request(sent, self._call(sent))
        return answer_of(status, data)

    async def inquire(self, sent: Sent) -> Answer | Undone | None:
        """Ask what became of it, if that can be asked.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        if self._inquiry is None:
            return None
        status, data = await self._request(sent, self._inquiry(sent))
        return Undone() if status == HTTPStatus.NOT_FOUND else what_became(status, data)

    async def _request(self, sent: Sent, call: Call) -> tuple[int, Mapping[str, Any]]:
        headers = {**self._headers, **call.headers, "Idempotency-Key": str(sent.key)}
        body = None
        if call.body is not None:
            # A third of what aiohttp's `json` costs.
            body, headers["Content-Type"] = to_json(call.body), "application/json"
        try:
            async with self._session.request(
                call.method,
                f"{self._url}{call.path}",
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                return answer.status, await _body(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise AwayError("is away") from error
        except aiohttp.InvalidURL as error:
            raise FailedError("its address is none") from error
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
            raise InDoubtError(f"the connection broke: {type(error).__name__}") from error


async def _body(answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """The JSON object that was answered, with the header `Outcome` as `outcome`; else nothing.

    A number with a fraction comes as the text that it was: nothing is rounded.
    """
    text = await answer.content.read(ANSWER_LIMIT_BYTES + 1)
    while len(text) <= ANSWER_LIMIT_BYTES and not answer.content.at_eof():
        text += await answer.content.read(ANSWER_LIMIT_BYTES)
    found: dict[str, Any] = {}
    if len(text) <= ANSWER_LIMIT_BYTES and "json" in answer.content_type:
        try:
            read = EXACT.decode(text.decode("utf-8-sig"))
        except ValueError:
            read = None
        if isinstance(read, dict):
            found = read
    outcome = answer.headers.get("Outcome")
    return {**found, "outcome": outcome} if outcome else found


def what_became(status: int, data: Mapping[str, Any]) -> Answer:
    """What the answer to an inquiry means; one that is refused says nothing of the effect.

    Args:
        status: of HTTP, which is not 404.
        data: the JSON object that came with it.

    Raises:
        NotSentError: it may be asked later.
        FailedError: what became of it was not said.
    """
    if (answer := answer_of(status, data)).refused is not None:
        raise FailedError(f"the inquiry was answered {status}")
    return answer


def answer_of(status: int, data: Mapping[str, Any]) -> Answer:
    """What an answer means.

    Args:
        status: of HTTP.
        data: the JSON object that came with it.

    Raises:
        NotSentError: nothing was done, and may be later.
        FailedError: the service failed, or a proxy did.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer(data=data)
    if status in NOT_ALLOWED:
        raise NotAllowedError(f"answered {status}")
    if status in NOT_NOW:
        raise NotSentError(f"answered {status}")
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_refusal and status != HTTPStatus.REQUEST_TIMEOUT:
        detail = str(data.get("detail", ""))[:REFUSAL_MAX]
        return Answer(refused=f"{status} {detail}".strip(), data=data)
    raise FailedError(f"answered {status}")
