"""Which events can be written in the way that is made for creations."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import uuid4

import pytest

from codebase.engine.log.creations import alike
from codebase.engine.log.events import NewEvent
from codebase.model.aggregate import Claim, Guard, Spend


def event(
    unit: int,
    *guards: Guard,
    version: int = 1,
    partition: int = 0,
    category: str = "order",
    type: str = "Placed",  # noqa: A002 - the column's name
) -> NewEvent:
    return NewEvent(
        unit=unit,
        partition=partition,
        stream_id=uuid4(),
        category=category,
        version=version,
        type=type,
        idempotence_key=None,
        data="{}",
        meta="{}",
        guards=guards,
    )


SPEND = Spend("book", Decimal("0.5"))


def test_what_they_spend_is_summed() -> None:
    found = alike([event(0, SPEND), event(1, SPEND, SPEND), event(2)])
    assert found
    assert (found.budget, found.amounts) == ("book", {0: Decimal("1.5")})


def test_they_may_spend_nothing() -> None:
    found = alike([event(0), event(1)])
    assert found
    assert (found.budget, found.amounts) == (None, {0: 0})


def test_they_may_be_of_several_partitions_and_are_taken_apart_in_order() -> None:
    events = [event(0, SPEND, partition=2), event(1, SPEND), event(2, SPEND, SPEND, partition=2)]
    found = alike(events)
    assert found
    assert list(found.events.items()) == [(0, [events[1]]), (2, [events[0], events[2]])]
    assert found.amounts == {0: Decimal("0.5"), 2: Decimal("1.5")}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([event(0), event(0)], id="two events of one unit"),
        pytest.param([event(0), event(1, version=2)], id="a later version"),
        pytest.param([event(0), event(1, category="cart")], id="another category"),
        pytest.param([event(0), event(1, type="Changed")], id="another type"),
        pytest.param([event(0, Claim("email", "x"))], id="a claim"),
        pytest.param([event(0, SPEND, Claim("email", "x"))], id="a claim beside what is spent"),
        pytest.param([event(0, SPEND), event(1, Spend("till", Decimal(1)))], id="two budgets"),
        pytest.param([event(0), event(1, SPEND)], id="a budget that the first does not have"),
    ],
)
def test_what_is_anything_else_is_not_alike(events: Sequence[NewEvent]) -> None:
    assert alike(events) is None
