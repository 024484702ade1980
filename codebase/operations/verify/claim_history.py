"""Who held which claim, and when: what streams say of each other, in the order of the log.

A stream's requirement is about a claim that another stream has made, anywhere in the log. So that
memory does not grow with the log, all of it goes to a temporary file of SQLite, which sorts and
joins on disk: 100 to 200 bytes for each claim and each requirement.

What came first is known within a partition only. Of streams in different partitions nothing is said
but what holds at the end of the log: times do not tell, because an event has the time at which its
append began, and that may have waited for another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from codebase.operations.verify.findings import Findings

CREATE_TABLES = (
    "CREATE TABLE claim (kind TEXT, value TEXT, stream TEXT)",
    """
    CREATE TABLE holding (
        kind TEXT, value TEXT, stream TEXT, partition INTEGER,
        since INTEGER, until INTEGER, until_command TEXT, within_a_unit INTEGER
    )
    """,
    """
    CREATE TABLE required (
        kind TEXT, value TEXT, stream TEXT, partition INTEGER, position INTEGER
    )
    """,
    """
    CREATE TABLE vacated (
        kind TEXT, stream TEXT, partition INTEGER, position INTEGER, command TEXT, for_good INTEGER
    )
    """,
)
SUSPECTS = 500
"""Looked at again together."""

CREATE_INDEX = "CREATE INDEX holding_of ON holding (kind, value)"

INSERT_CLAIM = "INSERT INTO claim VALUES (?, ?, ?)"
INSERT_HOLDING = "INSERT INTO holding VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_REQUIRED = "INSERT INTO required VALUES (?, ?, ?, ?, ?)"
INSERT_VACATED = "INSERT INTO vacated VALUES (?, ?, ?, ?, ?, ?)"

FIND_LACKING = """
    SELECT kind, value, stream FROM holding WHERE until IS NULL
    EXCEPT
    SELECT kind, value, stream FROM claim
"""

FIND_UNCLAIMED = """
    SELECT kind, value, stream FROM claim
    EXCEPT
    SELECT kind, value, stream FROM holding WHERE until IS NULL
"""

# What one append claims and releases again never stood in the way of anybody.
FIND_HELD_TWICE = """
    SELECT partition, since, stream, kind, earlier FROM (
        SELECT partition, since, stream, kind,
               lag(stream) OVER neighbours AS earlier, lag(until) OVER neighbours AS until,
               row_number() OVER neighbours AS nth
        FROM holding
        WHERE NOT within_a_unit
        WINDOW neighbours AS (PARTITION BY kind, value, partition ORDER BY since)
    )
    WHERE nth > 1 AND (until IS NULL OR until > since)
    ORDER BY partition, since
"""

# In whatever other partition somebody held it, it may have been at that time.
FIND_NOT_HELD = """
    SELECT partition, position, stream, kind FROM required
    WHERE NOT EXISTS (
        SELECT 1 FROM holding
        WHERE holding.kind = required.kind AND holding.value = required.value
          AND (holding.partition <> required.partition
               OR (holding.since < required.position
                   AND (holding.until IS NULL OR holding.until > required.position)))
    )
    ORDER BY partition, position
"""

# The command that vacates a kind may write what it releases after what it vacates.
FIND_NOT_VACATED = """
    SELECT vacated.partition, vacated.position, vacated.stream, vacated.kind, holding.stream
    FROM vacated JOIN holding ON holding.kind = vacated.kind
    WHERE (vacated.for_good AND holding.until IS NULL)
       OR (holding.partition = vacated.partition AND holding.since < vacated.position
           AND (holding.until IS NULL
                OR (holding.until > vacated.position
                    AND holding.until_command IS NOT vacated.command)))
    ORDER BY vacated.partition, vacated.position, holding.stream
"""


class Held(NamedTuple):
    """A stream holds a value, at some moment."""

    kind: str
    value: str
    stream: str


class ClaimsNow(Protocol):
    """Tells what is so at one later moment, see claims.py."""

    def of(self, suspects: Sequence[Held]) -> tuple[set[Held], set[Held]]:
        """What is held by the log, and by the table of claims."""
        ...


class Holding(NamedTuple):
    """A stream holds a value from the position `since` on, before `until`, or until now.

    `until_command` is the command that gave it back; `within_a_unit` says that one append may have
    taken it and given it back.
    """

    kind: str
    value: str
    stream: str
    partition: int
    since: int
    until: int | None
    until_command: str | None
    within_a_unit: bool


class Required(NamedTuple):
    """At this position some stream has to hold the value."""

    kind: str
    value: str
    stream: str
    partition: int
    position: int


class Vacated(NamedTuple):
    """From this position on, which `command` wrote, nobody holds a value of the kind."""

    kind: str
    stream: str
    partition: int
    position: int
    command: str | None
    for_good: bool


class ClaimHistory:
    """Collects what streams say of claims, and finds out where they contradict each other."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        for statement in CREATE_TABLES:
            file.execute(statement)

    def copy_claims(self, claims: Iterable[Held]) -> None:
        """Take over the claims that stand, as of the log's bounds or a little later."""
        self._file.executemany(INSERT_CLAIM, claims)

    def add(
        self, holdings: Sequence[Holding], required: Sequence[Required], vacated: Sequence[Vacated]
    ) -> None:
        """What one stream has to say."""
        for statement, rows in (
            (INSERT_HOLDING, holdings),
            (INSERT_REQUIRED, required),
            (INSERT_VACATED, vacated),
        ):
            if rows:
                self._file.executemany(statement, rows)

    def end(self, now: ClaimsNow, findings: Findings) -> None:
        """Compare, now that every stream has been gone through.

        Args:
            now: looks again at what seems to differ.
            findings: told what differs.
        """
        self._file.execute(CREATE_INDEX)
        for suspects in self._suspects(FIND_LACKING):
            claimed, standing = now.of(suspects)
            for one in suspects:
                if one in claimed - standing:
                    findings.add(f"claim: stream {one.stream} lacks its {one.kind}")
        for suspects in self._suspects(FIND_UNCLAIMED):
            claimed, standing = now.of(suspects)
            for one in suspects:
                if one in standing - claimed:
                    findings.add(
                        f"claim: stream {one.stream} holds a {one.kind} that it never claimed"
                    )
        self._find_held_twice(findings)
        self._find_not_held(findings)
        self._find_not_vacated(findings)

    def _suspects(self, query: str) -> Iterator[list[Held]]:
        found = self._file.execute(query)
        while suspects := [Held(*row) for row in found.fetchmany(SUSPECTS)]:
            yield suspects

    def _find_held_twice(self, findings: Findings) -> None:
        for partition, position, stream, kind, other in self._file.execute(FIND_HELD_TWICE):
            findings.add(
                f"log: the event at {partition}:{position} of stream {stream} claims a {kind}"
                f" that stream {other} held"
            )

    def _find_not_held(self, findings: Findings) -> None:
        for partition, position, stream, kind in self._file.execute(FIND_NOT_HELD):
            findings.add(
                f"log: the event at {partition}:{position} of stream {stream} requires a {kind}"
                " that nobody held"
            )

    def _find_not_vacated(self, findings: Findings) -> None:
        for partition, position, stream, kind, other in self._file.execute(FIND_NOT_VACATED):
            findings.add(
                f"log: the event at {partition}:{position} of stream {stream} left nobody with"
                f" a claim of {kind}, and stream {other} has one"
            )
