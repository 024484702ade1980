"""What a function may make of an event while a log is copied, and what it may not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from codebase.engine.log.codec import encode
from codebase.engine.log.events import RecordedEvent
from codebase.model.accounts.account import ACCOUNT, AccountOpened, Region
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.log_copy.rows import Row
from codebase.operations.log_copy.through import Through, load_rewrite
from codebase.registry import SYSTEM

OPENED = AccountOpened(
    account_id=UUID(int=5),
    client="alice",
    name="Blue",
    email="a@blue.example",
    region=Region.EMEA,
    vip=False,
)
ROW = Row(
    partition=1,
    position=7,
    stream_id=UUID(int=5),
    category="account",
    version=1,
    type="AccountOpened",
    idempotence_key="key",
    data=encode(OPENED),
    meta=json.dumps({"event_id": "an id", "topic": ACCOUNT.topic(OPENED)}),
    recorded_at=datetime(2026, 5, 4, tzinfo=UTC),
)


def through(rewrite: Any, row: Row = ROW) -> Row:  # noqa: ANN401 - some are of no use
    return Through(rewrite, SYSTEM.aggregates).row(row)


def renamed(event: RecordedEvent) -> RecordedEvent:
    return replace(event, data={**event.data, "name": "Grün"})


def in_place(event: RecordedEvent) -> RecordedEvent:
    event.data["email"] = "b@blue.example"  # type: ignore[index] # what a careless one does
    return event


def breaking(event: RecordedEvent) -> RecordedEvent:
    raise ZeroDivisionError(event.type)


def test_what_is_not_rewritten_stays_the_text_that_it_was() -> None:
    assert through(lambda event: event) is ROW
    assert through(lambda event: replace(event, data=dict(event.data))) is ROW


def test_data_and_meta_may_be_others() -> None:
    new = through(renamed)
    assert json.loads(new.data)["name"] == "Grün"
    assert new._replace(data=ROW.data, meta=ROW.meta) == ROW


def test_an_event_of_old_becomes_one_that_this_release_knows() -> None:
    old = ROW._replace(type="AccountMade", data='{"e_mail": "a@blue.example"}')
    new = through(
        lambda event: replace(event, type=ROW.type, data=json.loads(ROW.data)),
        old,
    )
    assert (new.type, json.loads(new.data)) == (ROW.type, json.loads(ROW.data))


@pytest.mark.parametrize(
    ("rewrite", "sentence"),
    [
        (lambda _event: None, "would become NoneType"),
        (lambda event: replace(event, partition=0), "would change its partition"),
        (lambda event: replace(event, position=8), "would change its position"),
        (lambda event: replace(event, stream_id=UUID(int=1)), "would change its stream_id"),
        (lambda event: replace(event, version=2), "would change its version"),
        (lambda event: replace(event, idempotence_key="k"), "would change its idempotence_key"),
        (lambda event: replace(event, recorded_at=datetime.now(UTC)), "change its recorded_at"),
        (lambda event: replace(event, meta={}), "would change its event_id"),
        (lambda event: replace(event, meta={**event.meta, "topic": "t"}), "have the topic t, the"),
        (lambda event: replace(event, meta={**event.meta, "more": {1}}), "would be no JSON"),
        (lambda event: replace(event, meta={**event.meta, "a": float("nan")}), "would be no JSON"),
        (lambda event: replace(event, type="AccountLost"), "be unreadable: no event AccountLost"),
        (lambda event: replace(event, category="lost"), "be unreadable: no event AccountOpened in"),
        (lambda event: replace(event, data={}), "would be unreadable: AccountOpened at"),
        (in_place, "would claim or spend something else"),
        (breaking, "the function raises ZeroDivisionError"),
    ],
)
def test_what_would_be_another_event_is_told_with_its_position(
    rewrite: Any,  # noqa: ANN401
    sentence: str,
) -> None:
    with pytest.raises(CopyError) as refused:
        through(rewrite)
    assert str(refused.value).startswith("the event at 1:7")
    assert sentence in str(refused.value)


def test_a_function_is_found_by_its_name() -> None:
    assert load_rewrite(f"{__name__}:renamed").__name__ == "renamed"
