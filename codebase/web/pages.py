"""Answers that Postgres has written as JSON already: what is a page's items is not taken apart."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

JSON = "application/json"

Size = Annotated[int, Query(ge=1, le=1000, description="How many items a page has at most.")]
SIZE_DEFAULT = 500


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
