"""Strict JSON: what RFC 8259 leaves open is refused, and every refusal names a field.

Refused beyond broken syntax: duplicate names, NaN and Infinity, exponents, numbers of absurd
length, NUL and lone surrogates anywhere in a text, deep nesting. The reason is money and storage:
an amount must mean the same to every reader, and Postgres takes neither NUL nor half a character.

Two decoders: the fast one gives up at the first oddity, then the patient one reads the same text
again to say which field is to blame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

DEPTH_LIMIT = 32
DIGITS_LIMIT = 40
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
TELLABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
WHOLE_BODY = "body"

Pairs = list[tuple[str, Any]]


class InvalidJsonError(ValueError):
    """The text is no JSON, or none that is taken here.

    Args:
        field: dotted path of the culprit, `body` for the whole.
        reason: the end of a sentence that begins with the field.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


def decode(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text in UTF-8; numbers with a point are exact decimals.

    Raises:
        InvalidJsonError: see the module; its text never repeats what was sent.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_LIMIT:
        _refuse_deep_nesting(text)
    # A NUL or a lone surrogate can only come from an escape: UTF-8 and JSON refuse them raw.
    if b"\\u" not in text:
        try:
            return FAST.decode(text.decode())
        except (_OddError, ValueError):
            pass
    return _decode_patiently(text)


def tellable(name: object) -> str:
    """`name` if it looks like the name of a field, otherwise a stand-in.

    Clients choose names too; one that is really a card number must not be sent back.
    """
    text = str(name)
    return text if isinstance(name, int) or TELLABLE_NAME.fullmatch(text) else "?"


class _OddError(Exception):
    """The fast decoder met something that the patient one has to look at."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """Stands where a value should be, and says why there is none."""

    reason: str


def _give_up(_text: str) -> NoReturn:
    raise _OddError


def _decimal(digits: str) -> Decimal:
    if len(digits) > DIGITS_LIMIT or "e" in digits or "E" in digits:
        raise _OddError
    return Decimal(digits)


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_LIMIT:
        raise _OddError
    return int(digits)


def _object(pairs: Pairs) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _OddError
    return members


def _number_or_fault(digits: str) -> Decimal | int | _Fault:
    if len(digits) > DIGITS_LIMIT:
        return _Fault(f"must have at most {DIGITS_LIMIT} digits")
    if "e" in digits or "E" in digits:
        return _Fault("must be written without an exponent")
    return Decimal(digits) if "." in digits else int(digits)


def _object_with_faults(pairs: Pairs) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members[name] = _Fault("must be given once") if name in members else value
    return members


FAST = json.JSONDecoder(
    parse_float=_decimal,
    parse_int=_integer,
    parse_constant=_give_up,
    object_pairs_hook=_object,
)
PATIENT = json.JSONDecoder(
    parse_float=_number_or_fault,
    parse_int=_number_or_fault,
    parse_constant=lambda _: _Fault("must be a finite number"),
    object_pairs_hook=_object_with_faults,
)


def _decode_patiently(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        value = PATIENT.decode(text.decode())
    except ValueError:
        raise InvalidJsonError(WHOLE_BODY, "must be JSON in UTF-8") from None
    for path, reason in _faults((), value):
        raise InvalidJsonError(".".join(map(tellable, path)) or WHOLE_BODY, reason)
    return value


def _faults(path: tuple[object, ...], value: object) -> Iterator[tuple[tuple[object, ...], str]]:
    match value:
        case _Fault(reason=reason):
            yield path, reason
        case str() if _unstorable(value):
            yield path, "must be text without NUL and lone surrogates"
        case list():
            for index, item in enumerate(value):
                yield from _faults((*path, index), item)
        case dict():
            for name, item in value.items():
                if _unstorable(name):
                    yield path, "must have names without NUL and lone surrogates"
                yield from _faults((*path, name), item)


def _unstorable(text: str) -> bool:
    return "\0" in text or LONE_SURROGATE.search(text) is not None


def _refuse_deep_nesting(text: bytes) -> None:
    depth = 0
    for byte in STRING.sub(b"", text):
        if byte in b"[{":
            depth += 1
        elif byte in b"]}":
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise InvalidJsonError(WHOLE_BODY, f"must be nested at most {DEPTH_LIMIT} deep")
