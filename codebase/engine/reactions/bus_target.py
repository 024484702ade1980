"""The target that decides commands in this process, where it may write to the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Outcome, Submission
from codebase.engine.messages.command_message import Became
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import InDoubtError, Repeatable
from codebase.foundation.errors import ServiceUnavailable
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate
from codebase.model.refusals import Rejected

ACTORS = "reaction "
"""What names of actors begin with that are reactions."""


def actor_name(reaction: str) -> str:
    """Who a reaction is where it commands, as the events will say."""
    return f"{ACTORS}{reaction}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandOn:
    """A command, and the stream that it is for.

    Args:
        aggregate: whose rules decide.
        stream_id: the stream.
        command: as `aggregate.decide` takes it.
        part: tells it from the others where one intent comes to several commands.
    """

    aggregate: Aggregate[Any, Any, Any]
    stream_id: UUID
    command: Any
    part: str = ""


def command_key(intent: UUID, part: str) -> str:
    """The idempotence key of a command that an intent comes to."""
    return f"{intent}:{part}" if part else str(intent)


def intent_of(key: str) -> tuple[UUID, str]:
    """The intent that came to a command, by the command's idempotence key, and which part it is."""
    intent, _, part = key.partition(":")
    return UUID(intent), part


def nobody_listens(_outcome: Outcome) -> None:
    """For whoever need not know at once."""


class BusTarget(Repeatable):
    """Commands by the bus. Each key is decided once, so that what is in doubt is sent again.

    Args:
        bus: of this process.
        reaction: who commands, as the events will say; it never changes, for keys are its own.
        command: what was sent -> the command that it stands for.
        deadline_seconds: longer than the bus takes to give up by itself.
        heard: is told of every outcome, for whoever waits for it in this process.
    """

    def __init__(
        self,
        bus: CommandBus,
        reaction: str,
        command: Callable[[Sent], CommandOn],
        *,
        deadline_seconds: float = 10.0,
        heard: Callable[[Outcome], None] = nobody_listens,
    ) -> None:
        self._bus = bus
        self._actor = Actor(actor_name(reaction), is_admin=True)
        self._command = command
        self._heard = heard
        self.deadline_seconds = deadline_seconds

    async def send(self, sent: Sent) -> Answer:
        """Have it decided; `outcome` of the answer says whether there was anything to do.

        Raises:
            InDoubtError: the log did not answer.
        """
        try:
            outcome = await self._bus.execute(self._submission(sent))
        except Rejected as error:
            return Answer(refused=str(error))
        except ServiceUnavailable as error:
            raise InDoubtError(str(error)) from error
        self._heard(outcome)
        became = Became.DONE if outcome.changed else Became.UNCHANGED
        return Answer(data={"outcome": became.value, "version": outcome.version})

    def _submission(self, sent: Sent) -> Submission:
        asked = self._command(sent)
        return Submission(
            aggregate=asked.aggregate,
            stream_id=asked.stream_id,
            command=asked.command,
            idempotence_key=command_key(sent.key, asked.part),
            content=Content.of(
                sent.send.action, dict(sent.send.data), {"stream_id": asked.stream_id}
            ),
            actor=self._actor,
            command_id=uuid4().hex,
        )
