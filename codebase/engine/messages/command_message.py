"""A command as it comes by message, and what its sender is told became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel

from codebase.engine.commands.fingerprint import IDEMPOTENCE_KEY, Content
from codebase.engine.commands.submission import Submission
from codebase.foundation.errors import InvalidInputError
from codebase.foundation.validation import validate
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate

SENDER = Actor("commands", is_admin=True)
"""Whoever may publish to the exchange may command; the broker's own permissions say who that is."""

Body = TypeVar("Body", bound=BaseModel)


class MalformedError(Exception):
    """A message is no command of ours; the text says why, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class CommandMessage:
    """A command as it came by message.

    `text` is its body; `message_id` is what the sender called it, if anything.
    """

    text: bytes
    message_id: str | None

    def read(self, kind: type[Body]) -> Body:
        """The body as `kind` describes it.

        Raises:
            MalformedError: naming each field.
        """
        try:
            return validate(kind, self.text)
        except InvalidInputError as error:
            raise MalformedError(str(error)) from None

    def submission(
        self,
        name: str,
        aggregate: Aggregate[Any, Any, Any],
        stream_id: UUID,
        command: Any,  # noqa: ANN401 - as `aggregate.decide` takes it
        *,
        key: str | None,
        body: BaseModel,
        path: Mapping[str, Any],
    ) -> Submission:
        """What the command bus gets.

        Args:
            name: of the command.
            aggregate: whose rules decide.
            stream_id: the stream that the command may write to.
            command: as `aggregate.decide` takes it.
            key: the idempotence key in the body; the message's id stands in for it.
            body: with the details; what a message and a request have in common.
            path: what it is to be done to, as in a request's path.
        """
        if key is None and self.message_id and IDEMPOTENCE_KEY.fullmatch(self.message_id):
            key = self.message_id
        return Submission(
            aggregate=aggregate,
            stream_id=stream_id,
            command=command,
            idempotence_key=key,
            content=Content.of(name, body, path),
            actor=SENDER,
            command_id=uuid4().hex,
        )


Reader = Callable[[CommandMessage], Submission]
"""Makes a submission of a message, or raises MalformedError."""


class Became(StrEnum):
    """What became of a command."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class Reply(BaseModel):
    """What became of a command; `detail` says why it was refused."""

    outcome: Became
    detail: str | None = None
