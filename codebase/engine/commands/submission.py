"""A command on its way to its stream, and what it led to."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from codebase.engine.commands.fingerprint import Content
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.random_bytes import random_bytes
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate

NOTHING_TO_COMPARE = Content(b"")


@dataclass(frozen=True, slots=True)
class Given:
    """A stream that a command's rules need to know, though the command does not write to it.

    What must not change meanwhile is secured by a guard, such as `Require`.
    """

    aggregate: Aggregate[Any, Any, Any]
    stream_id: UUID


@dataclass(frozen=True, slots=True)
class Along:
    """The streams that take part in a command: all those that hold a claim of `kind`.

    Each of them decides `command` by the rules of `aggregate`, if the first stream decided to do
    anything. All of it is written, or nothing. `Vacate(kind)` makes sure that nobody is left out.
    """

    kind: str
    aggregate: Aggregate[Any, Any, Any]
    command: Any


# The classes here are not frozen, though never changed: a frozen dataclass takes four times as long
# to make, and several are made for every command.
@dataclass(kw_only=True, slots=True)
class Submission:
    """A command on its way to its stream.

    Args:
        aggregate: whose rules decide.
        stream_id: the stream that the command may write to.
        command: as `aggregate.decide` takes it; with `given`, a function from that stream's state
            (None before its first event) to it.
        idempotence_key: None when the command may take effect each time it is sent.
        content: what the client asked for, to tell a repeat from a reused key.
        actor: the authenticated client; the key is its own.
        command_id: of this attempt; the events of one command share it as `causation_id`.
        traceparent: W3C trace context, if the caller sent one.
        creates: the stream should not exist yet, so that it is not read before it is written. Its
            id is the `creation_stream_id` of the key, if there is one.
        given: another stream whose state the rules need.
        along: further streams that take part.
    """

    aggregate: Aggregate[Any, Any, Any]
    stream_id: UUID
    command: Any
    idempotence_key: str | None
    content: Content
    actor: Actor
    command_id: str
    traceparent: str | None = None
    creates: bool = False
    given: Given | None = None
    along: Along | None = None

    @classmethod
    def without_key(
        cls,
        aggregate: Aggregate[Any, Any, Any],
        stream_id: UUID,
        command: Any,  # noqa: ANN401 - as `aggregate.decide` takes it
        actor: Actor,
    ) -> Submission:
        """A command that may come again and again, because its rules know what is done already."""
        return cls(
            aggregate=aggregate,
            stream_id=stream_id,
            command=command,
            idempotence_key=None,
            content=NOTHING_TO_COMPARE,
            actor=actor,
            command_id=random_bytes(16).hex(),
        )

    def repeats(self, other: Submission) -> bool:
        """Whether this is the same command as `other`, which is for the same stream, once more."""
        return self is other or (
            self.idempotence_key is not None
            and self.idempotence_key == other.idempotence_key
            and self.actor.name == other.actor.name
            and self.creates == other.creates
            and self.content.text == other.content.text
        )


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a command led to: the state as of the version that it produced, now or long ago.

    Args:
        state: of the stream; None when there is nothing in it.
        stream_id: the command's stream.
        version: of the stream, 0 when there is nothing in it.
        positions: partition -> the position to have seen everything that the command did. For a
            repeat, of its own stream only, not of those that went along.
        recorded_at: the time of that version, in UTC; None when there is nothing in the stream.
        replayed: whether this answers a repeat.
        changed: whether the command had anything to do.
    """

    state: Any
    stream_id: UUID
    version: int
    positions: Mapping[int, int]
    recorded_at: datetime | None
    replayed: bool
    changed: bool


@dataclass(slots=True, eq=False)
class Pending:
    """A submission, and whoever waits for its outcome."""

    submission: Submission
    outcome: Future[Outcome]
    attempts: int = 0
    """How often it was decided without coming to an end."""

    def refuse(self, error: Exception) -> None:
        """Answer with an error, unless the caller has stopped waiting."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def expire(self) -> None:
        """The deadline has passed; what becomes of the command is uncertain to its sender."""
        self.refuse(ServiceUnavailable("write_model", "no answer in time"))

    def answer(self, outcome: Outcome) -> None:
        """Answer with the outcome, unless the caller has stopped waiting."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)
