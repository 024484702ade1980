"""Arrays on their way to Postgres, in the format in which it takes them without reading text.

psycopg finds out anew, for every array, how its elements are written: tens of microseconds before
the first one, and two for each. What is sent with every command is written here, for a tenth of it.

The format is that of `array_recv`, in Postgres' src/backend/utils/adt/arrayfuncs.c: dimensions,
whether there are NULLs, type of the elements; per dimension its length and lower bound; then the
elements, each after its length in bytes, which is -1 for NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.adapt import Buffer, Dumper
from psycopg.postgres import types

_HEAD = Struct("!iiIii").pack
_NO_DIMENSION = Struct("!iiI").pack
_LENGTH = Struct("!i").pack
_NULL = _LENGTH(-1)
_UUID_LENGTH = _LENGTH(16)
_INTEGER = Struct("!ii").pack
_BIGINT = Struct("!iq").pack
_DOUBLE = Struct("!id").pack
_BOOLEAN = Struct("!i?").pack
_SMALLINT = Struct("!ih").pack
_TIMESTAMP = Struct("!iq").pack
_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
"""Postgres counts from here, see src/include/datatype/timestamp.h."""
_MICROSECOND = timedelta(microseconds=1)

_TEXT, _UUID, _INT8, _INT4, _INT2, _FLOAT8, _BOOL, _TIMESTAMPTZ = (
    types[name].oid
    for name in ("text", "uuid", "int8", "int4", "int2", "float8", "bool", "timestamptz")
)


class Array:
    """An array as Postgres takes it; the statement says of what: `%(name)b::uuid[]`."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        return obj.content


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def _array(oid: int, elements: list[bytes], *, nulls: bool = False) -> Array:
    if not elements:
        return Array(_NO_DIMENSION(0, 0, oid))
    return Array(b"".join([_HEAD(1, nulls, oid, len(elements), 1), *elements]))


def texts(values: Sequence[str | None]) -> Array:
    """For `text[]`."""
    encoded = [None if value is None else value.encode() for value in values]
    elements = [_NULL if each is None else _LENGTH(len(each)) + each for each in encoded]
    return _array(_TEXT, elements, nulls=None in encoded)


def uuids(values: Sequence[UUID]) -> Array:
    """For `uuid[]`."""
    # Not `bytes`, which is a property, and does just this.
    return _array(_UUID, [_UUID_LENGTH + value.int.to_bytes(16, "big") for value in values])


def integers(values: Sequence[int]) -> Array:
    """For `integer[]`."""
    return _array(_INT4, [_INTEGER(4, value) for value in values])


def bigints(values: Sequence[int | None]) -> Array:
    """For `bigint[]`."""
    elements = [_NULL if value is None else _BIGINT(8, value) for value in values]
    return _array(_INT8, elements, nulls=None in values)


def smallints(values: Sequence[int | None]) -> Array:
    """For `smallint[]`."""
    elements = [_NULL if value is None else _SMALLINT(2, value) for value in values]
    return _array(_INT2, elements, nulls=None in values)


def doubles(values: Sequence[float | None]) -> Array:
    """For `float8[]`."""
    elements = [_NULL if value is None else _DOUBLE(8, value) for value in values]
    return _array(_FLOAT8, elements, nulls=None in values)


def booleans(values: Sequence[bool]) -> Array:
    """For `boolean[]`."""
    return _array(_BOOL, [_BOOLEAN(1, value) for value in values])


def timestamps(values: Sequence[datetime]) -> Array:
    """For `timestamptz[]`; each value knows its time zone."""
    return _array(
        _TIMESTAMPTZ, [_TIMESTAMP(8, (value - _ZERO) // _MICROSECOND) for value in values]
    )
