"""Answers that Postgres has written as JSON already: what is a page's items is not taken apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

JSON = "application/json"

Size = Annotated[int, Query(ge=1, le=1000, description="How many items a page has at most.")]
SIZE_DEFAULT = 500
LastReference = Annotated[
    UUID | None,
    Query(description="The last item of the page before; without it, the first page."),
]
PageSize = Annotated[int, Field(examples=[SIZE_DEFAULT])]
"""The size that a page was asked for with."""


def as_json(text: str) -> Response:
    """An answer that is JSON text already."""
    return Response(text, media_type=JSON)


def page(items: str | None, last_reference: str | None, size: int) -> Response:
    """One page of a list.

    Args:
        items: a JSON array; None when the page is empty.
        last_reference: the id of the last item, which leads to the next page; None on an empty one.
        size: how many items were asked for.
    """
    last = f'"{last_reference}"' if last_reference else "null"
    return as_json(f'{{"items":{items or "[]"},"last_reference":{last},"size":{size}}}')


Piece = tuple[str, str]
"""JSON: an object but for one list in it, and some of the list's items."""


def whole(member: str, piece: Piece) -> str:
    """The object with its list, which is all of it if there is no further piece."""
    body, items = piece
    return f'{body[:-1]},"{member}":{items}}}'


class ListInPieces(StreamingResponse):
    """An object whose last member is a list, however long: no more than a piece is in memory.

    The next piece is asked for when its client has taken the one before, so that who reads slowly
    holds nothing but that. What goes wrong later than the first piece breaks the connection.

    Args:
        member: the name of the list in the object.
        first: the object, and the first items.
        rest: the object again, and the further items.
    """

    def __init__(self, member: str, first: Piece, rest: AsyncIterator[Piece]) -> None:
        self.member = member
        self.first = first
        self.rest = rest
        super().__init__(self._texts(), media_type=JSON)

    async def _texts(self) -> AsyncIterator[str]:
        body, items = self.first
        yield f'{body[:-1]},"{self.member}":{items[:-1]}'
        async for _, items in self.rest:
            if items != "[]":
                yield f",{items[1:-1]}"
        yield "]}"
