"""The target that has another service of ours carry out a command, whichever way it gets there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote
from uuid import UUID

from codebase.engine.messages.command_message import Became
from codebase.engine.reactions.http_target import Call
from codebase.engine.reactions.posting_target import POSTED
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    AwayError,
    FailedError,
    InDoubtError,
    NotSentError,
    Repeatable,
    Target,
)

OUTCOMES = {Became.DONE, Became.UNCHANGED, POSTED}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceCommand:
    """A command of another service, by message and by HTTP.

    Args:
        key: names the effect, as `idempotence_key` and as `Idempotency-Key`.
        topic: the routing key of its message.
        path: of its POST request; what stands in braces there is taken from `about`.
        about: what it is to be done to; in a message it stands among the details.
        details: the body of the request.
    """

    key: UUID
    topic: str
    path: str
    about: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> tuple[str, bytes]:
        """Routing key and body."""
        body = {**self.about, **self.details, "idempotence_key": str(self.key)}
        return self.topic, json.dumps(body).encode()

    @property
    def call(self) -> Call:
        """The request."""
        about = {name: quote(what, safe="") for name, what in self.about.items()}
        return Call(method="POST", path=self.path.format(**about), body=self.details)


class ServiceTarget(Repeatable):
    """The way to another service; it knows what keeps everything from getting there.

    Args:
        way: the target that the service is reached by.
        command: what was sent -> the command that it stands for.
        name: of the service, where it is spoken to itself; without one, the broker is.
    """

    def __init__(
        self, way: Target, command: Callable[[Sent], ServiceCommand], name: str = ""
    ) -> None:
        self._way = way
        self._command = command
        self._name = name
        self.deadline_seconds = way.deadline_seconds
        self.away: str | None = None
        """What keeps commands from being sent, as far as this process knows, or None."""

    async def send(self, sent: Sent) -> Answer:
        """Send the command.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no outcome.
        """
        try:
            answer = await self._way.send(replace(sent, key=self._command(sent).key))
        except (NotSentError, FailedError) as error:
            said = self._said(str(error))
            self.away = said if isinstance(error, AwayError) else None
            raise type(error)(said) from error
        except (InDoubtError, asyncio.CancelledError):
            self.away = f"{self._name or 'the broker'} does not answer"
            raise
        self.away = None
        return self._outcome(answer)

    def _outcome(self, answer: Answer) -> Answer:
        """The answer, if it is one of the service's: a proxy's words, say, are no outcome.

        Raises:
            FailedError: it is none.
        """
        if answer.refused is None:
            if answer.data.get("outcome") not in OUTCOMES:
                raise FailedError(self._said("answered without an outcome"))
        elif not answer.data.keys() >= {"type", "detail"}:
            raise FailedError(self._said(f"answered {answer.refused.partition(' ')[0]}"))
        return answer

    def _said(self, what: str) -> str:
        return f"{self._name} {what}".lstrip()
