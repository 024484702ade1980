"""The bodies of requests: how they are received, and what all of them have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict
from starlette.types import Message, Receive

from codebase.web.problems import HttpProblem

JSON_TYPE = re.compile(
    r"application/json\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.ASCII | re.IGNORECASE
)


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class RequestBody(BaseModel):
    """Base of the bodies that clients send: unknown fields and wrong JSON types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Take nothing but JSON in UTF-8.

    Raises:
        HttpProblem: 415, another or no content type.
    """
    sent = headers.get(b"content-type", b"")
    if sent != b"application/json" and not JSON_TYPE.fullmatch(sent.decode("latin-1")):
        raise HttpProblem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "the body must be application/json",
            errors={"Content-Type": ["must be application/json"]},
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
