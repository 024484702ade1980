"""What an event causes happens once: from the event to the effect, and back to the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.integration.flow import eventually, write
from tests.integration.jobs import Shop, asked, intents, outcomes, shop_open, working

if TYPE_CHECKING:
    from tests.databases import Databases


@pytest.fixture
def databases(databases: Databases) -> Databases:
    """Databases of tests are cloned from a template, and a clone acts only if it is told to."""
    with databases.as_owner() as owner:
        owner.execute("SELECT reaction.adopt()")
    return databases


@pytest.fixture
def shop(free_port: Callable[[], int]) -> Iterator[Shop]:
    with shop_open(free_port()) as opened:
        yield opened


def test_an_event_has_its_effect_and_the_log_is_told_what_became_of_it(
    databases: Databases, shop: Shop
) -> None:
    jobs = [write(databases, asked(databases.settings, "bread"))[0] for _ in range(3)]
    with working(databases.settings, shop.url):
        eventually(lambda: len(outcomes(databases)) == len(jobs))
        eventually(lambda: all(state == "done" for _, state, _ in intents(databases)))
    assert outcomes(databases) == {job: ["bread done"] for job in jobs}
    assert sorted(shop.done) == sorted((str(job), "bread") for job in jobs)
    assert set(shop.calls.values()) == {1}
