"""What clients are told of streams that are parked: their rows are old, or not there at all.

A read that names one is refused. A list answers, and says in a header how many there are that may
belong to it; so does whatever else may lack one of them. While none is parked there is no header.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from psycopg import sql
from starlette.types import Scope

from codebase.engine.projections.set_aside import IS_PARKED
from codebase.web.exchange import exchange_of
from codebase.web.openapi_headers import PARKED_STREAMS, references

Responses = dict[int | str, dict[str, Any]]

# What OpenAPI says of them.
LISTS: Responses = {200: {"headers": references(PARKED_STREAMS)}}
NAMES_ONE: Responses = {
    503: {
        "description": "Something that the answer needs is away, or what was asked for is parked"
        " (`/problems/stream-parked`); try again after `Retry-After` seconds."
    }
}


def is_said_by(responses: Responses) -> bool:
    """Whether the answers of a route, as it declares them, are read from a projector's tables."""
    return any(kind.items() <= responses.items() for kind in (LISTS, NAMES_ONE))


# Whose a stream is of which there is no row is not known here, and whoever names it is told.
ASKING_BY_ID = """
    SELECT asked.ordinal
    FROM unnest(%(clients)b::text[], {ids}::uuid[]) WITH ORDINALITY AS asked (client, id, ordinal)
    CROSS JOIN LATERAL ({is_parked}) AS parked
    LEFT JOIN LATERAL (SELECT client FROM {table} WHERE id = asked.id LIMIT 1) AS known ON true
    WHERE asked.client IS NULL OR known.client IS NULL OR known.client = asked.client
"""


def asking_by_id(table: str, ids: str = "ids") -> str:
    """The query for requests that name a parked stream, for `GroupRead`.

    Args:
        table: the view of these streams, with the columns `id` and `client`. Whoever cannot see a
            row is told nothing of its stream either.
        ids: the argument that holds the stream's id; `clients` holds whose it must be.
    """
    return (
        sql.SQL(ASKING_BY_ID)
        .format(
            ids=sql.Placeholder(ids, "b"),
            is_parked=is_parked("asked", "id"),
            table=sql.Identifier(table),
        )
        .as_string()
    )


# Of what everybody who may read it sees all of.
ASKING_BY_ID_ALONE = """
    SELECT asked.ordinal
    FROM unnest(%(ids)b::uuid[]) WITH ORDINALITY AS asked (id, ordinal)
    CROSS JOIN LATERAL ({is_parked}) AS parked
"""


def asking_by_id_alone() -> str:
    """The same for streams that are nobody's, by the argument `ids`."""
    found = sql.SQL(ASKING_BY_ID_ALONE).format(is_parked=is_parked("asked", "id"))
    return found.as_string()


def is_parked(table: str, column: str) -> sql.Composed:
    """A lateral query that has a row if the stream in a column is parked."""
    return sql.SQL(IS_PARKED).format(stream=sql.Identifier(table, column))


def note(scope: Scope, parked: Mapping[str, int], categories: Collection[str] | None) -> None:
    """Have the answer say how many streams are parked that it may lack.

    Args:
        scope: of the request.
        parked: category -> number of streams, at the moment of the read.
        categories: that the answer is made from; None means all that the projector follows.
    """
    counts = (n for category, n in parked.items() if categories is None or category in categories)
    exchange = exchange_of(scope)
    exchange.parked_streams = max(exchange.parked_streams, sum(counts))


def parked_streams(scope: Scope) -> int:
    """How many streams are parked that the answer to a request may lack, for pages to say."""
    return exchange_of(scope).parked_streams
