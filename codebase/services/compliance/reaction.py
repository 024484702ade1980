"""What a request causes: its command is sent until there is an answer, for each agent in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from codebase.engine.reactions.posting_target import POSTED
from codebase.engine.reactions.reaction import (
    Answer,
    Forget,
    Happened,
    Intent,
    Reaction,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.foundation.backoff import doubled
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    RequestAnswered,
    RequestMade,
    RequestTakenOver,
)

# Stored, like the names of actions and of the reaction: they never change.
BLOCK_AGENT, CASE = "block_agent", "case"
NOTE_SENT, NOTE_ANSWER = "note sent", "note answer"
AGAIN = "send again"

LONGEST_PAUSE_SECONDS = 300.0

Open = Sequence[Mapping[str, Any]]
"""The requests about an agent that have no answer yet, in order."""


def agent_of(happened: Happened) -> UUID:
    """Whom an event is about."""
    agent_id: UUID = happened.event.agent_id
    return agent_id


def remember_open(before: Open | None, happened: Happened) -> Open:
    """What is open after one more event."""
    event, known = happened.event, before or []
    match event:
        case RequestMade() | RequestTakenOver(outcome=None):
            return [
                *known,
                {
                    "request_id": str(event.request_id),
                    "reason": event.reason,
                    "action": event.action.value,
                },
            ]
        case RequestAnswered():
            return [each for each in known if each["request_id"] != str(event.request_id)]
        case _:
            return known


def react(happened: Happened, requests: Open) -> Sequence[Intent]:
    """Only when the one before has its answer is it certain that it does not come again, later."""
    match happened.event:
        case RequestMade() | RequestTakenOver(outcome=None):
            return _send(requests[0]) if len(requests) == 1 else ()
        case RequestAnswered():
            return [Forget(AGAIN), *(_send(requests[0]) if requests else ())]
        case _:
            return ()


def send_again(reminder: Reminder, requests: Open) -> Sequence[Intent]:
    """The same command, if there is no answer yet: a repeat is answered as the first was."""
    if not requests or requests[0]["request_id"] != reminder.data["request_id"]:
        return ()
    return _send(requests[0], times=reminder.data["times"])


def _send(request: Mapping[str, Any], times: int = 0) -> Sequence[Intent]:
    return [Send(BLOCK_AGENT, request["action"], {**request, "times": times})]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What follows from what a target says.

    Args:
        reply_wait_seconds: until what was posted is sent again; longer every time.
    """

    reply_wait_seconds: float

    def follow(self, sent: Sent, answer: Answer) -> Sequence[Intent]:
        """What is noted in the case, and when the command is to be sent again."""
        if sent.send.target != BLOCK_AGENT:
            return ()
        data, said = sent.send.data, answer.data.get("outcome")
        noted = {"request_id": data["request_id"]}
        if answer.refused is not None:
            refusal = {"outcome": "refused", "detail": answer.data.get("detail")}
            return [Send(CASE, NOTE_ANSWER, {**noted, **refusal})]
        if said != POSTED:
            return [Send(CASE, NOTE_ANSWER, {**noted, "outcome": said})]
        pause = doubled(self.reply_wait_seconds, data["times"], LONGEST_PAUSE_SECONDS)
        due_at = datetime.fromisoformat(answer.data["at"]) + timedelta(seconds=pause)
        again = {"request_id": data["request_id"], "times": data["times"] + 1}
        first = [] if data["times"] else [Send(CASE, NOTE_SENT, noted)]
        return [*first, Remind(AGAIN, due_at, again)]


def compliance(reply_wait_seconds: float) -> Reaction:
    """The reaction; it is the same one however long it waits."""
    return Reaction(
        name="compliance",
        aggregates=(COMPLIANCE_CASE,),
        subject=agent_of,
        evolve=remember_open,
        react=react,
        remind=send_again,
        outcome=Outcomes(reply_wait_seconds).follow,
        takes_refusals=True,
    )
