"""Consistency tokens: how far into the log a client has seen, partition by partition.

The text form is `0.123-3.45`: partition 0 up to position 123, partition 3 up to 45. It is safe in
headers, cookies and URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from codebase.foundation.errors import InvalidInputError, invalid

Positions = Mapping[int, int]
"""The last position that a client knows of, for each partition that it knows of."""

Headers = Iterable[tuple[bytes, bytes]]

NAME = "Consistency-Token"
HEADER = b"consistency-token"
COOKIE_ATTRIBUTES = b"; HttpOnly; SameSite=Lax; Path=/"
PARTS_MAX = 1024
FORM = re.compile(r"[0-9]{1,4}\.[0-9]{1,18}(?:-[0-9]{1,4}\.[0-9]{1,18})*", re.ASCII)


def sent(headers: Headers) -> Positions:
    """What the client sent, in the header, in the cookie, or in both.

    Args:
        headers: lower-case names and values, as ASGI has them.

    Raises:
        InvalidInputError: it is malformed.
    """
    seen: Positions = {}
    for name, value in headers:
        if name == HEADER:
            seen = merge(seen, parse(value.decode("latin-1")).items())
        elif name == b"cookie":
            for token in _tokens_of_cookie(value.decode("latin-1")):
                seen = merge(seen, parse(token).items())
    return seen


def parse(text: str) -> Positions:
    """The positions that a token stands for.

    Raises:
        InvalidInputError: it is malformed.
    """
    if not FORM.fullmatch(text) or text.count("-") >= PARTS_MAX:
        raise _malformed()
    parts = (part.split(".") for part in text.split("-"))
    return merge({}, ((int(partition), int(position)) for partition, position in parts))


def merge(seen: Positions, more: Iterable[tuple[int, int]]) -> Positions:
    """What is known to whoever knows both."""
    merged = dict(seen)
    for partition, position in more:
        merged[partition] = max(position, merged.get(partition, 0))
    return merged


def render(positions: Positions) -> str:
    """The token for what a client has seen."""
    return "-".join(f"{partition}.{position}" for partition, position in sorted(positions.items()))


def token_after(seen: Positions, more: Positions) -> str:
    """The token of a client that had seen `seen` and now `more`."""
    return render(merge(seen, more.items()) if seen else more)


def _tokens_of_cookie(cookies: str) -> Iterable[str]:
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == NAME:
            yield value.strip('"')


def _malformed() -> InvalidInputError:
    return invalid(NAME, "must look like 0.123 or 0.123-3.45")
