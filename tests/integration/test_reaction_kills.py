"""Processes that die anywhere between an event and its effect: once each, nothing stuck.

`./test.sh` kills once at each place; `./test.sh torture` with 25 seeds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from codebase.foundation.failpoints import EXIT_STATUS
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from tests.integration.flow import eventually, running, write
from tests.integration.jobs import (
    JOB,
    JOBS,
    JobAsked,
    Shop,
    asked,
    intents,
    job_event,
    outcomes,
    reminders,
    shop_open,
)
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

FAILPOINTS = (
    "projector_before_commit",
    "projector_after_apply",
    "reaction_after_taking",
    "reaction_before_call",
    "reaction_after_call",
    "reaction_before_inquiry",
    "reaction_after_inquiry",
    "reaction_before_outcome_commit",
    "reaction_after_outcome_commit",
    "reaction_before_reminder_commit",
    "reaction_after_reminder_commit",
)
SEEDS = range(int(os.environ.get("TORTURE_SEEDS", "1")))
END_LEASES = """
    UPDATE reaction.intent SET due_at = clock_timestamp()
    WHERE token IS NOT NULL AND ended_at IS NULL
"""


@pytest.fixture
def shop(free_port: Callable[[], int]) -> Iterator[Shop]:
    with shop_open(free_port()) as opened:
        yield opened


def ask(databases: Databases, chance: random.Random) -> tuple[dict[UUID, list[str]], set[UUID]]:
    """Some jobs: those that the shop is to do, with what, and those that are to be given up."""
    settings = databases.settings
    wanted: dict[UUID, list[str]] = {}
    for _ in range(chance.randint(3, 6)):
        whats = [f"thing {nth}" for nth in range(chance.randint(1, 3))]
        [job, *_] = write(databases, asked(settings, *whats))
        wanted[job] = whats
    given_up = {uuid4() for _ in range(2)}
    for job in given_up:
        write(databases, [job_event(settings, job, 1, JobAsked(what="bread", seconds=0))])
    return wanted, given_up


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", FAILPOINTS)
def test_a_death_anywhere_costs_and_doubles_nothing(
    databases: Databases, shop: Shop, place: str, seed: int
) -> None:
    chance = random.Random(f"{place} {seed}")  # noqa: S311 - repeatable
    with databases.as_owner() as owner:
        owner.execute("SELECT reaction.adopt()")
    cut_once = chance.random() < 0.5 or "inquiry" in place
    shop.manner = lambda _body, nth: "cut" if cut_once and nth == 1 else "do"
    wanted, given_up = ask(databases, chance)
    module = ["tests.integration.run_jobs", shop.url]
    with running(module, databases.settings, ORDERLY_FAILPOINT=place) as dying:
        # A second one from the beginning might do all of it before the first comes to that place.
        assert dying.wait(PATIENCE_SECONDS) == EXIT_STATUS
        with running(module, databases.settings):
            more, more_given_up = ask(databases, chance)
            with databases.as_owner() as owner:
                # Nobody comes back from the dead: nothing is gained by waiting for his leases.
                owner.execute(END_LEASES)
            jobs = len(wanted | more) + len(given_up | more_given_up)
            eventually(lambda: len(outcomes(databases)) == jobs)
            eventually(lambda: {state for _, state, _ in intents(databases)} == {"done"})
    assert not reminders(databases)
    for job, whats in (wanted | more).items():
        assert [what for of, what in shop.done if of == str(job)] == whats
        assert len(outcomes(databases)[job]) == 1
    for job in given_up | more_given_up:
        assert outcomes(databases)[job] == ["given up"]
    aggregates = [*SYSTEM.aggregates, JOB]
    assert verify(databases.settings, aggregates, [], reactions=[JOBS]) == []
    assert len(shop.done) == sum(map(len, (wanted | more).values()))
