"""What a projector need not read: types of events that nobody in it has a use for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codebase.engine.projections.projection import Projection, Projector
from codebase.engine.reactions.reaction import Reaction
from codebase.engine.reactions.reading import projector_of
from codebase.model.aggregate import Aggregate
from codebase.services.transact.driver import TRANSACTION_AGES, TRANSACTIONS
from tests.integration.jobs import JOB, JOBS, JobAsked, JobEnded


def rows(name: str, *passes_over: str) -> Projection:
    return Projection(
        name=name,
        aggregates=(JOB,),
        tables=(name,),
        apply=lambda _cursor, _events: None,
        expected_rows=lambda _stream_id, _recorded: (),
        passes_over=frozenset(passes_over),
    )


@pytest.mark.parametrize(
    ("projections", "passed_over"),
    [
        ([rows("one")], set()),
        ([rows("one", "JobEnded")], {"JobEnded"}),
        ([rows("one", "JobEnded"), rows("two")], set()),
        ([rows("one", "JobEnded", "JobAsked"), rows("two", "JobEnded")], {"JobEnded"}),
    ],
    ids=["everything is wanted", "one type is not", "another wants it", "nobody wants it"],
)
def test_only_what_nobody_wants_is_passed_over(
    projections: list[Projection], passed_over: set[str]
) -> None:
    assert Projector(name="some", projections=tuple(projections)).passed_over == passed_over


def test_a_name_that_may_stand_for_two_things_is_not_passed_over() -> None:
    """A later release may have an event of that name in the other category, and nobody knows it."""
    others: Aggregate[object, object, object] = replace(JOB, category="other", events=(JobAsked,))
    both = replace(rows("one", "JobEnded"), aggregates=(JOB, others))
    assert Projector(name="some", projections=(both,)).passed_over == set()


def test_a_reaction_passes_over_what_it_is_not_told_of() -> None:
    assert projector_of(JOBS).passed_over == set()
    of_ends: Reaction = replace(JOBS, events=(JobEnded,))
    assert projector_of(of_ends).passed_over == {"JobAsked"}


def test_of_a_payment_most_is_not_read() -> None:
    assert len(projector_of(TRANSACTIONS).passed_over) == 6
    assert len(projector_of(TRANSACTION_AGES).passed_over) == 4
