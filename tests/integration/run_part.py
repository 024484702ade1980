"""A relay or a projector as a process that tests can kill: `python -m … relay|projector|killer`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from psycopg import Cursor

from codebase.engine.messages.relay import relay_team
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector
from codebase.engine.projections.projector import projector_team
from codebase.foundation.settings import load_settings
from codebase.registry import SYSTEM
from tests.integration.flow import TEST, insert_tested


def insert_or_die(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Some bugs end the process: a stack overflow, a bad extension, the kernel's memory killer."""
    if any('"deadly"' in (event.data or "") for event in events):
        os._exit(1)
    insert_tested(cursor, events)


DEADLY = Projection(
    name="tested",
    aggregates=(TEST,),
    tables=("tested",),
    apply=insert_or_die,
    expected_rows=lambda _stream_id, _recorded: (),
)


def main() -> None:
    settings = load_settings()
    teams = {
        "relay": lambda: relay_team(settings),
        "projector": lambda: projector_team(settings, SYSTEM.read_model),
        "killer": lambda: projector_team(settings, Projector(name="tester", projections=(DEADLY,))),
    }
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    team = teams[sys.argv[1]]()
    team.start()
    stop.wait()
    team.stop(10)


if __name__ == "__main__":
    main()
