"""Arrays that we write ourselves, as Postgres reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, LiteralString
from uuid import UUID

import pytest
from psycopg import sql

from codebase.foundation.arrays import (
    Array,
    bigints,
    booleans,
    doubles,
    integers,
    smallints,
    texts,
    timestamps,
    uuids,
)
from codebase.foundation.postgres import connect

if TYPE_CHECKING:
    from tests.databases import Databases

UUIDS = [UUID(int=0), UUID(int=2**128 - 1), UUID("5f0ad1a6-7e0f-5c1e-9d0e-0b1c7a5e4d11")]
TEXTS = ["", "a", 'quotes " and \\ and {braces},', "€ 𝔘", None, "NULL", "x" * 100_000]
TIMES = [
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 11, 29, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
RANGE = [0, 1, -1, 2**15 - 1, -(2**15)]


@pytest.mark.parametrize(
    ("of", "array", "values"),
    [
        ("text", texts(TEXTS), TEXTS),
        ("text", texts([]), []),
        ("text", texts([None]), [None]),
        ("uuid", uuids(UUIDS), UUIDS),
        ("uuid", uuids([]), []),
        ("integer", integers([*RANGE, 2**31 - 1, -(2**31)]), [*RANGE, 2**31 - 1, -(2**31)]),
        ("smallint", smallints(RANGE), RANGE),
        ("smallint", smallints([*RANGE, None]), [*RANGE, None]),
        ("smallint", smallints([]), []),
        ("bigint", bigints([2**63 - 1, None, -(2**63)]), [2**63 - 1, None, -(2**63)]),
        ("float8", doubles([0.0, None, -0.1, 1e300]), [0.0, None, -0.1, 1e300]),
        ("boolean", booleans([True, False]), [True, False]),
        ("timestamptz", timestamps(TIMES), TIMES),
    ],
)
def test_what_is_written_is_what_postgres_reads(
    databases: Databases, of: LiteralString, array: Array, values: list[object]
) -> None:
    query = sql.SQL("SELECT asked, cardinality(asked) FROM (SELECT %(array)b::{}[]) AS one (asked)")
    with connect(databases.settings.required("write_model_url"), "test") as connection:
        found = connection.execute(query.format(sql.SQL(of)), {"array": array}).fetchone()
    assert found == (values, len(values))
