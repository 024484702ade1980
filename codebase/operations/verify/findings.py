"""What was found to differ."""

from __future__ import annotations

from collections.abc import Callable

REPORTED_DIFFERENCES = 1_000
"""No more are collected: whoever has a thousand differences needs a rebuild, not a longer list."""


class Findings:
    """The differences found so far, each told at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.sentences: list[str] = []
        self.suppressed = 0

    def add(self, sentence: str) -> None:
        """Remember and tell a difference, up to a limit."""
        if len(self.sentences) < REPORTED_DIFFERENCES:
            self.sentences.append(sentence)
            self._say(sentence)
        else:
            self.suppressed += 1
