"""JSON that is refused, and which field is blamed."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codebase.foundation.strict_json import DEPTH_LIMIT, InvalidJsonError, decode

SECRET = "4111111111111111"  # noqa: S105 - a card number that must not come back

REFUSED = {
    "not JSON": (b"{", "body"),
    "nothing at all": (b"", "body"),
    "two values": (b"{} {}", "body"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "body"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "body"),
    "a broken UTF-8 sequence": (b'{"a":"\xff"}', "body"),
    "a raw surrogate": (b'{"a":"\xed\xa0\x80"}', "body"),
    "a raw control character": (b'{"a":"\x00"}', "body"),
    "single quotes": (b"{'a':1}", "body"),
    "a trailing comma": (b'{"a":1,}', "body"),
    "full-width digits": ('{"a":\uff11\uff12}'.encode(), "body"),
    "a leading zero": (b'{"a":01}', "body"),
    "a leading plus": (b'{"a":+1}', "body"),
    "a number without digits before the point": (b'{"a":.5}', "body"),
    "NaN": (b'{"a":NaN}', "a"),
    "Infinity": (b'{"a":{"b":Infinity}}', "a.b"),
    "minus Infinity": (b'{"a":[1,-Infinity]}', "a.1"),
    "an exponent": (b'{"a":1e5}', "a"),
    "a number beyond every double": (b'{"a":1e999}', "a"),
    "an exponent after a point": (b'{"a":10.0E-1}', "a"),
    "a decimal of absurd length": (b'{"a":0.' + b"1" * 100 + b"}", "a"),
    "an integer of absurd length": (b'{"a":' + b"1" * 10_000 + b"}", "a"),
    "a name given twice": (b'{"a":1,"a":1}', "a"),
    "a name given twice deep inside": (b'{"x":[{"a":1,"a":2}]}', "x.0.a"),
    "a NUL": (rb'{"a":"\u0000"}', "a"),
    "a lone high surrogate": (rb'{"a":{"b":"x\ud800"}}', "a.b"),
    "a lone low surrogate": (rb'{"a":["\udc00"]}', "a.0"),
    "a NUL in a name": (rb'{"\u0000":1}', "body"),
    "a lone surrogate in a name": (rb'{"a":{"\ud800":1}}', "a"),
    "deep lists": (b"[" * 10_000, "body"),
    "deep lists that are complete": (b"[" * 10_000 + b"]" * 10_000, "body"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "body"),
    "one level too many": (b"[" * (DEPTH_LIMIT + 1) + b"]" * (DEPTH_LIMIT + 1), "body"),
}

TAKEN = {
    "a decimal with its digits": (b'{"a":1.50}', {"a": Decimal("1.50")}),
    "more digits than a double has": (b"0.1234567890123456789", Decimal("0.1234567890123456789")),
    "a whole number": (b'{"a":4111111111111111}', {"a": 4_111_111_111_111_111}),
    "a surrogate pair": (rb'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
    "an ordinary escape": (rb'{"a":"\u00e9"}', {"a": "\u00e9"}),
    "brackets inside a text": (b'{"a":"' + b"[" * 500 + b'"}', {"a": "[" * 500}),
    "brackets after an escaped quote": (b'{"a":"\\"' + b"{" * 500 + b'"}', {"a": '"' + "{" * 500}),
    "many lists side by side": (b"[" + b",".join([b"[]"] * 100) + b"]", [[]] * 100),
    "just deep enough": (b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT, None),
    "space around": (b" \r\n\t{} ", {}),
}


@pytest.mark.parametrize(("text", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_and_the_field_is_named(text: bytes, field: str) -> None:
    with pytest.raises(InvalidJsonError) as refusal:
        decode(text)
    assert refusal.value.field == field


@pytest.mark.parametrize(("text", "value"), TAKEN.values(), ids=TAKEN.keys())
def test_it_is_taken_exactly(text: bytes, value: object) -> None:
    decoded = decode(text)
    if value is not None:
        assert decoded == value
        assert str(decoded) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"{SECRET}":NaN}}',
        f'{{"{SECRET}":1,"{SECRET}":2}}',
        f'{{"a":"{SECRET}',
        f'{{"a":{SECRET * 9}}}',
        f'{{"a":"{SECRET}\\u0000"}}',
        f'{{"{"x" * 60}":NaN}}',
    ],
)
def test_no_refusal_repeats_what_was_sent(text: str) -> None:
    with pytest.raises(InvalidJsonError) as refusal:
        decode(text.encode())
    assert SECRET not in str(refusal.value)
    assert "xxx" not in str(refusal.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=40)
@given(JSON_VALUES, st.booleans())
def test_it_agrees_with_the_standard_library_on_everything_ordinary(
    value: object,
    ascii_only: bool,  # noqa: FBT001 - hypothesis hands it over
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    try:
        assert decode(text) == value
    except InvalidJsonError as refusal:
        assert "NUL" in refusal.reason  # noqa: PT017 - the one reason that text() can give
        assert "\\u0000" in json.dumps(value)


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_fail_in_another_way(text: bytes) -> None:
    try:
        decode(text)
    except InvalidJsonError as refusal:
        assert refusal.field == "body"  # noqa: PT017
