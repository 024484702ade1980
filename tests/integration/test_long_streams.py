"""A long stream costs what a short one costs, and is answered just as well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content, Fingerprints
from codebase.engine.commands.history import History
from codebase.engine.commands.log_connection import LogConnection, LogStanding
from codebase.engine.commands.stream_reader import ROWS_PER_PAGE, StreamReader
from codebase.engine.commands.submission import Outcome, Submission
from codebase.engine.log.codec import UnknownEventError
from codebase.engine.log.identifiers import creation_stream_id, partition_of
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate
from codebase.model.refusals import KeyReused
from tests.databases import PARTITIONS
from tests.integration.test_event_log import rows_read

if TYPE_CHECKING:
    from psycopg import Connection

    from tests.databases import Databases

ALICE = Actor("alice")
LONG, SHORT = 20_000, 20

GROW = """
    INSERT INTO event (partition, position, stream_id, category, version, type, idempotence_key,
                       data, meta, recorded_at)
    SELECT head.partition, head.position + version - %(after)s, %(stream)s, 'counter', version,
           'Added',
           CASE WHEN version = command THEN 'key ' || version END, '{"by": 1}',
           jsonb_build_object('actor', 'alice', 'causation_id', command::text,
                              'event_id', gen_random_uuid(), 'fingerprint', %(fingerprint)s::text),
           now() + version * interval '1 microsecond'
    FROM log_head AS head,
         generate_series(%(after)s + 1, %(until)s) AS version,
         LATERAL (SELECT CASE WHEN version BETWEEN %(first)s AND %(last)s
                              THEN %(first)s ELSE version END AS command) AS command
    WHERE head.partition = %(partition)s
"""


@dataclass(frozen=True, kw_only=True)
class Added:
    """The counter grew."""

    by: int


@dataclass(frozen=True, kw_only=True)
class Add:
    """Let the counter grow in so many steps of one; by 0, there is nothing to do."""

    by: int


def evolve(state: int | None, event: Added) -> int:
    return (state or 0) + event.by


COUNTER: Aggregate[Add, Added, int] = Aggregate(
    category="counter",
    events=(Added,),
    decide=lambda command, _: [Added(by=1)] * command.by,
    evolve=evolve,
    topic=lambda _: "counter.added",
)


@dataclass
class Folds:
    """Counts what is folded, in all and between two turns of the event loop."""

    total: int = 0
    at_once: list[int] = field(default_factory=list)
    _turns: bool = False

    @property
    def counter(self) -> Aggregate[Add, Added, int]:
        """The counter; what is folded of it is counted here."""
        return replace(COUNTER, evolve=self._evolve)

    def _evolve(self, state: int | None, event: Added) -> int:
        self.total += 1
        if not self._turns:
            self._turns = True
            self.at_once.append(0)
            asyncio.get_running_loop().call_soon(self._turn)
        self.at_once[-1] += 1
        return evolve(state, event)

    def _turn(self) -> None:
        self._turns = False


def adding(
    stream_id: UUID,
    by: int = 1,
    key: str | None = None,
    aggregate: Aggregate[Add, Added, int] = COUNTER,
    **more: Any,  # noqa: ANN401
) -> Submission:
    return Submission(
        aggregate=aggregate,
        stream_id=stream_id,
        command=Add(by=by),
        idempotence_key=key,
        content=Content(str(by).encode()),
        actor=ALICE,
        command_id=str(uuid4()),
        **more,
    )


def grow(
    databases: Databases,
    stream_id: UUID,
    until: int,
    after: int = 0,
    one_command: tuple[int, int] = (0, 0),
) -> None:
    """Let a counter have events `after` + 1 to `until`; those of `one_command` are one command's.

    Version n is the first event of a command that adds 1 with the key "key n".
    """
    values = {
        "partition": partition_of(stream_id, PARTITIONS),
        "stream": stream_id,
        "after": after,
        "until": until,
        "fingerprint": Fingerprints.configured(databases.settings).of(Content(b"1")),
        "first": one_command[0],
        "last": one_command[1],
    }
    with databases.as_owner() as owner:
        owner.execute(GROW, values)


class Interrupted(LogConnection):
    """A connection to the log; something happens there when the first answer is in."""

    def __init__(self, databases: Databases, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(databases.settings, LogStanding())
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def do(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401
        answer = await super().do(*arguments, **more)
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return answer


@contextmanager
def tampering(databases: Databases) -> Iterator[Connection]:
    """The owner, who changes the past."""
    with databases.as_owner() as owner:
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        yield owner
        owner.execute("ALTER TABLE event ENABLE TRIGGER event_is_append_only")


def with_buses(databases: Databases, count: int, story: Callable[..., Awaitable[None]]) -> None:
    async def opened(*buses: CommandBus) -> None:
        if len(buses) == count:
            await story(*buses)
            return
        async with CommandBus.open(databases.settings) as bus:
            await opened(*buses, bus)

    asyncio.run(opened())


def test_a_command_on_a_long_stream_reads_and_folds_what_one_on_a_short_stream_does(
    databases: Databases,
) -> None:
    """The plans of the connection are made while the log is empty, and must hold when it is not."""
    long, short = uuid4(), uuid4()
    folds = Folds()
    log = LogConnection(databases.settings, LogStanding())
    reader = StreamReader(LogStanding())

    async def read(stream_id: UUID, key: str) -> tuple[int, int, History]:
        submission = adding(stream_id, key=key, aggregate=folds.counter)
        rows, folded = await log.do(rows_read), folds.total
        aggregates = {"counter": folds.counter}
        streams = await reader.read(log, [stream_id], [submission], aggregates)
        return await log.do(rows_read) - rows, folds.total - folded, streams[stream_id]

    async def story() -> None:
        for _ in range(10):
            await read(uuid4(), "key 1")
        grow(databases, long, LONG)
        grow(databases, short, SHORT)
        rows_cold, folded_cold, _ = await read(long, "new")
        assert rows_cold < LONG + 2 * LONG // ROWS_PER_PAGE
        assert folded_cold == LONG

        rows_short, folded_short, _ = await read(short, "new")
        for after in range(LONG, LONG + 3):
            grow(databases, long, after + 1, after=after)
            rows, folded, history = await read(long, "new")
            assert (history.version, history.states[after + 1]) == (after + 1, after + 1)
            assert folded == 1
            assert rows <= rows_short
            assert folded <= folded_short

        rows, folded, history = await read(long, "key 9999")
        assert history.states[9999] == 9999
        assert max(rows, folded) < 300
        await log.close()

    asyncio.run(story())


def test_while_a_long_stream_is_read_everybody_else_has_a_turn(databases: Databases) -> None:
    stream, folds = uuid4(), Folds()
    grow(databases, stream, 5 * ROWS_PER_PAGE + 1)

    async def story(bus: CommandBus) -> None:
        outcome = await bus.execute(adding(stream, aggregate=folds.counter))
        assert outcome.state == outcome.version == 5 * ROWS_PER_PAGE + 2

    with_buses(databases, 1, story)
    assert len(folds.at_once) >= 6
    assert max(folds.at_once) <= ROWS_PER_PAGE


def test_the_commands_of_a_round_fold_each_event_once(databases: Databases) -> None:
    stream, folds = uuid4(), Folds()
    grow(databases, stream, SHORT)

    async def story(bus: CommandBus) -> None:
        await bus.execute(adding(stream, aggregate=folds.counter))
        before = folds.total
        at_once = [adding(stream, aggregate=folds.counter) for _ in range(200)]
        outcomes = await asyncio.gather(*map(bus.execute, at_once))
        assert sorted(outcome.state for outcome in outcomes) == list(range(SHORT + 2, SHORT + 202))
        # Two writers share them; whoever was overtaken reads and decides again.
        assert folds.total - before < 200 * 10

    with_buses(databases, 1, story)


def test_processes_that_write_to_one_long_stream_never_decide_on_what_was(
    databases: Databases,
) -> None:
    stream = uuid4()
    grow(databases, stream, 1000)

    async def story(one: CommandBus, other: CommandBus) -> None:
        for version in range(1001, 1011, 2):
            assert (await one.execute(adding(stream))).state == version
            assert (await other.execute(adding(stream))).state == version + 1
        senders = [bus.execute(adding(stream, by=2)) for bus in (one, other) for _ in range(50)]
        outcomes = await asyncio.gather(*senders)
        assert sorted(outcome.version for outcome in outcomes) == list(range(1012, 1212, 2))
        assert all(outcome.state == outcome.version for outcome in outcomes)

    with_buses(databases, 2, story)


@pytest.mark.parametrize("length", [SHORT, 2_000], ids=["short", "long"])
def test_a_repeat_is_answered_with_what_its_command_led_to_however_long_ago(
    databases: Databases, length: int
) -> None:
    stream = uuid4()
    first, last = length * 3 // 4, length * 3 // 4 + min(length // 8, 40)
    grow(databases, stream, length, one_command=(first, last))

    async def story(bus: CommandBus) -> None:
        assert (await bus.execute(adding(stream, key="new"))).version == length + 1
        for version in (
            1,
            2,
            length // 2,
            255,
            256,
            257,
            258,
            512,
            513,
            first - 1,
            last + 1,
            length,
        ):
            if version <= length:
                outcome = await bus.execute(adding(stream, key=f"key {version}"))
                assert (outcome.state, outcome.version, outcome.replayed) == (
                    version,
                    version,
                    True,
                )
                assert list(outcome.positions.values()) == [version]
        of_several = await bus.execute(adding(stream, key=f"key {first}"))
        assert (of_several.state, of_several.version) == (last, last)
        with pytest.raises(KeyReused):
            await bus.execute(adding(stream, by=2, key=f"key {length // 2}"))
        together = [adding(stream, key=f"key {version}") for version in range(1, length // 2)]
        outcomes = await asyncio.gather(*map(bus.execute, together))
        assert [outcome.state for outcome in outcomes] == list(range(1, length // 2))

    with_buses(databases, 1, story)


def test_the_creation_of_a_long_stream_is_repeated_as_of_its_first_version(
    databases: Databases,
) -> None:
    stream = creation_stream_id("alice", "counter", "made")

    async def story(bus: CommandBus) -> None:
        made = adding(stream, by=3, key="made", creates=True)
        first = await bus.execute(made)
        assert (first.state, first.version) == (3, 3)
        grow(databases, stream, 1000, after=3)
        assert (await bus.execute(adding(stream))).version == 1001
        for _ in range(2):
            assert await bus.execute(made) == replace(first, replayed=True)
        with pytest.raises(KeyReused):
            await bus.execute(adding(stream, by=2, key="made", creates=True))
        # The same key, sent to the stream, is another command.
        assert (await bus.execute(adding(stream, key="made"))).version == 1002

    with_buses(databases, 1, story)


def test_what_had_nothing_to_do_in_a_long_stream_is_answered_as_of_then(
    databases: Databases,
) -> None:
    stream = uuid4()
    grow(databases, stream, 700)

    async def story(bus: CommandBus) -> None:
        idle = await bus.execute(adding(stream, by=0, key="idle"))
        assert (idle.state, idle.version, idle.changed, idle.replayed) == (700, 700, False, False)
        grow(databases, stream, 1500, after=700)
        assert await bus.execute(adding(stream, by=0, key="idle")) == replace(idle, replayed=True)

    with_buses(databases, 1, story)


@pytest.mark.parametrize("grown", [0, 900], ids=["shorter", "grown past what was known"])
def test_a_log_that_was_restored_is_read_anew(databases: Databases, grown: int) -> None:
    stream = uuid4()
    grow(databases, stream, 1000)

    async def story(bus: CommandBus) -> None:
        assert (await bus.execute(adding(stream))).version == 1001
        with tampering(databases) as owner:
            owner.execute("DELETE FROM event WHERE version > 200")
            # What followed in this past was something else.
            owner.execute("UPDATE event SET data = '{\"by\": 5}' WHERE version = 200")
        grow(databases, stream, 200 + grown, after=200)
        outcome = await bus.execute(adding(stream))
        assert (outcome.version, outcome.state) == (201 + grown, 205 + grown)
        repeat = await bus.execute(adding(stream, key="key 200"))
        assert (repeat.version, repeat.state) == (200, 204)

    with_buses(databases, 1, story)


def test_an_event_that_cannot_be_read_stops_its_own_stream_however_long_it_is(
    databases: Databases,
) -> None:
    stream, other, folds = uuid4(), uuid4(), Folds()
    grow(databases, stream, 1000)

    async def story(bus: CommandBus) -> None:
        with tampering(databases) as owner:
            owner.execute("UPDATE event SET type = 'Later' WHERE version = 800")
        for _ in range(2):
            commands = adding(stream, aggregate=folds.counter), adding(other, creates=True)
            lost, written = await asyncio.gather(
                *map(bus.execute, commands), return_exceptions=True
            )
            assert isinstance(lost, UnknownEventError)
            assert isinstance(written, Outcome)
        # As far as it could be read it was read once.
        assert folds.total == 799

    with_buses(databases, 1, story)


@pytest.mark.parametrize("length", [SHORT, 300], ids=["short", "long"])
@pytest.mark.parametrize("by", [0, 1], ids=["noted", "written"])
def test_a_command_that_is_carried_out_while_its_stream_is_read_is_found(
    databases: Databases, length: int, by: int
) -> None:
    """Whoever looked for it before reading the stream would decide on it a second time."""
    stream = uuid4()
    grow(databases, stream, length)
    command = adding(stream, by=by, key="key")

    async def story(bus: CommandBus) -> None:
        async def meanwhile() -> None:
            await bus.execute(command)
            await bus.execute(adding(stream))

        log, aggregates = Interrupted(databases, meanwhile), {"counter": COUNTER}
        reader = StreamReader(LogStanding())
        history = (await reader.read(log, [stream], [command], aggregates))[stream]
        assert history.version == length
        assert history.asked_of(command) == length + by
        assert history.behind == bool(by)
        history = (await reader.read(log, [stream], [command], aggregates))[stream]
        assert history.asked_of(command) == length + by
        assert not history.behind
        assert history.states[length + by] == length + by
        await log.close()

    with_buses(databases, 1, story)
