"""Workers whose Postgres falls silent: they say so, go on by themselves, and stop in time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest

from codebase.foundation import sql_watch
from codebase.foundation.settings import Settings
from codebase.web.runtime import AFTER_DRAIN_SECONDS
from tests.integration.flow import (
    eventually,
    frozen,
    is_projected,
    is_relayed,
    place_orders,
    problem_of,
    projecting,
    relaying,
    running,
)
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.databases import Databases

SILENCE = "Postgres has not answered for 1.1 s"


@pytest.fixture
def _silence_is_never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Except because somebody asks the worker to stop."""
    monkeypatch.setattr(sql_watch, "ANSWER_DEADLINE_SECONDS", NEVER_SECONDS)


@pytest.mark.usefixtures("_silence_is_never_given_up")
@pytest.mark.parametrize(
    ("working", "application", "is_done"),
    [
        pytest.param(projecting, "read_model_sync", is_projected, id="projector"),
        pytest.param(relaying, "event_relay", is_relayed, id="relay"),
    ],
)
def test_a_statement_without_an_answer_is_told_of_and_does_not_hold_up_the_stop(
    databases: Databases,
    with_broker: Settings,
    working: Callable[..., object],
    application: str,
    is_done: Callable[[Databases], bool],
) -> None:
    hasty = with_broker.model_copy(update={"database_deadline_seconds": 0.1})
    place_orders(databases, 5)
    with working(hasty) as team:  # type: ignore[attr-defined]
        eventually(lambda: is_done(databases) and problem_of(team) is None)
        with frozen(databases.server, application):
            eventually(lambda: problem_of(team) == SILENCE)
        place_orders(databases, 5)
        eventually(lambda: is_done(databases) and problem_of(team) is None)
        with frozen(databases.server, application):
            eventually(lambda: problem_of(team) == SILENCE)
            assert team.stop(PATIENCE_SECONDS)


def test_a_connection_that_stays_silent_is_given_up_for_another(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_watch, "ANSWER_DEADLINE_SECONDS", 0.5)

    def project() -> None:
        place_orders(databases, 5)
        eventually(lambda: is_projected(databases))

    with projecting(databases.settings), ThreadPoolExecutor(1) as pool:

        def projects_meanwhile() -> bool:
            project()
            with frozen(databases.server, "read_model_sync", "write_model%"):
                projecting_more = pool.submit(project)
                done, _ = wait([projecting_more], PATIENCE_SECONDS / 10)
            projecting_more.result()
            return bool(done)

        # A server process that stands with a lock of all of them in its hand stops all of them,
        # and not only who is connected to it.
        eventually(projects_meanwhile)


def test_a_process_whose_postgres_is_silent_ends_all_the_same(
    databases: Databases, with_broker: Settings, free_port: Callable[[], int]
) -> None:
    command = ["codebase", "serve", "event_relay", "read_model_sync", "--port", str(free_port())]
    with running(command, with_broker) as process:
        place_orders(databases, 5)
        eventually(lambda: is_projected(databases) and is_relayed(databases))
        with frozen(databases.server, "read_model_sync"), frozen(databases.server, "event_relay"):
            process.terminate()
            status_of(process)
    assert Settings().drain_seconds + AFTER_DRAIN_SECONDS < 10
