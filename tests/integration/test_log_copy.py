"""`orderly log copy`: the same log in another database, whatever happens on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.engine.log.events import RecordedEvent
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.operations import log_copy
from codebase.operations.log_copy import Copied, rows
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.log_copy.tables import BESIDE_THE_LOG
from codebase.operations.migrate import roll_back
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from tests import processes
from tests.databases import Databases, settings_for
from tests.integration.flow import (
    eventually,
    heads,
    is_projected,
    place_orders,
    projecting,
    query,
    relayed,
    until_nobody_is_connected,
    waits_for_a_lock,
)
from tests.integration.good_log import write_good_log
from tests.integration.test_command_bus import order
from tests.integration.test_orderly import environment
from tests.integration.test_spanning_commands import creating, opening, together, with_bus
from tests.logs import ANOTHER, OURS, end_log_at, name_log
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import PostgresUnderTest

LOG = "SELECT * FROM event ORDER BY partition, position"
HEADS = "SELECT partition, position, recorded_at::text FROM log_head ORDER BY partition"
NAME = "SELECT id FROM log_identity"
EVERYTHING = [LOG, HEADS, NAME, *(f"TABLE {each} ORDER BY 1, 2" for each in BESIDE_THE_LOG)]
PARK = """
    WITH parked AS (
        INSERT INTO reaction.parked_stream (projector, stream_id, partition, category, reason)
        VALUES ('jobs', gen_random_uuid(), 0, 'job', 'a bug')
        RETURNING stream_id
    )
    INSERT INTO reaction.parked_event (projector, partition, position, stream_id, version, type)
    SELECT 'jobs', 0, 1, stream_id, 1, 'JobAsked' FROM parked
"""
MANGLE = """
    CREATE FUNCTION mangle() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.data := '{}'; RETURN NEW; END
    $$;
    CREATE TRIGGER mangle BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION mangle();
"""
STORES = ("write_model", "read_model")


@pytest.fixture
def target(
    databases: Databases, postgres_server: PostgresUnderTest, templates: tuple[str, str]
) -> Iterator[Databases]:
    """Where the log is copied to; the read model is that of the log."""
    names = [databases.settings.required(f"{store}_owner_url") for store in STORES]
    write_model, read_model = (urlsplit(name).path[1:] for name in names)
    postgres_server.create_database(f"{write_model}_copy", templates[0])
    settings = settings_for(postgres_server, f"{write_model}_copy", read_model)
    made = Databases(postgres_server, settings)
    name_log(made, ANOTHER)
    yield made
    postgres_server.drop_database(f"{write_model}_copy")


def address(target: Databases) -> str:
    return target.settings.required("write_model_owner_url")


def copy(databases: Databases, target: Databases, **how: Any) -> Copied:  # noqa: ANN401
    return log_copy.copy_log(databases.settings, address(target), SYSTEM.aggregates, **how)


def finish_copy(databases: Databases, target: Databases, **how: Any) -> Copied:  # noqa: ANN401
    """To the switch, for which everybody who was connected has to be gone."""
    until_nobody_is_connected(databases)
    return copy(databases, target, finish=True, **how)


def contents(databases: Databases) -> list[list[Any]]:
    return [query(databases.as_owner(), statement) for statement in EVERYTHING]


def differences(databases: Databases) -> list[str]:
    return verify(
        databases.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=lambda _sentence: None
    )


def tell(databases: Databases, *submissions: Any) -> list[Any]:  # noqa: ANN401
    return with_bus(databases.settings, lambda bus: together(bus, list(submissions)))  # type: ignore[no-any-return]


def test_everything_goes_on_where_it_was(databases: Databases, target: Databases) -> None:
    name_log(databases, OURS)
    write_good_log(databases, accounts=4, orders=20)
    with databases.as_owner() as owner:
        owner.execute(
            "UPDATE relay_checkpoint SET position = least(3, (SELECT min(position) FROM log_head))"
        )
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    before = contents(databases)
    copied = finish_copy(databases, target)
    assert copied.finished
    assert copied.events == sum(heads(databases).values())
    assert contents(target) == before
    assert relayed(target) == relayed(databases)

    [repeated, new] = tell(target, order(" order 1", "10.00"), order("after the switch"))
    assert repeated.replayed, "what was done there is known here"
    assert not new.replayed
    with projecting(target.settings):
        eventually(lambda: is_projected(target))
    assert differences(target) == []


def test_of_two_logs_one_takes_events(databases: Databases, target: Databases) -> None:
    tell(databases, order("one"))
    copy(databases, target)
    [outcome] = tell(target, order("too early"))
    assert isinstance(outcome, ServiceUnavailable), "it is half a log"
    finish_copy(databases, target)
    before = contents(databases)
    [outcome] = tell(databases, order("too late"))
    assert isinstance(outcome, ServiceUnavailable)
    assert "25006" in str(outcome)
    assert contents(databases) == before
    [outcome] = tell(target, order("in time"))
    assert outcome.stream_id


def test_it_follows_while_commands_go_on(databases: Databases, target: Databases) -> None:
    stop = threading.Event()
    results: list[Copied] = []
    settings = databases.settings.model_copy(update={"idle_poll_seconds": 0.01})
    following = threading.Thread(
        target=lambda: results.append(
            log_copy.copy_log(settings, address(target), SYSTEM.aggregates, follow=stop)
        )
    )

    def caught_up() -> bool:
        return heads(target) == heads(databases)

    async def story(bus: CommandBus) -> None:
        for n in range(10):
            account = await bus.execute(opening(f"account {n}", f"{n}@office.example"))
            orders = [order(f"{n}.{m}", "1") for m in range(20)]
            agents = [creating(account.stream_id, f"{n}.{m}") for m in range(3)]
            outcomes = await together(bus, orders + agents)
            assert not [each for each in outcomes if isinstance(each, Exception)]
            if n == 0:
                following.start()
            if n == 5:
                # So that it has gone on with what was not there when it began.
                await asyncio.to_thread(eventually, caught_up)

    try:
        with_bus(databases.settings, story)
        eventually(caught_up)
    finally:
        stop.set()
        following.join()
    assert results[0].events == sum(heads(databases).values())
    assert copy(databases, target).events == 0, "a further run copies what is new, which is nothing"
    place_orders(databases, 5)
    assert finish_copy(databases, target).events == 5
    assert differences(target) == []


@pytest.mark.parametrize(
    "failpoint",
    [
        "log_copy_before_commit",
        "log_copy_after_commit",
        "log_copy_closed",
        "log_copy_before_opening",
    ],
)
def test_killed_anywhere_it_goes_on_where_it_was(
    failpoint: str, databases: Databases, target: Databases
) -> None:
    place_orders(databases, 60)
    tell(databases, opening("blue", "a@blue.example"))
    before = contents(databases)
    command = ("log", "copy", "--to", address(target), "--finish")
    until_nobody_is_connected(databases)
    armed = {**environment(databases), "ORDERLY_FAILPOINT": failpoint}
    assert processes.run(command, armed).returncode == EXIT_STATUS
    events = query(target.as_owner(), "SELECT partition, count(*) FROM event GROUP BY partition")
    assert {part: head for part, head in heads(target).items() if head} == dict(events)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        place_orders(target, 1)
    # Who was killed may hold the lock of a copy for a moment.
    for each in (databases, target):
        until_nobody_is_connected(each)
    done = processes.run(command, environment(databases))
    assert done.returncode == 0, done.stderr
    assert "the target is the log from now on" in done.stdout
    assert contents(target) == before
    place_orders(target, 1)
    again = processes.run(command, environment(databases))
    assert again.returncode == 0, "whoever has not heard the answer asks again"
    assert again.stdout.startswith("0 events copied")


def test_batches_are_of_one_partition_and_may_be_small(
    databases: Databases, target: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copy.run, "BATCH", 7)
    place_orders(databases, 50)
    assert copy(databases, target).events == 50
    assert query(target.as_owner(), LOG) == query(databases.as_owner(), LOG)


# What is refused


def test_a_target_that_holds_something_else_is_left_alone(
    databases: Databases, target: Databases
) -> None:
    name_log(databases, OURS)
    place_orders(databases, 5)
    place_orders(target, 1)
    before = contents(target)
    with pytest.raises(CopyError, match="holds another log"):
        copy(databases, target)
    name_log(target, OURS)
    with pytest.raises(CopyError, match="takes events already, and so does this log"):
        finish_copy(databases, target)
    with target.as_owner() as owner:
        owner.execute("SELECT close_log()")
    with pytest.raises(CopyError, match="the log holds another event at"):
        copy(databases, target)
    with target.as_owner() as owner:
        owner.execute("SELECT open_log()")
        owner.execute("UPDATE log_identity SET id = %s", [ANOTHER])
    assert contents(target) == before


def test_a_log_is_not_copied_to_itself(databases: Databases) -> None:
    with pytest.raises(CopyError, match="the log itself, or another copy is running"):
        copy(databases, databases)


def test_other_partitions_are_other_positions(databases: Databases, target: Databases) -> None:
    with target.as_owner() as owner:
        owner.execute("INSERT INTO log_partition (partition) VALUES (99)")
    with pytest.raises(CopyError, match=r"PARTITIONS: the log has \d and the target has \d"):
        copy(databases, target)


# The last but one: the last only changes how events are appended, and nothing that is copied.
@pytest.mark.parametrize("count", [2, None], ids=["a migration", "everything"])
def test_a_target_of_an_older_release_is_migrated_first(
    databases: Databases, target: Databases, count: int | None
) -> None:
    roll_back("write_model", address(target), count=count)
    with pytest.raises(CopyError, match="the target has an older schema, or none: orderly migrate"):
        copy(databases, target)


def test_services_have_to_be_gone_before_the_switch(
    databases: Databases, target: Databases
) -> None:
    place_orders(databases, 1)
    with (
        psycopg.connect(databases.settings.required("write_model_url")),
        pytest.raises(CopyError, match="still connected to the log, as command_service"),
    ):
        copy(databases, target, finish=True)
    place_orders(databases, 1)


def test_a_service_that_comes_while_the_log_is_being_closed_is_seen_and_the_log_goes_on(
    databases: Databases, target: Databases
) -> None:
    place_orders(databases, 1)
    until_nobody_is_connected(databases)
    with databases.as_owner() as owner, ThreadPoolExecutor(1) as pool:
        with owner.transaction():
            owner.execute("SELECT FROM log_partition FOR UPDATE")
            copying = pool.submit(copy, databases, target, finish=True)
            eventually(lambda: waits_for_a_lock(databases.server, "log copy"))
            late = psycopg.connect(databases.settings.required("write_model_reaction_url"))
        with late, pytest.raises(CopyError, match="still connected to the log, as reaction_worker"):
            copying.result(PATIENCE_SECONDS)
    place_orders(databases, 1)
    assert finish_copy(databases, target).finished
    assert heads(target) == heads(databases)


def test_what_was_parked_in_the_target_makes_room(databases: Databases, target: Databases) -> None:
    for each in (databases, target):
        with each.as_owner() as owner:
            owner.execute(PARK)
    place_orders(databases, 1)
    finish_copy(databases, target)
    parked = "SELECT * FROM reaction.parked_event JOIN reaction.parked_stream USING (stream_id)"
    found = [query(each.as_owner(), parked) for each in (databases, target)]
    assert found[0] == found[1] != []


def test_a_finished_copy_is_not_copied_to(databases: Databases, target: Databases) -> None:
    place_orders(databases, 1)
    finish_copy(databases, target)
    with pytest.raises(CopyError, match="this copy is finished"):
        copy(databases, target)


def test_a_log_with_a_gap_is_not_copied(databases: Databases, target: Databases) -> None:
    place_orders(databases, 40)
    with databases.as_owner() as owner:
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("DELETE FROM event WHERE position = 2")
    with pytest.raises(CopyError, match="partition 0 of the log lacks a position above 0"):
        copy(databases, target)
    assert query(target.as_owner(), LOG) == []


def test_what_arrives_is_compared_before_it_is_committed(
    databases: Databases, target: Databases
) -> None:
    place_orders(databases, 40)
    with target.as_owner() as owner:
        owner.execute(MANGLE)
    with pytest.raises(CopyError, match=r"what arrives of 0:1 to 0:\d+ is not what the log holds"):
        copy(databases, target)
    assert query(target.as_owner(), LOG) == []


def test_nobody_else_writes_to_a_target(databases: Databases, target: Databases) -> None:
    place_orders(databases, 1)
    [row] = [row for row in _rows(databases) if row.position == 1]
    end_log_at(target, 1, row.partition)
    before = query(target.as_owner(), LOG)
    with (
        databases.as_owner() as source,
        target.as_owner() as owner,
        pytest.raises(CopyError, match="somebody else has written to partition"),
    ):
        rows.write_rows(source, owner, [row], [1])
    assert query(target.as_owner(), LOG) == before


def _rows(databases: Databases) -> list[rows.Row]:
    with databases.as_owner() as source:
        return [
            row
            for partition, head in heads(databases).items()
            if head
            for row in rows.read_rows(source, partition, after=0, until=head, limit=head)
        ]


# Through a function


def without_names(event: RecordedEvent) -> RecordedEvent:
    """Everybody is called somebody."""
    if "name" not in event.data:
        return event
    return replace(event, data={**event.data, "name": "Somebody"})


def test_events_are_rewritten_on_their_way(databases: Databases, target: Databases) -> None:
    write_good_log(databases, accounts=4, orders=20)
    copied = finish_copy(databases, target, rewrite=without_names)
    named = "SELECT count(*) FROM event WHERE data ? 'name'"
    assert query(databases.as_owner(), named) == [(copied.rewritten,)]
    assert 0 < copied.rewritten < copied.events
    there = query(target.as_owner(), LOG)
    for old, new in zip(query(databases.as_owner(), LOG), there, strict=True):
        if "name" in old[7]:
            assert new == (*old[:7], {**old[7], "name": "Somebody"}, *old[8:])
        else:
            assert new == old
    assert differences(target) == []


def test_a_function_is_named_to_the_command(databases: Databases, target: Databases) -> None:
    tell(databases, opening("blue", "a@blue.example"))
    name = f"{__name__}:without_names"
    done = processes.run(
        ("log", "copy", "--to", address(target), "--through", name, "--json"),
        environment(databases),
    )
    assert '"events": 1, "rewritten": 1' in done.stdout, done.stderr


def test_what_would_be_another_event_stops_the_copy_before_the_log_is_closed(
    databases: Databases, target: Databases
) -> None:
    tell(databases, opening("blue", "a@blue.example"))
    with pytest.raises(CopyError, match=r"the event at \d:1 would change its version"):
        finish_copy(databases, target, rewrite=lambda each: replace(each, version=2))
    assert query(target.as_owner(), LOG) == []
    assert len(place_orders(databases, 1)) == 1
