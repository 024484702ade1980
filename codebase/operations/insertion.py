"""Lines that are put where they belong in a file that people keep, and nothing else is touched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

MARK_OF_ROW = re.compile(r"\||\s+- ")
"""What rows of a table, and items of a list, begin with."""


class NoPlaceError(Exception):
    """A file has no line of the kind that was looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Insertion:
    """Lines that a file of the checkout gets.

    Args:
        file: below the checkout.
        beside: how the line begins that they go next to.
        lines: to insert.
        where: before that line, after it, last in the table that it begins, or sorted into the
            list that it begins.
    """

    file: str
    beside: str
    lines: str
    where: Literal["before", "after", "last", "sorted"] = "after"

    def into(self, text: str) -> str:
        """The file's text with the lines.

        Raises:
            NoPlaceError: it has no such line.
        """
        rows = text.splitlines(keepends=True)
        found = [number for number, row in enumerate(rows) if row.startswith(self.beside)]
        if not found:
            raise NoPlaceError(f"{self.file} has no line that begins with {self.beside!r}")
        at = found[0] + (self.where != "before")
        while at < len(rows) and self._comes_after(rows[at]):
            at += 1
        return "".join([*rows[:at], self.lines, *rows[at:]])

    def _comes_after(self, row: str) -> bool:
        """Whether the lines come after this row of the table or of the list."""
        mark = MARK_OF_ROW.match(self.lines)
        if self.where in {"before", "after"} or mark is None or not row.startswith(mark[0]):
            return False
        return self.where == "last" or row < self.lines
