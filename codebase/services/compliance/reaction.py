"""What a request causes: its command is sent until there is an answer, for each agent in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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


def _send(request: Mapping[str, Any], times: int = 0) -> Sequence[Intent]:
    return [Send(BLOCK_AGENT, request["action"], {**request, "times": times})]


def _noted(answer: Mapping[str, Any]) -> Sequence[Intent]:
    """Who has an answer is not sent again while that is on its way to the log."""
    return [Forget(AGAIN), Send(CASE, NOTE_ANSWER, answer)]


@dataclass(frozen=True, slots=True)
class Rules:
    """What depends on how long an answer is waited for.

    Args:
        reply_wait_seconds: until a command is sent again; longer every time.
    """

    reply_wait_seconds: float

    def react(self, happened: Happened, requests: Open) -> Sequence[Intent]:
        """Only when one has its answer is it certain that it does not come again, after the next.

        Whoever is behind one that somebody had left out has it sent again.
        """
        match happened.event:
            case RequestMade() | RequestTakenOver(outcome=None) if len(requests) == 1:
                return _send(requests[0])
            case RequestMade() | RequestTakenOver(outcome=None):
                return [self._again(requests[0], happened.recorded_at, 0)]
            case RequestAnswered():
                return [Forget(AGAIN), *(_send(requests[0]) if requests else ())]
            case _:
                return ()

    def follow(self, sent: Sent, answer: Answer) -> Sequence[Intent]:
        """What is noted in the case of what a target says, and when the command goes out again."""
        if sent.send.target != BLOCK_AGENT:
            return ()
        data, said = sent.send.data, answer.data.get("outcome")
        noted = {"request_id": data["request_id"]}
        if answer.refused is not None:
            detail = answer.data.get("detail", answer.refused)
            return _noted({**noted, "outcome": "refused", "detail": detail})
        if said != POSTED:
            return _noted({**noted, "outcome": said})
        again = self._again(data, datetime.fromisoformat(answer.data["at"]), data["times"])
        return [again] if data["times"] else [Send(CASE, NOTE_SENT, noted), again]

    def send_again(self, reminder: Reminder, requests: Open) -> Sequence[Intent]:
        """The same command, if there is no answer yet: a repeat is answered as the first was.

        While it, or what follows from it, is still to be done there is no other: an operator who
        does without one would not know of the next, which blocks the agent all the same.
        """
        data = reminder.data
        if not requests or requests[0]["request_id"] != data["request_id"]:
            return ()
        if reminder.is_busy:
            return [self._again(requests[0], reminder.due_at, data["times"])]
        return _send(requests[0], times=data["times"])

    def _again(self, request: Mapping[str, Any], since: datetime, times: int) -> Remind:
        pause = doubled(self.reply_wait_seconds, times, LONGEST_PAUSE_SECONDS)
        about = {"request_id": request["request_id"], "times": times + 1}
        return Remind(AGAIN, since + timedelta(seconds=pause), about)


def compliance(reply_wait_seconds: float) -> Reaction:
    """The reaction; it is the same one however long it waits."""
    rules = Rules(reply_wait_seconds)
    return Reaction(
        name="compliance",
        aggregates=(COMPLIANCE_CASE,),
        subject=lambda happened: happened.event.agent_id,
        evolve=remember_open,
        react=rules.react,
        remind=rules.send_again,
        outcome=rules.follow,
        takes_refusals=True,
    )
