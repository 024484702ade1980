"""Whom things are sent to, and how it is told what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from codebase.engine.reactions.reaction import Answer, Sent


class NotSentError(Exception):
    """It was not done, that is sure: the target is away, or had no time for it. To be tried again.

    The text says what is wrong, for everybody's eyes.
    """


class AwayError(NotSentError):
    """There is no way to the target, whatever is sent; the text says what is away."""


class LaterError(NotSentError):
    """It was not done, and may be later: the target answers, and is not to be left alone for it."""


class NotAllowedError(NotSentError):
    """It was not done: we are not let in, by what is configured or by what this one is about.

    Where the target does what it is asked for otherwise, it is parked as what fails is.
    """


class FailedError(Exception):
    """The target is there and says that it failed; whether anything was done is not known."""


class InDoubtError(Exception):
    """There was no answer: it may have been done."""


class OursError(InDoubtError):
    """It may have been done, and what keeps us from knowing lies on our side.

    It says nothing of the target, which is not left alone for it.
    """


@dataclass(frozen=True, slots=True)
class Undone:
    """The target's word that nothing was done: it answers, whatever becomes of the next attempt."""


class Target(Protocol):
    """Somebody who does things, each key once.

    Whoever cannot promise that needs an `inquire` that tells what has become of a key.
    """

    @property
    def deadline_seconds(self) -> float:
        """How long an attempt may take, and how long an inquiry; what takes longer is in doubt."""

    async def send(self, sent: Sent) -> Answer:
        """Have it done.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """

    async def inquire(self, sent: Sent) -> Answer | Undone | None:
        """What has become of an earlier attempt.

        Returns:
            None: nobody was asked, as the target does the same key once. After this, and after
                `Undone`, it is sent again.

        Raises:
            NotSentError, FailedError, InDoubtError: that could not be found out.
        """


class Repeatable:
    """A target that does the same key once, or that nobody could ask: it is sent again."""

    async def inquire(self, sent: Sent) -> None:
        """Nothing to ask: a repeat is answered as it was answered before."""
