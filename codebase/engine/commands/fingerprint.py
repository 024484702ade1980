"""What makes a command the same command: its key, and the fingerprint of what it asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints

IDEMPOTENCE_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
IdempotenceKey = Annotated[str, StringConstraints(pattern=f"^{IDEMPOTENCE_KEY.pattern}$")]
"""An idempotence key in a body."""


def fingerprint(name: str, body: object, path: Mapping[str, Any]) -> str:
    """Tells a repeat of a command from another one with the same key.

    Defaults are left out, so that a field that is added later, with a default, leaves the
    fingerprints of the commands before it as they were.

    Args:
        name: of what is to be done.
        body: with the details, as a pydantic model; anything else counts as none.
        path: what it is to be done to.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    if isinstance(body, BaseModel):
        digest.update(body.model_dump_json(exclude_defaults=True).encode())
    for part in sorted(path):
        digest.update(f"\n{part}={path[part]}".encode())
    return digest.hexdigest()
