"""One attempt to have something done, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from codebase.engine.projections.blame import describe
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    FailedError,
    InDoubtError,
    LaterError,
    NotAllowedError,
    NotSentError,
    OursError,
    Target,
    Undone,
)
from codebase.foundation.failpoints import failpoint

Result = TypeVar("Result")


class Ended(Enum):
    """How an attempt ended."""

    ANSWERED = "answered"
    NOT_SENT = "not_sent"
    LATER = "later"
    NOT_ALLOWED = "not_allowed"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


# Not frozen, though never changed: as `NewEvent`, one is made for every attempt.
@dataclass(kw_only=True, slots=True)
class Attempt:
    """How an attempt ended.

    Args:
        ended: how.
        answer: if there is one.
        reason: why there is none.
        was_told: whether the target said first that nothing had been done before: it answers, and
            what has no answer is this one thing.
        is_ours: whether what kept it lies on our side, so that it says nothing of the target.
        stopped_for: set where this process has to end before it does: seconds for which the target
            may still be at it.
    """

    ended: Ended
    answer: Answer | None = None
    reason: str | None = None
    was_told: bool = False
    is_ours: bool = False
    stopped_for: float | None = None

    @property
    def never_began(self) -> bool:
        """Whether this process had not even begun: that is no attempt."""
        return self.is_ours and self.ended is Ended.NOT_SENT


async def attempt(target: Target, sent: Sent) -> Attempt:
    """Have something done, within the target's deadline.

    Args:
        target: who does it.
        sent: what; if it is in doubt, whether it was done is asked first.
    """
    doubt = sent.in_doubt
    answer: Answer | Undone | None = None
    try:
        if sent.in_doubt:
            failpoint("reaction_before_inquiry")
            answer = await _in_time(target, target.inquire(sent))
            failpoint("reaction_after_inquiry")
        if not isinstance(answer, Answer):
            doubt = False
            failpoint("reaction_before_call")
            answer = await _in_time(target, target.send(sent))
            failpoint("reaction_after_call")
    except Exception as error:  # noqa: BLE001 - a target's bug: what it was to do is not forgotten
        return replace(_without_answer(error, doubt=doubt), was_told=isinstance(answer, Undone))
    if answer.refused is not None:
        answer = replace(answer, refused=legible(answer.refused))
    return Attempt(ended=Ended.ANSWERED, answer=answer)


def _without_answer(error: Exception, *, doubt: bool) -> Attempt:
    match error:
        case NotSentError():
            # If it was the inquiry that did not come through, what was in doubt still is.
            ended = Ended.IN_DOUBT if doubt else _not_sent(error)
            return Attempt(ended=ended, reason=legible(error))
        case FailedError():
            return Attempt(ended=Ended.FAILED, reason=legible(error))
        case OursError():
            return Attempt(ended=Ended.IN_DOUBT, reason=legible(error), is_ours=True)
        case InDoubtError() | TimeoutError():
            return Attempt(ended=Ended.IN_DOUBT, reason=legible(error) or "no answer in time")
        case _:
            return Attempt(ended=Ended.FAILED, reason=describe(error))


def legible(said: object) -> str:
    """What a target said, without what the store keeps in no text: a NUL, half of a pair."""
    return str(said).replace("\0", "?").encode("utf-8", "replace").decode()


def _not_sent(error: NotSentError) -> Ended:
    match error:
        case NotAllowedError():
            return Ended.NOT_ALLOWED
        case LaterError():
            return Ended.LATER
        case _:
            return Ended.NOT_SENT


async def _in_time(target: Target, asked: Awaitable[Result]) -> Result:
    async with asyncio.timeout(target.deadline_seconds):
        return await asked
