"""Claims and budgets are what the model's `guards` say of the events, and were respected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from psycopg import Connection

from codebase.engine.log.events import RecordedEvent
from codebase.model.aggregate import Claim, Release, Require, Spend, Vacate
from codebase.operations.verify.claim_history import ClaimHistory, Holding, Required, Vacated
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.streams import DecodedStream, place

READ_BUDGETS = """
    SELECT b.name, coalesce(sum(s.spent), 0), coalesce(sum(s.granted), 0), b.limit_value
    FROM budget AS b LEFT JOIN budget_share AS s USING (name)
    GROUP BY b.name
    ORDER BY b.name
"""

Budget = tuple[str, Decimal, Decimal, Decimal]
"""Name, what all partitions have spent and may spend, and the limit."""


def read_budgets(log: Connection[Any]) -> list[Budget]:
    """Every budget, as the connection's transaction sees it."""
    return log.execute(READ_BUDGETS).fetchall()


class Budgets:
    """What the events have spent, to be compared with what is noted of it.

    Args:
        noted: every budget, as of the log's bounds.
        findings: told what differs.
    """

    def __init__(self, noted: Sequence[Budget], findings: Findings) -> None:
        self._noted = noted
        self._findings = findings
        self._spent: defaultdict[str, Decimal] = defaultdict(Decimal)

    def spend(self, guard: Spend) -> None:
        """One more event has spent something."""
        self._spent[guard.name] += guard.amount

    def end(self) -> None:
        """Compare, now that every event has been gone through."""
        for name, spent, granted, limit_value in self._noted:
            expected = self._spent.pop(name, Decimal(0))
            if spent != expected:
                self._findings.add(f"budget {name}: {spent} is spent, the log says {expected}")
            if expected > limit_value:
                self._findings.add(f"budget {name}: {expected} exceeds its limit {limit_value}")
            if granted > limit_value:
                self._findings.add(
                    f"budget {name}: the shares of it come to {granted}, its limit is {limit_value}"
                )
        for name, expected in self._spent.items():
            self._findings.add(f"budget {name}: is missing, the log says {expected}")


class GuardCheck:
    """Replays the guards of each stream; what spans streams is left to the history and budgets.

    Args:
        budgets: told what is spent.
        history: told what is claimed, required and vacated.
        findings: told what differs.
    """

    def __init__(self, budgets: Budgets, history: ClaimHistory, findings: Findings) -> None:
        self._budgets = budgets
        self._history = history
        self._findings = findings

    def stream(self, stream: DecodedStream) -> None:
        """The next stream."""
        replay = _Replay(stream, self._findings)
        for row, event in stream.events:
            for guard in stream.aggregate.guards(event):
                if isinstance(guard, Spend):
                    self._budgets.spend(guard)
                else:
                    replay.guard(row, guard)
        self._history.add(*replay.outcome())


class _Replay:
    """What one stream holds, and when."""

    def __init__(self, stream: DecodedStream, findings: Findings) -> None:
        self._stream_id = stream.stream_id
        self._findings = findings
        self._held: dict[tuple[str, str], RecordedEvent] = {}
        self._holdings: list[Holding] = []
        self._required: list[Required] = []
        self._vacated: list[tuple[str, RecordedEvent]] = []
        self._last_claim = 0

    def guard(self, row: RecordedEvent, guard: Claim | Release | Require | Vacate) -> None:
        """The next guard, of the event in `row`."""
        match guard:
            case Claim(kind=kind, value=value):
                # A stream may claim again what is its own.
                self._held.setdefault((kind, value), row)
                self._last_claim = row.version
            case Release(kind=kind, value=value):
                self._release(kind, value, row)
            case Require(kind=kind, value=value):
                required = Required(kind, value, str(self._stream_id), row.partition, row.position)
                self._required.append(required)
            case Vacate(kind=kind):
                self._vacated.append((kind, row))

    def _release(self, kind: str, value: str, row: RecordedEvent) -> None:
        since = self._held.pop((kind, value), None)
        if since is None:
            self._findings.add(
                f"log: the event at {place(row)} of stream {self._stream_id} gives back"
                f" a {kind} that it did not hold"
            )
        else:
            self._holdings.append(self._holding(kind, value, since, row))

    def _holding(
        self, kind: str, value: str, since: RecordedEvent, until: RecordedEvent | None
    ) -> Holding:
        return Holding(
            kind=kind,
            value=value,
            stream=str(self._stream_id),
            partition=since.partition,
            since=since.position,
            until=until.position if until else None,
            until_command=until.meta.get("causation_id") if until else None,
            within_a_unit=until is not None
            and until.position - since.position == until.version - since.version,
        )

    def outcome(self) -> tuple[list[Holding], list[Required], list[Vacated]]:
        """Everything that other streams may contradict, now that the stream has ended."""
        held = [self._holding(*claim, since, None) for claim, since in self._held.items()]
        vacated = [
            Vacated(
                kind=kind,
                stream=str(self._stream_id),
                partition=row.partition,
                position=row.position,
                command=row.meta.get("causation_id"),
                # Who claims something again may have opened again what it had closed.
                for_good=row.version >= self._last_claim,
            )
            for kind, row in self._vacated
        ]
        return [*self._holdings, *held], self._required, vacated
