"""What a reaction says, asked without a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from codebase.engine.reactions.reaction import Happened, Reaction, Send

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
A_MOMENT = timedelta.resolution


@dataclass(frozen=True)
class Rang:
    """A bell did."""


BELLS = Reaction(
    name="bells",
    aggregates=(),
    subject=lambda happened: happened.stream_id,
    evolve=lambda state, _happened: (state or 0) + 1,
    react=lambda _happened, state: [Send("porter", "go", {"rings": state})],
    since=SINCE,
)


def rang(at: datetime) -> Happened:
    return Happened(event=Rang(), stream_id=UUID(int=1), version=1, recorded_at=at)


def test_what_was_recorded_before_it_begins_causes_nothing_and_is_remembered() -> None:
    before, since = rang(SINCE - A_MOMENT), rang(SINCE)
    assert BELLS.after(before) == ()
    assert BELLS.after(before, since) == [Send("porter", "go", {"rings": 2})]
    assert replace(BELLS, since=None).after(before) == [Send("porter", "go", {"rings": 1})]


def test_a_beginning_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="reaction bells: since has no time zone"):
        replace(BELLS, since=SINCE.replace(tzinfo=None))
