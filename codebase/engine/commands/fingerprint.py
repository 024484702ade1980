"""What makes a command the same command: its key, and the fingerprint of what it asks for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints
from pydantic_core import to_json

from codebase.foundation.errors import ConfigurationError, ServiceUnavailable
from codebase.foundation.keys import keys_of
from codebase.foundation.settings import Settings

IDEMPOTENCE_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
IdempotenceKey = Annotated[str, StringConstraints(pattern=f"^{IDEMPOTENCE_KEY.pattern}$")]
"""An idempotence key in a body."""

VERSION = "1"
"""Of how a fingerprint is made; it stands in front of each."""
MAC_DIGITS = 32
"""Half of HMAC-SHA-256, which is as short as RFC 2104 advises."""
DEVELOPMENT_KEY = f"development:{'A' * 43}="
"""No secret: what is signed on a machine where nothing is configured."""


# Not frozen, though never changed: a frozen dataclass takes four times as long to make.
@dataclass(slots=True)
class Content:
    """What a command asks for, apart from who asks and under which key.

    Args:
        text: canonical JSON: what is to be done, to what, and how.
        unkeyed: the fingerprint that releases before 0.2 made of it; None if they had no such
            command.
    """

    text: bytes
    unkeyed: Callable[[], str] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        body: object,
        path: Mapping[str, Any],
        *,
        left_out: set[str] | None = None,
        unkeyed: Callable[[], str] | None = None,
    ) -> Content:
        """What a command of this name asks for.

        Defaults are left out, so that a field that is added later, with a default, leaves the
        fingerprints of the commands before it as they were.

        Args:
            name: of what is to be done. It is part of what is stored, and never changes.
            body: the details, as a pydantic model or as JSON; anything else counts as none.
            path: what it is to be done to.
            left_out: fields of the body that are not compared, such as a secret.
            unkeyed: see above; by default what those releases made of most commands.
        """
        details = body if isinstance(body, dict) else {}
        if isinstance(body, BaseModel):
            # What `model_dump` calls, in half the time.
            details = body.__pydantic_serializer__.to_python(
                body, mode="json", exclude_defaults=True, exclude=left_out
            )
        parts = {part: str(path[part]) for part in sorted(path)} if path else {}
        text = to_json([name, parts, _ordered(details)])
        return cls(text, unkeyed or (lambda: _unkeyed(name, body, path)))


def _ordered(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The same JSON, with the members of every object in the order of their names."""
    kind = value.__class__
    if kind is str:
        return value
    if kind is dict:
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(item) for item in value] if kind is list else value


def _unkeyed(name: str, body: object, path: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    if isinstance(body, BaseModel):
        digest.update(body.model_dump_json(exclude_defaults=True).encode())
    for part in sorted(path):
        digest.update(f"\n{part}={path[part]}".encode())
    return digest.hexdigest()


class Fingerprints:
    """Tells a repeat of a command from another one with the same key.

    A fingerprint is `version:key id:HMAC-SHA-256`. Without a secret key, whoever reads one could
    try out what was asked for.

    Args:
        keys: id -> key. The first one signs, all of them compare.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        # Copied for each text: that is a third faster than beginning anew with the key.
        self._keys = {
            key_id: hmac.new(key, digestmod=hashlib.sha256) for key_id, key in keys.items()
        }
        self._signing = next(iter(keys))

    @classmethod
    def configured(cls, settings: Settings) -> Fingerprints:
        """With the keys of FINGERPRINT_KEYS.

        Raises:
            ConfigurationError: there are none, or they are malformed.
        """
        entries = [*settings.fingerprint_keys]
        if settings.development:
            entries.append(DEVELOPMENT_KEY)
        if not entries:
            raise ConfigurationError(
                "FINGERPRINT_KEYS is not set: services that take commands need a key, as id:base64"
                " of at least 32 random bytes, and always the same"
            )
        return cls(keys_of("FINGERPRINT_KEYS", entries))

    def of(self, content: Content) -> str:
        """The fingerprint to store."""
        return self._signed(self._signing, content)

    def is_of(self, stored: str | None, content: Content) -> bool:
        """Whether what was stored is the fingerprint of this content.

        Raises:
            ServiceUnavailable: the key that it was made with is missing here.
        """
        if stored is None:
            return False
        if not stored.startswith(f"{VERSION}:"):
            return content.unkeyed is not None and content.unkeyed() == stored
        _, key_id, _ = stored.split(":")
        if key_id not in self._keys:
            raise ServiceUnavailable("FINGERPRINT_KEYS", f"has no key {key_id} any more")
        return self._signed(key_id, content) == stored

    def _signed(self, key_id: str, content: Content) -> str:
        code = self._keys[key_id].copy()
        code.update(content.text)
        return f"{VERSION}:{key_id}:{code.hexdigest()[:MAC_DIGITS]}"
