"""Goes through both stores, and has everything looked at.

Nothing is kept in memory but the stream at hand: the log comes stream by stream, and rows and notes
come in the same order. The log is looked at up to the positions that it had at the beginning, and
beside it the budgets of that moment. No snapshot is held for longer than a range of streams takes:
for each, the read model is looked at first, whose checkpoints say up to where it has to agree with
the log, and then the log, which is at least as far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.reading import read_heads
from codebase.engine.projections.projection import Projector
from codebase.engine.reactions.reaction import Reaction
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Aggregate
from codebase.operations.terminal import Progress, no_progress
from codebase.operations.verify import reactions as reactions_check
from codebase.operations.verify.claim_history import ClaimHistory
from codebase.operations.verify.claims import ClaimsNow, read_claims
from codebase.operations.verify.event_ids import EventIds
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.guards import Budgets, GuardCheck, read_budgets
from codebase.operations.verify.notes import NoteCheck
from codebase.operations.verify.positions import (
    check_checkpoints,
    check_positions,
    read_relayed,
)
from codebase.operations.verify.ranges import Range, open_store, read_ranges, read_streams
from codebase.operations.verify.streams import check_rows, check_topics, decode_stream
from codebase.operations.verify.temporary import temporary_file
from codebase.operations.verify.views import ViewCheck, read_reached


def verify(
    settings: Settings,
    aggregates: Sequence[Aggregate[Any, Any, Any]],
    projectors: Sequence[Projector],
    *,
    reactions: Sequence[Reaction] = (),
    say: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> list[str]:
    """Compare the log with itself, with claims and budgets, and with what was projected from it.

    Args:
        settings: needs the readers' addresses of both stores.
        aggregates: whose streams the log may hold.
        projectors: whose tables are in the read-model store.
        reactions: what events cause.
        say: told each difference as it is found, and what was left out.
        progress: shown how far the events of the log have been gone through.

    Returns:
        One sentence per difference; empty when everything is as the log says.

    Raises:
        psycopg.Error: a store cannot be read.
        OperationError: there is no room for the temporary file.
    """
    findings = Findings(say)
    with (
        open_store(settings.required("read_model_url")) as read_model,
        open_store(settings.required("write_model_reader_url")) as log,
        temporary_file() as file,
    ):
        by_category = {aggregate.category: aggregate for aggregate in aggregates}
        history, event_ids = ClaimHistory(file), EventIds(file)
        reached = _read_checkpoints(read_model, projectors, say)
        reacted = reactions_check.read_reached(log, reactions)
        with log.transaction():
            # What is written from now on is none of our business.
            bounds = read_heads(log)
            reached["the relay"] = read_relayed(log)
            budgets = Budgets(read_budgets(log), findings)
        history.copy_claims(read_claims(log))
        for whose, checkpoints in reached.items():
            check_checkpoints(whose, bounds, checkpoints, findings)
        check_positions(log, bounds, findings)
        reactions_check.check_reactions(log, reactions, reacted, bounds, findings)
        guards = GuardCheck(budgets, history, findings)
        streams = _Streams(bounds, by_category, guards, event_ids, findings)
        days = settings.reaction_done_days
        noted: tuple[_Check, ...] = (
            reactions_check.DecidedCheck(log, days, findings),
            reactions_check.CausedCheck(log, reactions, days, findings),
        )
        with progress(sum(bounds.values())) as advance:
            for within in read_ranges(log):
                parts = (streams, noted)
                advance(_check_range((read_model, log), within, projectors, parts, findings))
        _check_kept(read_model, projectors, findings)
        budgets.end()
        history.end(ClaimsNow(log, by_category), findings)
        event_ids.end(findings)
    if findings.suppressed:
        say(f"and {findings.suppressed} more differences")
    return findings.sentences


def _read_checkpoints(
    read_model: Connection[Any], projectors: Sequence[Projector], say: Callable[[str], None]
) -> dict[str, Mapping[int, int]]:
    """How far each projector has come, by name; what they have left out is said."""
    found: dict[str, Mapping[int, int]] = {}
    with read_model.transaction():
        for projector in projectors:
            reached = read_reached(read_model, projector)
            for sentence in reached.excluded.sentences():
                say(f"{projector.name}: {sentence}")
            found[projector.name] = reached.checkpoints
    return found


def _check_kept(
    read_model: Connection[Any], projectors: Sequence[Projector], findings: Findings
) -> None:
    """Compare what was added up of a projector's rows with these, which were compared before."""
    for projector in projectors:
        if projector.check_kept is not None:
            with read_model.transaction():
                for sentence in projector.check_kept(read_model):
                    findings.add(sentence)


class _Check(Protocol):
    """Something that is told stream by stream, in the order of their ids."""

    def stream(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None: ...

    def end(self) -> None: ...


def _check_range(
    stores: tuple[Connection[Any], Connection[Any]],
    within: Range,
    projectors: Sequence[Projector],
    parts: tuple[_Streams, Sequence[_Check]],
    findings: Findings,
) -> int:
    """Compare a range of streams, and return how many of the events up to the bounds it has."""
    count = 0
    read_model, log = stores
    streams, noted = parts
    with read_model.transaction():
        reached = {each.name: read_reached(read_model, each) for each in projectors}
        views = [
            ViewCheck(projection, read_model, within, reached[projector.name], findings)
            for projector in projectors
            for projection in projector.projections
        ]
        # Only now, so that the log's snapshot is the later one.
        with log.transaction():
            checks: list[_Check] = [
                *views,
                NoteCheck(log, within, streams.partitions, findings),
                *noted,
            ]
            for stream_id, recorded in read_streams(log, within):
                count += streams.check(stream_id, recorded)
                for check in checks:
                    check.stream(stream_id, recorded)
            for check in checks:
                check.end()
    return count


class _Streams:
    """Checks each stream by itself, up to the bounds of the log."""

    def __init__(
        self,
        bounds: Mapping[int, int],
        aggregates: Mapping[str, Aggregate[Any, Any, Any]],
        guards: GuardCheck,
        event_ids: EventIds,
        findings: Findings,
    ) -> None:
        self.partitions = len(bounds)
        self._bounds = bounds
        self._aggregates = aggregates
        self._guards = guards
        self._event_ids = event_ids
        self._findings = findings

    def check(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> int:
        """Check what of a stream is within the bounds, and return how many events that is."""
        known = [event for event in recorded if self._is_within(event)]
        if not known:
            return 0
        check_rows(stream_id, known, self.partitions, self._findings)
        self._event_ids.add(known)
        try:
            stream = decode_stream(stream_id, known, self._aggregates)
        except UnknownEventError as error:
            self._findings.add(f"log: stream {stream_id}: {error}")
        else:
            check_topics(stream, self._findings)
            self._guards.stream(stream)
        return len(known)

    def _is_within(self, event: RecordedEvent) -> bool:
        # A partition that the log does not have has no bound, and its events are a finding.
        return event.position <= self._bounds.get(event.partition, event.position)
