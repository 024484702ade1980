"""Consistency tokens as texts, what a client has seen, and of which log."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codebase.engine.log.extent import Extent
from codebase.foundation.errors import InvalidInputError
from codebase.web import consistency_token
from codebase.web.consistency_token import NOTHING_SEEN, Sent, own, parse, render, token_after
from tests.logs import ANOTHER, OURS, of_ours

POSITIONS = st.dictionaries(
    st.integers(0, 1023), st.integers(0, 10**18 - 1), min_size=1, max_size=8
)
NAMES = st.from_regex(r"[0-9a-f]{12}", fullmatch=True) | st.none()


LOG = of_ours({0: 10, 1: 20})


def owned(sent: Sent) -> Extent:
    return asyncio.run(own(LOG, sent))


@settings(max_examples=30)
@given(NAMES, POSITIONS)
def test_a_token_stands_for_what_it_was_made_of(
    log_id: str | None, positions: dict[int, int]
) -> None:
    assert parse(render(log_id, positions)) == Extent(log_id, positions)


@settings(max_examples=30)
@given(POSITIONS, POSITIONS)
def test_whoever_merges_has_seen_what_either_has(one: dict[int, int], two: dict[int, int]) -> None:
    merged = consistency_token.merge(one, two.items())
    assert merged == consistency_token.merge(two, one.items())
    for partition in {*one, *two}:
        assert merged[partition] == max(one.get(partition, 0), two.get(partition, 0))


def test_the_text_is_sorted_and_fits_into_a_cookie() -> None:
    assert render(OURS, {3: 45, 0: 123}) == "0123456789ab_0.123-3.45"


def test_the_form_of_before_is_read_and_is_of_no_log() -> None:
    assert parse("0.123-3.45") == Extent(None, {0: 123, 3: 45})


def test_a_command_adds_what_it_did_to_what_was_seen() -> None:
    assert token_after(LOG, NOTHING_SEEN, {0: 7}) == f"{OURS}_0.7"
    assert token_after(LOG, Extent(OURS, {0: 9, 1: 2}), {0: 7}) == f"{OURS}_0.9-1.2"
    assert token_after(LOG, Extent(OURS, {1: 2}), {0: 7}) == f"{OURS}_0.7-1.2"


def test_a_command_that_wrote_nothing_gives_back_what_was_seen() -> None:
    assert token_after(LOG, Extent(OURS, {1: 2}), {}) == f"{OURS}_1.2"
    assert token_after(LOG, NOTHING_SEEN, {}) == f"{OURS}_0.0"
    assert token_after(None, NOTHING_SEEN, {}) == "0.0"


def test_what_whoever_wrote_has_not_found_is_not_added() -> None:
    """The log may have been exchanged between the question what is its own and the command."""
    assert token_after(LOG, Extent(ANOTHER, {0: 99, 1: 2}), {0: 7}) == f"{OURS}_0.7"
    assert token_after(LOG, Extent(OURS, {0: 99, 1: 2}), {0: 7}) == f"{OURS}_0.7-1.2"


def test_of_a_token_for_more_partitions_than_there_are_only_so_much_is_read_as_tells() -> None:
    endless = render(OURS, dict.fromkeys(range(1000), 1))
    assert parse(endless, 3) == Extent(OURS, {0: 1, 1: 1, 2: 1})
    with pytest.raises(InvalidInputError):
        owned(consistency_token.sent([(b"consistency-token", endless.encode())], 3))


MALFORMED = (
    "",
    "0",
    "0.",
    ".1",
    "0.1-",
    "0.1--1.2",
    "0.1,1.2",
    "-0.1",
    "0.-1",
    "a.b",
    "0.1 ",
    "０.１",
    "0." + "1" * 19,
    "12345.1",
    "-".join(["0.1"] * 1025),
    "_0.1",
    "0123456789ab_",
    "0123456789AB_0.1",
    "0123456789ab_0123456789ab_0.1",
    "a" * 33 + "_0.1",
)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_header_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        consistency_token.sent([(b"consistency-token", text.encode())])
    assert list(refusal.value.errors) == ["Consistency-Token"]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_cookie_is_no_error(text: str) -> None:
    cookie = b"Consistency-Token=" + text.strip().encode() + b"x"
    sent = consistency_token.sent([(b"cookie", b"Consistency-Token=0.1"), (b"cookie", cookie)])
    assert sent == Sent(None, (Extent(None, {0: 1}),), has_malformed_cookie=True)


def test_header_and_cookie_are_both_believed() -> None:
    headers = [
        (b"cookie", f"theme=dark; Consistency-Token={OURS}_0.5-1.9".encode()),
        (b"consistency-token", f"{OURS}_0.7".encode()),
        (b"host", b"x"),
    ]
    assert owned(consistency_token.sent(headers)) == Extent(OURS, {0: 7, 1: 9})
    assert consistency_token.sent([(b"cookie", b"theme=dark")]) == Sent()
    assert consistency_token.sent([]) == Sent()


NOT_OF_THIS_LOG = {
    "of another log": Extent(ANOTHER, {0: 5, 7: 1}),
    "without a name": Extent(None, {0: 5, 7: 1}),
    "beyond the end": Extent(OURS, {0: 11}),
}


@pytest.mark.parametrize("foreign", NOT_OF_THIS_LOG.values(), ids=NOT_OF_THIS_LOG.keys())
def test_what_is_not_of_this_log_is_nothing_that_was_seen(foreign: Extent) -> None:
    assert owned(Sent(foreign)) == NOTHING_SEEN
    mine = Extent(OURS, {1: 3})
    assert owned(Sent(mine, [foreign])) == owned(Sent(foreign, [mine])) == mine


def test_positions_beyond_the_end_leave_those_before_it() -> None:
    assert owned(Sent(Extent(OURS, {0: 11, 1: 20}))) == Extent(OURS, {1: 20})


def test_a_partition_that_the_log_does_not_have_is_refused_in_a_header_only() -> None:
    unknown = Extent(OURS, {1: 3, 2: 0})
    assert owned(Sent(None, [unknown])) == Extent(OURS, {1: 3})
    with pytest.raises(InvalidInputError) as refusal:
        owned(Sent(unknown))
    assert list(refusal.value.errors) == ["Consistency-Token"]


def test_of_a_token_without_a_name_nobody_is_asked() -> None:
    log = of_ours({0: 10})
    asyncio.run(own(log, Sent(Extent(None, {0: 1}), [Extent(OURS, {0: 1})])))
    assert log.asked == [Extent(OURS, {0: 1})]
