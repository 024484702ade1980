"""What is kept of long streams: enough to go on from, and never more than so much."""

from __future__ import annotations

from uuid import UUID, uuid4

from codebase.engine.commands.history import Entry, History
from codebase.engine.commands.long_streams import LONG, LongStreams
from codebase.engine.commands.milestones import EVERY, MILESTONES_MAX, Milestones


def history_of(length: int) -> History:
    """A stream whose state is its version."""
    history = History(category="counter")
    for version in range(1, length + 1):
        history.add(
            Entry(
                event=None,
                client="alice",
                idempotence_key=f"key {version}",
                creates=version == 1,
                fingerprint=None,
                command_id=None,
            )
        )
        history.states[version] = version
    return history


def test_milestones_are_where_a_short_fold_begins_and_stay_few() -> None:
    milestones = Milestones()
    length = 5 * EVERY * MILESTONES_MAX
    for start in range(0, length, 1000):
        milestones.pass_by({version: version for version in range(start, start + 1000)})
        assert len(milestones) <= MILESTONES_MAX
    assert len(milestones) > MILESTONES_MAX // 2
    for version in (EVERY + 1, length // 3, length - 1):
        milestone, state = milestones.before(version)
        assert milestone == (state or 0)
        assert 0 < version - milestone <= 8 * EVERY


def test_before_the_first_milestone_there_is_nothing() -> None:
    milestones = Milestones()
    milestones.pass_by({version: version for version in range(EVERY + 2)})
    assert milestones.before(1) == (0, None)
    assert milestones.before(EVERY) == (0, None)
    assert milestones.before(EVERY + 1) == (EVERY, EVERY)


def test_only_the_long_streams_that_were_used_last_are_kept() -> None:
    kept = LongStreams(at_most=2)
    one, two, three = (uuid4() for _ in range(3))
    for stream_id in (one, two):
        kept.keep(stream_id, history_of(LONG))
    assert kept.history(one).version == LONG
    kept.keep(three, history_of(LONG))
    assert len(kept) == 2
    assert [kept.history(each).version for each in (one, two, three)] == [LONG, 0, LONG]


def test_short_streams_are_not_kept() -> None:
    kept = LongStreams()
    short = history_of(LONG - 1)
    kept.keep(uuid4(), short)
    assert len(kept) == 0
    assert len(short.entries) == LONG - 1


def test_of_a_long_stream_the_first_event_the_last_and_the_state_are_kept() -> None:
    kept, stream_id = LongStreams(), uuid4()
    read = history_of(2 * EVERY + 10)
    kept.keep(stream_id, read)
    for history in (read, kept.history(stream_id)):
        assert history.version == 2 * EVERY + 10
        assert list(history.entries) == [1, history.version]
        assert history.states == {0: None, history.version: history.version}
        assert history.keys[("alice", "key 1", True)] == 1
        assert history.milestones is not None
        assert history.milestones.before(history.version) == (2 * EVERY, 2 * EVERY)


def test_what_was_read_last_does_not_give_way_to_what_was_read_before_it() -> None:
    """Two writers read the same stream at once, and the slower one knows less of it."""
    kept, stream_id = LongStreams(), UUID(int=1)
    kept.keep(stream_id, history_of(LONG + 5))
    kept.keep(stream_id, history_of(LONG))
    assert kept.history(stream_id).version == LONG + 5
    kept.forget(stream_id)
    assert kept.history(stream_id).version == 0
