"""Consistency tokens as texts, and what a client has seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codebase.foundation.errors import InvalidInputError
from codebase.web import consistency_token

POSITIONS = st.dictionaries(
    st.integers(0, 1023), st.integers(0, 10**18 - 1), min_size=1, max_size=8
)


@settings(max_examples=30)
@given(POSITIONS)
def test_a_token_stands_for_the_positions_it_was_made_of(positions: dict[int, int]) -> None:
    assert consistency_token.parse(consistency_token.render(positions)) == positions


@settings(max_examples=30)
@given(POSITIONS, POSITIONS)
def test_whoever_merges_has_seen_what_either_has(one: dict[int, int], two: dict[int, int]) -> None:
    merged = consistency_token.merge(one, two.items())
    assert merged == consistency_token.merge(two, one.items())
    for partition in {*one, *two}:
        assert merged[partition] == max(one.get(partition, 0), two.get(partition, 0))


def test_the_text_is_sorted_and_fits_into_a_cookie() -> None:
    assert consistency_token.render({3: 45, 0: 123}) == "0.123-3.45"


def test_a_command_adds_what_it_did_to_what_was_seen() -> None:
    assert consistency_token.token_after({}, {0: 7}) == "0.7"
    assert consistency_token.token_after({0: 9, 1: 2}, {0: 7}) == "0.9-1.2"
    assert consistency_token.token_after({1: 2}, {0: 7}) == "0.7-1.2"


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
)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_token_is_refused_by_the_name_of_its_header(text: str) -> None:
    for header in (
        (b"consistency-token", text.encode()),
        (b"cookie", b"Consistency-Token=" + text.strip().encode() + b"x"),
    ):
        with pytest.raises(InvalidInputError) as refusal:
            consistency_token.sent([header])
        assert list(refusal.value.errors) == ["Consistency-Token"]


def test_header_and_cookie_are_both_believed() -> None:
    headers = [
        (b"cookie", b"theme=dark; Consistency-Token=0.5-1.9"),
        (b"consistency-token", b"0.7"),
        (b"host", b"x"),
    ]
    assert consistency_token.sent(headers) == {0: 7, 1: 9}
    assert consistency_token.sent([(b"cookie", b"theme=dark")]) == {}
    assert consistency_token.sent([]) == {}
