"""Consistency tokens: how far into the log a client has seen, partition by partition.

The text form is `4f9c2a1b07de_0.123-3.45`: of the log of that name, partition 0 up to position 123,
partition 3 up to 45. It is safe in headers, cookies and URLs. Earlier releases left out the name;
such a token may be of any log, and says nothing. A client that has seen nothing, and yet wants all
there is, sends the word `latest` as header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from codebase.engine.log.extent import Extent
from codebase.foundation.errors import InvalidInputError, invalid
from codebase.web.exchange import Exchange

Positions = Mapping[int, int]
"""The last position that a client knows of, for each partition that it knows of."""

Headers = Iterable[tuple[bytes, bytes]]

NAME = "Consistency-Token"
LATEST = "latest"
"""Instead of a token: everything that is in the log when the request comes."""
BEGINNING: Positions = {0: 0}
"""What a client has seen who has seen nothing; every command answers a token."""
NOTHING_SEEN = Extent()
HEADER = b"consistency-token"
COOKIE_ATTRIBUTES = b"; HttpOnly; SameSite=Lax; Path=/"
TAKEN_BACK = b"Consistency-Token=" + COOKIE_ATTRIBUTES + b"; Max-Age=0"
"""The `Set-Cookie` that deletes the cookie."""
PARTS_MAX = 1024
FORM = re.compile(
    r"(?:[0-9a-z]{1,32}_)?[0-9]{1,4}\.[0-9]{1,18}(?:-[0-9]{1,4}\.[0-9]{1,18})*", re.ASCII
)


class Log(Protocol):
    """The log that a service's tokens are of."""

    @property
    def extent(self) -> Extent:
        """What is known of it, without a name before anybody has looked."""

    async def extent_for(self, seen: Extent) -> Extent:
        """The log, as far as it has to be known to tell what of `seen` is in it.

        Raises:
            ServiceUnavailable: that cannot be told now.
        """


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent.

    Args:
        header: what the header stands for; None when there is none.
        cookies: what cookies stand for.
        wants_latest: whether the header asks for all there is.
        has_malformed_cookie: whether there is a cookie that stands for nothing.
    """

    header: Extent | None = None
    cookies: Sequence[Extent] = ()
    wants_latest: bool = False
    has_malformed_cookie: bool = False

    @property
    def named(self) -> list[Extent]:
        """All that is of a log with a name; what is not may be of any."""
        everything = (self.header, *self.cookies)
        return [each for each in everything if each is not None and each.log_id is not None]


NOTHING_SENT = Sent()


def taken_from(exchange: Exchange, headers: Headers, partitions: int) -> Sent:
    """What came with a request; a malformed cookie is taken back with the answer, whatever it is.

    Args:
        exchange: the request.
        headers: as `sent` takes them.
        partitions: how many the log has, as far as is known.

    Raises:
        InvalidInputError: the header is malformed.
    """
    if HEADER not in exchange.headers and b"cookie" not in exchange.headers:
        return NOTHING_SENT
    found = sent(headers, partitions + 1 if partitions else PARTS_MAX)
    if found.has_malformed_cookie:
        exchange.cookie = TAKEN_BACK
    return found


def sent(headers: Headers, parts: int = PARTS_MAX) -> Sent:
    """What the client sent, in the header, in the cookie, or in both.

    A browser's user cannot mend a cookie, so that a malformed one is no error.

    Args:
        headers: lower-case names and values, as ASGI has them.
        parts: see `parse`.

    Raises:
        InvalidInputError: the header is malformed.
    """
    header, cookies, latest, malformed = None, list[Extent](), False, False
    for name, value in headers:
        if name == HEADER:
            text = value.decode("latin-1")
            latest = text == LATEST
            header = None if latest else parse(text, parts)
        elif name == b"cookie":
            for token in _tokens_of_cookie(value.decode("latin-1")):
                try:
                    cookies.append(parse(token, parts))
                except InvalidInputError:
                    malformed = True
    return Sent(header, tuple(cookies), latest, malformed)


def parse(text: str, parts: int = PARTS_MAX) -> Extent:
    """What a token stands for.

    Args:
        text: the token.
        parts: how many of its parts are worth reading. Among one more than a log has partitions
            is one that the log does not have, which is all that has to be known.

    Raises:
        InvalidInputError: it is malformed.
    """
    if not FORM.fullmatch(text) or text.count("-") >= PARTS_MAX:
        raise invalid(
            NAME, f"must look like 4f9c2a1b07de_0.123 or 4f9c2a1b07de_0.123-3.45, or be {LATEST}"
        )
    log_id, _, positions = text.rpartition("_")
    seen: dict[int, int] = {}
    for part in positions.split("-", parts)[:parts]:
        partition, position = map(int, part.split("."))
        if position >= seen.get(partition, 0):
            seen[partition] = position
    return Extent(log_id or None, seen)


def merge(seen: Positions, more: Iterable[tuple[int, int]]) -> Positions:
    """What is known to whoever knows both."""
    merged = dict(seen)
    for partition, position in more:
        merged[partition] = max(position, merged.get(partition, 0))
    return merged


def render(log_id: str | None, positions: Positions) -> str:
    """The token for what a client has seen."""
    parts = "-".join(f"{partition}.{position}" for partition, position in sorted(positions.items()))
    return f"{log_id}_{parts}" if log_id else parts


def token_after(log: Log | None, seen: Extent, written: Positions) -> str:
    """The token of a client that had seen `seen`, and has now had `written` written to `log`."""
    extent = log.extent if log is not None else NOTHING_SEEN
    if seen.log_id is None:
        return render(extent.log_id, written or BEGINNING)
    if not written:
        return render(seen.log_id, seen.positions)
    # Whoever wrote may have found another log, or a shorter one, where the one was that was seen.
    return render(extent.log_id, merge(extent.own(seen), written.items()))


async def own(log: Log, sent: Sent) -> Extent:
    """What of all that a client sent is of this log, and in it.

    Raises:
        InvalidInputError: the header names a partition that this log does not have.
        ServiceUnavailable: it cannot be told now.
    """
    seen = NOTHING_SEEN
    for token in sent.named:
        extent = await log.extent_for(token)
        if token is sent.header and extent.log_id == token.log_id:
            refuse_unknown(token.positions.keys() - extent.positions.keys())
        mine = extent.own(token)
        if mine:
            seen = Extent(token.log_id, merge(seen.positions, mine.items()))
    return seen


def refuse_unknown(partitions: Iterable[int]) -> None:
    """Go on only when there are none.

    Args:
        partitions: those that a header names and the log does not have.

    Raises:
        InvalidInputError: there are.
    """
    if any(True for _ in partitions):
        raise invalid(NAME, "must name partitions that there are")


def _tokens_of_cookie(cookies: str) -> Iterable[str]:
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == NAME:
            yield value.strip('"')
