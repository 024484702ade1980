"""Who passes messages on, and how it is told what became of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from codebase.engine.reactions.reaction import Answer, Sent
from codebase.model.payments.alert import Alert

TEXT_MAX = 300
RECIPIENT = "recipient {}:"
"""What a refusal of one recipient begins with."""
ADDRESS = re.compile(r"[^\s<>()\[\]\"',;:]+@[^\s<>()\[\]\"',;:]+")


class Sender(Protocol):
    """A way to people."""

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        """Pass on a message about these alerts, which are some of those of `sent`.

        Returns:
            `refused`: nobody will get it. Otherwise it was taken, and of `data`, `refused` says
            which recipients were refused and why, `again` the numbers of those to be tried again,
            `at` when that was said, and `nobody` that it was taken for none of them so far.

        Raises:
            NotSentError, FailedError, InDoubtError: it is to be tried again.
        """


def without(refused: Iterable[str], numbers: Iterable[int]) -> list[str]:
    """The refusals but for those of these recipients."""
    left_out = tuple(RECIPIENT.format(number) for number in numbers)
    return [text for text in refused if not text.startswith(left_out)]


def without_addresses(text: str) -> str:
    """What a server said, in one line and without anybody's address."""
    kept = "".join(each if each.isprintable() else " " for each in text)
    return ADDRESS.sub("…", kept)[:TEXT_MAX]
