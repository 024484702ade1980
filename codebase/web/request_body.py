"""The bodies of requests: how they are received, and what all of them have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from starlette.types import Message, Receive

from codebase.web.problems import HttpProblem

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)", re.ASCII | re.IGNORECASE)
UTF_8 = frozenset({"utf-8", "utf8"})


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class RequestBody(BaseModel):
    """Base of the bodies that clients send: unknown fields and wrong JSON types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Take nothing but JSON in UTF-8.

    Raises:
        HttpProblem: 415, another or no content type, another charset, or any coding.
    """
    require_media_type(headers, JSON_TYPE)


def require_media_type(headers: Mapping[bytes, bytes], expected: str) -> None:
    """Take nothing but one media type, in UTF-8 and as it is; other parameters mean nothing.

    Args:
        headers: of the request.
        expected: in lower case, without parameters.

    Raises:
        HttpProblem: 415, naming the header.
    """
    coding = headers.get(b"content-encoding", b"identity")
    if coding.lower() != b"identity":
        raise _unsupported("Content-Encoding", "must be identity", {"Accept-Encoding": "identity"})
    sent = headers.get(b"content-type", b"").decode("latin-1")
    if sent == expected:
        return
    if sent.partition(";")[0].strip().lower() != expected:
        raise _unsupported("Content-Type", f"must be {expected}")
    if any(charset.lower() not in UTF_8 for charset in CHARSET.findall(sent)):
        raise _unsupported("Content-Type", "must be in UTF-8")


def _unsupported(name: str, what: str, headers: Mapping[str, str] | None = None) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        f"header {name} {what}",
        errors={name: [what]},
        headers=headers,
    )


class Ending(Protocol):
    """Whose connection ends with its answer, or does not."""

    ends_connection: bool


def counted(receive: Receive, limit_bytes: int, exchange: Ending) -> Receive:
    """`receive` of a body whose size is not known, or not yet on its way.

    Args:
        receive: of ASGI.
        limit_bytes: from which on it will raise a problem, 413.
        exchange: goes on with its connection once the body has come to its end.
    """
    received = 0

    async def receive_counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit_bytes:
            raise too_large(limit_bytes)
        exchange.ends_connection = message.get("more_body", False)
        return message

    return receive_counted


def too_large(limit_bytes: int) -> HttpProblem:
    """What is said of a body with more bytes than it may have."""
    return HttpProblem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the body may have {limit_bytes} bytes",
        errors={"body": [f"must have at most {limit_bytes} bytes"]},
    )


async def read_body(receive: Receive) -> bytes:
    """The whole body; the shell bounds its size, the server its time.

    Raises:
        ClientGoneError: the rest will not come.
    """
    message = await receive()
    if not message.get("more_body"):
        return _part(message)
    parts = bytearray(_part(message))
    while message.get("more_body"):
        message = await receive()
        parts += _part(message)
    return bytes(parts)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    part: bytes = message.get("body", b"")
    return part
