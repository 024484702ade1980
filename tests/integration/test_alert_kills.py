"""Processes that die while people are told: nobody is forgotten, and a repeat is known as one.

`./test.sh` kills once at each place; `./test.sh torture` with 25 seeds: 200 kills and more.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from codebase.foundation.failpoints import EXIT_STATUS
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.alertman.service import REACTIONS
from codebase.views.payments.settings import PaymentSettings
from tests.integration.alerts import (
    are_alerted,
    flag,
    have_come_to,
    make_due,
    settings_of,
    telling,
)
from tests.integration.flow import eventually, query, until_nobody_is_connected
from tests.integration.mail_server import OK, Delivered, MailServer, mail_server
from tests.integration.payments import END_LEASES
from tests.integration.test_reaction_kills import SEEDS
from tests.patience import PATIENCE_SECONDS
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.databases import Databases

NAMED = re.compile(r"^Transaction (\S+)", re.MULTILINE)
OPEN = "SELECT target, state, reason FROM reaction.intent WHERE ended_at IS NULL"

PLACES = (
    "reaction_before_reminder_commit",
    "reaction_after_reminder_commit",
    "alert_before_mail",
    "alert_after_mail",
    "reaction_before_outcome_commit",
    "reaction_after_outcome_commit",
)
# One mail at a time is on its way in these tests: the one that is in doubt after a death.
ON_ITS_WAY = """
    SELECT data -> 'alerts' -> 0 ->> 'transaction_id' FROM reaction.intent
    WHERE target = 'email' AND token IS NOT NULL AND ended_at IS NULL
"""


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[MailServer]:
    with mail_server(free_port()) as opened:
        yield opened


def flag_some(databases: Databases, chance: random.Random) -> list[UUID]:
    """Of clients with one and of clients with many."""
    return [
        transaction
        for nth in range(chance.randint(1, 3))
        for transaction in flag(databases, chance.choice([1, 2, 5]), client=f"client {nth}")
    ]


def recover(databases: Databases, settings: PaymentSettings, all_: list[UUID]) -> None:
    """Somebody else takes over; nobody waits for the leases of the dead, nor for digests."""
    with databases.as_owner() as owner:
        owner.execute(END_LEASES)

    def is_over() -> bool:
        make_due(databases)
        return are_alerted(databases, all_) and have_come_to(databases, all_, "alert.sent")

    with telling(settings):
        eventually(is_over)
        eventually(lambda: query(databases.as_owner(), OPEN) == [])


def in_doubt(databases: Databases) -> list[str]:
    """The name of the mail that was on its way when the process died, if one was."""
    until_nobody_is_connected(databases)
    return [name for (name,) in query(databases.as_owner(), ON_ITS_WAY)]


def check(
    databases: Databases, server: MailServer, transactions: list[UUID], doubtful: list[str]
) -> None:
    """Each transaction is named; what came twice was in doubt, and came with the same name."""
    times = Counter(mail.message_id for mail in server.delivered)
    first = {mail.message_id: mail for mail in server.delivered}
    named = [UUID(each) for mail in first.values() for each in NAMED.findall(mail.text)]
    assert sorted(named) == sorted(transactions)
    once_more = Counter(f"<{name}.email@shop.test>" for name in doubtful)
    assert times - Counter(first.keys()) <= once_more
    for mail in server.delivered:
        assert NAMED.findall(mail.text) == NAMED.findall(first[mail.message_id].text)
    found = verify(
        databases.settings,
        SYSTEM.aggregates,
        [],
        reactions=list(REACTIONS),
        say=lambda _: None,
    )
    assert found == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_death_anywhere_leaves_nobody_untold(
    databases: Databases, server: MailServer, place: str, seed: int
) -> None:
    chance = random.Random(f"{place} {seed}")  # noqa: S311 - repeatable
    settings = settings_of(databases, smtp_url=server.url, reaction_in_flight=1)
    made = [*flag_some(databases, chance), *flag(databases, 3, client="many")]
    with telling(settings, ORDERLY_FAILPOINT=place) as dying:
        if "reminder" in place:
            eventually(lambda: make_due(databases) and dying.exitcode is not None)
        assert status_of(dying) == EXIT_STATUS
    doubtful = in_doubt(databases)
    assert len(doubtful) <= 1
    if place == "alert_before_mail":
        assert not server.delivered
    made += flag_some(databases, chance)
    recover(databases, settings, made)
    check(databases, server, made, doubtful)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_between_a_mail_and_the_reply_repeats_it_with_the_same_name(
    databases: Databases, server: MailServer, seed: int
) -> None:
    chance = random.Random(f"data {seed}")  # noqa: S311 - repeatable
    settings = settings_of(databases, smtp_url=server.url, reaction_in_flight=1)
    made = flag_some(databases, chance)
    victims: list[int] = []
    is_known = threading.Event()

    def kill(_delivered: Delivered) -> str:
        is_known.wait(PATIENCE_SECONDS)
        while victims:
            os.kill(victims.pop(), signal.SIGKILL)
        return OK

    server.on_data = kill
    with telling(settings) as dying:
        victims.append(dying.pid)
        is_known.set()
        assert status_of(dying) == -signal.SIGKILL
    doubtful, before = in_doubt(databases), [mail.message_id for mail in server.delivered]
    recover(databases, settings, made)
    check(databases, server, made, doubtful)
    after = [mail.message_id for mail in server.delivered]
    assert after.count(before[-1]) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_at_any_moment_leaves_nobody_untold(
    databases: Databases, server: MailServer, seed: int
) -> None:
    chance = random.Random(f"any {seed}")  # noqa: S311 - repeatable
    settings = settings_of(databases, smtp_url=server.url, reaction_in_flight=1)
    made, doubtful = list[UUID](), list[str]()
    for _ in range(2):
        made += flag_some(databases, chance)
        events = chance.randint(1, len(made))
        with telling(settings) as dying:
            eventually(
                lambda wanted=events: len(topics_of_alerts(databases)) >= wanted  # type: ignore[misc]
            )
            dying.kill()
            status_of(dying)
        doubtful += in_doubt(databases)
        with databases.as_owner() as owner:
            owner.execute(END_LEASES)
    recover(databases, settings, made)
    check(databases, server, made, doubtful)


def topics_of_alerts(databases: Databases) -> list[object]:
    return query(databases.as_owner(), "SELECT FROM event WHERE category = 'alert'")
