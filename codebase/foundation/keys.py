"""Secret keys that the environment names: `id:base64` entries, of which the first one signs."""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable

from codebase.foundation.errors import ConfigurationError

KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
KEY_BYTES_MIN = 32


def new_key(key_id: str) -> str:
    """The entry of a new key."""
    return f"{key_id}:{b64encode(secrets.token_bytes(KEY_BYTES_MIN)).decode()}"


def keys_of(variable: str, entries: Iterable[str]) -> dict[str, bytes]:
    """Id -> key, in the order of the entries.

    Args:
        variable: where they were found, for whoever reads the error.
        entries: each `id:base64`.

    Raises:
        ConfigurationError: malformed, or too short, or one id for two keys; no key is repeated.
    """
    keys: dict[str, bytes] = {}
    for entry in entries:
        key_id, colon, encoded = entry.partition(":")
        # Without a colon it may be a key, which nobody is told.
        if not colon or not KEY_ID.fullmatch(key_id):
            raise _malformed(variable, "an id of at most 32 letters, digits and _ . -")
        if key_id in keys:
            raise _malformed(variable, f"{key_id} stands for two keys")
        keys[key_id] = _decoded(variable, key_id, encoded)
    return keys


def _decoded(variable: str, key_id: str, encoded: str) -> bytes:
    try:
        key = b64decode(encoded, validate=True)
    except binascii.Error:
        raise _malformed(variable, f"{key_id} is not in base64") from None
    if len(key) < KEY_BYTES_MIN:
        raise _malformed(variable, f"{key_id} has fewer than {KEY_BYTES_MIN} bytes")
    return key


def _malformed(variable: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{variable}: entries are id:base64; {what}")
