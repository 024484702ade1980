"""Arrays on their way to Postgres, in the format in which it takes them without reading text.

psycopg finds out anew, for every array, how its elements are written: tens of microseconds before
the first one, and two for each. What is sent with every command is written here, for a tenth of it.

The format is that of `array_recv`, in Postgres' src/backend/utils/adt/arrayfuncs.c: dimensions,
whether there are NULLs, type of the elements; per dimension its length and lower bound; then the
elements, each after its length in bytes, which is -1 for NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.adapt import Buffer, Dumper
from psycopg.postgres import types

_HEAD = Struct("!iiIii").pack
_LENGTH = Struct("!i").pack
_NULL = _LENGTH(-1)
_UUID_LENGTH = _LENGTH(16)
_INTEGER = Struct("!ii").pack
_SMALLINT = Struct("!ih").pack

_TEXT, _UUID, _INT4, _INT2 = (types[name].oid for name in ("text", "uuid", "int4", "int2"))


class Array(bytes):
    """An array as Postgres takes it; the statement says of what: `%(name)b::uuid[]`."""

    __slots__ = ()


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Any) -> Buffer:  # noqa: ANN401 - as psycopg has it
        return bytes(obj)


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def _array(oid: int, length: int, elements: bytes, *, nulls: bool = False) -> Array:
    if not length:
        return Array(_HEAD(0, 0, oid, 0, 0)[:12])
    return Array(_HEAD(1, nulls, oid, length, 1) + elements)


def texts(values: Sequence[str | None]) -> Array:
    """For `text[]`."""
    parts: list[bytes] = []
    add = parts.append
    for value in values:
        if value is None:
            add(_NULL)
        else:
            text = value.encode()
            add(_LENGTH(len(text)))
            add(text)
    return _array(_TEXT, len(values), b"".join(parts), nulls=None in values)


def uuids(values: Sequence[UUID]) -> Array:
    """For `uuid[]`."""
    elements = b"".join([_UUID_LENGTH + value.bytes for value in values])
    return _array(_UUID, len(values), elements)


def integers(values: Sequence[int]) -> Array:
    """For `integer[]`."""
    return _array(_INT4, len(values), b"".join([_INTEGER(4, value) for value in values]))


def smallints(values: Sequence[int]) -> Array:
    """For `smallint[]`."""
    return _array(_INT2, len(values), b"".join([_SMALLINT(2, value) for value in values]))
