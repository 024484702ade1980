"""The view of silences: one row for each, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from pydantic import BaseModel

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.model.payments.silence import SILENCE, SilenceBegun, SilenceEnded
from codebase.web.pages import PageSize
from codebase.web.parked import asking_by_id_alone
from codebase.web.personal import Personal
from codebase.web.schemas import example


@dataclass(frozen=True, kw_only=True, slots=True)
class SilenceRow:
    """One silence, as it stands."""

    id: UUID
    begun_at: datetime
    client: str | None
    rule: str | None
    ends_at: datetime
    reason: str
    author: str
    ended_at: datetime | None
    ended_by: str | None


INSERT_BEGUN = """
    INSERT INTO alert_silence (id, begun_at, client, rule, ends_at, reason, author)
    SELECT event.stream_id, event.recorded_at, event.data -> 'matcher' ->> 'client',
           event.data -> 'matcher' ->> 'rule', (event.data ->> 'ends_at')::timestamptz,
           event.data ->> 'reason', event.data ->> 'author'
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data)
"""

END = """
    UPDATE alert_silence SET ended_at = event.recorded_at, ended_by = event.data ->> 'by'
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data)
    WHERE alert_silence.id = event.stream_id
"""


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert those that begin, then end those that end before their time."""
    write(cursor, INSERT_BEGUN, of_type(events, SilenceBegun))
    write(cursor, END, of_type(events, SilenceEnded))


def expected_rows(silence_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[SilenceRow]:
    """The row that a silence's stream comes to, by the model's fold."""
    events = [decode(row, SILENCE) for row in recorded]
    if not events or not isinstance(events[0], SilenceBegun):
        return
    state = SILENCE.fold(events)
    assert state is not None, "it has begun"  # noqa: S101 - an invariant
    begun = state.begun
    yield SilenceRow(
        id=silence_id,
        begun_at=recorded[0].recorded_at,
        client=begun.matcher.client,
        rule=begun.matcher.rule,
        ends_at=begun.ends_at,
        reason=begun.reason,
        author=begun.author,
        ended_at=recorded[-1].recorded_at if state.ended_by else None,
        ended_by=state.ended_by,
    )


SILENCE_ROWS = Projection(
    name="silences",
    aggregates=(SILENCE,),
    tables=("alert_silence",),
    apply=apply,
    expected_rows=expected_rows,
)

CATEGORIES = frozenset({SILENCE.category})
PAGE_ARGUMENTS = ("references", "sizes")

SHOWN = """
    found.id, json_build_object('client', found.client, 'rule', found.rule) AS matcher,
    found.begun_at, found.ends_at, found.reason, found.author, found.ended_at, found.ended_by
"""

PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (reference, size, ordinal)
    LEFT JOIN alert_silence AS boundary ON boundary.id = asked.reference
    LEFT JOIN LATERAL (
        SELECT json_agg(row_to_json(one)) AS items
        FROM (
            SELECT {shown} FROM alert_silence AS found
            WHERE (found.begun_at, found.id) < (
                CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.begun_at END,
                coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            )
            ORDER BY found.begun_at DESC, found.id DESC
            LIMIT asked.size
        ) AS one
    ) AS page ON true
"""

# Those that hold longest first: whichever they are, they are found among those that are over.
HOLDING_ARGUMENTS = ("moments", "sizes")
HOLDING = """
    SELECT asked.ordinal, page.items::text
    FROM unnest(%(moments)b::timestamptz[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (moment, size, ordinal)
    CROSS JOIN LATERAL (
        SELECT json_agg(row_to_json(one)) AS items
        FROM (
            SELECT {shown} FROM alert_silence AS found
            WHERE found.ended_at IS NULL AND found.ends_at > asked.moment
            ORDER BY found.ends_at DESC, found.id DESC
            LIMIT asked.size
        ) AS one
    ) AS page
"""

ONE_ARGUMENTS = ("ids",)
ONE = """
    SELECT asked.ordinal, row_to_json(one)::text
    FROM unnest(%(ids)b::uuid[]) WITH ORDINALITY AS asked (id, ordinal)
    JOIN alert_silence AS found ON found.id = asked.id
    CROSS JOIN LATERAL (SELECT {shown}) AS one
"""
ASKING_FOR_PARKED = asking_by_id_alone()


def _of_silences(query: str) -> str:
    return sql.SQL(query).format(shown=sql.SQL(SHOWN)).as_string()


def pages() -> str:
    """The query for pages."""
    return _of_silences(PAGES)


def holding() -> str:
    """The query for those that hold, so many at most."""
    return _of_silences(HOLDING)


def by_id() -> str:
    """The query for one silence."""
    return _of_silences(ONE)


class MatcherShown(BaseModel):
    """Which alerts: of this client, flagged by this rule, or both."""

    model_config = example(client="shop", rule="card_payments_in_a_minute")

    client: str | None
    rule: str | None


class SilenceShown(BaseModel):
    """A silence; `ended_at` and `ended_by` are null unless it was ended before its time."""

    model_config = example(
        id="4f7d3f0e-95a5-4b51-9b5d-4b7f1f6a6a52",
        matcher={"client": "shop", "rule": "card_payments_in_a_minute"},
        begun_at="2026-11-28T09:30:00.000000+00:00",
        ends_at="2026-11-28T17:00:00+00:00",
        reason="the shop is being tested",
        author="operator",
        ended_at="2026-11-28T12:00:00.000000+00:00",
        ended_by="operator",
    )

    id: UUID
    matcher: MatcherShown
    begun_at: datetime
    ends_at: datetime
    reason: Personal[str]
    author: str
    ended_at: datetime | None
    ended_by: str | None


class SilencePage(BaseModel):
    """Silences, newest first; `last_reference` leads to older ones; null on an empty page."""

    items: list[SilenceShown]
    last_reference: UUID | None
    size: PageSize
