"""Access tokens: how one is made, and the entry of API_TOKENS that recognises it."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from codebase.foundation.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
SECRET_BYTES = 32


class Role(StrEnum):
    """What a caller may do: `client` its own business, `admin` everything.

    An `operator` reads everything, the metrics too, but for personal values. `personal` reads what
    a client reads; it is who may ask for personal values where these have to be asked for. Both
    change nothing.
    """

    CLIENT = "client"
    OPERATOR = "operator"
    PERSONAL = "personal"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One entry of API_TOKENS, `name:role:sha256hex`: the secret itself is not kept."""

    name: str
    role: Role
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> TokenEntry:
        """The entry that a text stands for.

        Raises:
            ConfigurationError: malformed; the text is not repeated.
        """
        name, _, rest = text.partition(":")
        role, _, digest = rest.partition(":")
        if not NAME.fullmatch(name):
            raise _malformed("a name of letters, digits and _ . @ -")
        if role not in set(Role):
            raise _malformed(f"the role of {name} must be client, operator, personal or admin")
        if not SHA256_HEX.fullmatch(digest):
            raise _malformed(f"the SHA-256 of {name} must be 64 lower-case hexadecimal digits")
        return cls(name, Role(role), digest.encode())


def parse_entries(texts: Sequence[str]) -> list[TokenEntry]:
    """The entries of API_TOKENS; a name may have two tokens while one replaces the other.

    Raises:
        ConfigurationError: one is malformed, a token stands there twice, or a name has two roles.
    """
    entries = [TokenEntry.parse(text) for text in texts]
    roles: dict[str, Role] = {}
    digests: set[bytes] = set()
    for entry in entries:
        if entry.digest in digests:
            raise ConfigurationError(f"API_TOKENS: the token of {entry.name} stands there twice")
        if roles.setdefault(entry.name, entry.role) is not entry.role:
            raise ConfigurationError(f"API_TOKENS: {entry.name} has two roles")
        digests.add(entry.digest)
    return entries


def new_token(name: str, role: str) -> tuple[str, str]:
    """A new secret, and the API_TOKENS entry that recognises it.

    Raises:
        ConfigurationError: a name or role that an entry cannot have.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    entry = f"{name}:{role}:{hashlib.sha256(secret.encode()).hexdigest()}"
    TokenEntry.parse(entry)
    return secret, entry


def _malformed(what: str) -> ConfigurationError:
    return ConfigurationError(f"API_TOKENS: entries are name:role:sha256hex; {what}")
