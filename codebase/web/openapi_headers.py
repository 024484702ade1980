"""The headers of requests and answers, as OpenAPI tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codebase.engine.commands.fingerprint import IDEMPOTENCE_KEY
from codebase.web import consistency_token

Header = Mapping[str, Any]
"""A Header Object, or a Parameter Object, of OpenAPI."""

PARKED_STREAMS = "Parked-Streams"
TOKEN_FORM = f"^{consistency_token.FORM.pattern}$"

# No example where a constant would be sent again and again by whoever tries out what is shown.
IDEMPOTENCY_KEY: Header = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Names the command: sent again with the same key it gets the same answer, and"
    " has no second effect. A new one for each command, such as a UUID.",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCE_KEY.pattern}$"},
}
CONSISTENCY_TOKEN: Header = {
    "name": consistency_token.NAME,
    "in": "header",
    "description": "What you have seen, as a command has answered it; the cookie of this name will"
    f" do as well. An answer is not older than that. The word {consistency_token.LATEST} stands for"
    " all that is in the log when the request comes.",
    "schema": {
        "type": "string",
        "pattern": f"^(?:{consistency_token.LATEST}|{consistency_token.FORM.pattern})$",
    },
}
TWO_FA: Header = {
    "name": "TWO-FA",
    "in": "header",
    "required": True,
    "description": "The second factor of destructive administration: what is configured as TWO_FA.",
    "schema": {"type": "string", "format": "password", "minLength": 1},
}
TRACEPARENT: Header = {
    "name": "traceparent",
    "in": "header",
    "description": "W3C trace context: whose span this request is a part of.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
}

OF_ANSWERS: Mapping[str, Header] = {
    "X-Request-Id": {
        "description": "Names this attempt in the logs; a problem has it as its `instance`.",
        "required": True,
        "schema": {
            "type": "string",
            "pattern": "^[0-9a-f]{32}$",
            "examples": ["5d3f0c6a9b1e4f7c8a2d6e9b0c4f1a73"],
        },
    },
    "Consistency-Token": {
        "description": "Send it back, and a query will show what this command did.",
        "required": True,
        "schema": {"type": "string", "pattern": TOKEN_FORM, "examples": ["4f9c2a1b07de_0.123"]},
    },
    "Set-Cookie": {
        "description": "The Consistency-Token for browsers; empty, to take back a malformed one.",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "`true` when the command had been carried out before; else absent.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {
        "description": "Where to look at what was made, or where to go on.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    PARKED_STREAMS: {
        "description": "How many streams are parked that this answer may lack, or show as they"
        " were; absent when there are none.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Retry-After": {
        "description": "Seconds, after which it is worth trying again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "In which ways a token may be sent.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Accept-Encoding": {
        "description": "Which codings a body may have, if it had another one.",
        "schema": {"type": "string"},
    },
}
"""By name. Those that HTTP itself explains are not among them, such as Content-Length."""


def references(*names: str) -> dict[str, dict[str, str]]:
    """The headers of an answer, as its description names them.

    Args:
        names: keys of `OF_ANSWERS`.
    """
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


LOCATION = references("Location")
"""As the headers of a success: it says where to look at what was made."""
