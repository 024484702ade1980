"""Who calls: access tokens, or protected mode when there are none."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic

from codebase.foundation.tokens import Role, parse_entries
from codebase.web.attempts import Attempts
from codebase.web.problems import HttpProblem

# A page of the internet has a name with a dot; this machine's names have none.
LOCAL_HOST = re.compile(rb"(?:[A-Za-z0-9_-]+|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")

WRONG_TOKENS = 100
"""At once, from one address: behind a gateway that is everybody's."""
WRONG_FACTORS = 10
"""At once, of one caller at one address."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/healthz", "/healthcheck", "/readyz"})
"""Whoever watches whether a process lives needs no token for it."""
SEE_EVERYBODY = frozenset({Role.OPERATOR, Role.ADMIN})
CHANGE_NOTHING = frozenset({Role.OPERATOR, Role.PERSONAL})
OWN_SITES = frozenset({b"same-origin", b"none"})
"""A page of this very service, or the browser's user."""

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated client; idempotence keys and buy orders belong to its name."""

    name: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether this caller sees and administers everything."""
        return self.role is Role.ADMIN

    @property
    def only_client(self) -> str | None:
        """Whose rows this caller is shown: its own, or None for everybody's."""
        return None if self.role in SEE_EVERYBODY else self.name

    @property
    def may_change(self) -> bool:
        """Whether this caller may do more than look."""
        return self.role not in CHANGE_NOTHING

    @property
    def sees_personal_values(self) -> bool:
        """Whether this caller is shown what is personal in the rows that it is shown."""
        return self.role is not Role.OPERATOR

    def require_to_see_personal_values(self) -> None:
        """Go on unless a personal value would be asked by: an answer tells whether it was right.

        Raises:
            HttpProblem: 403.
        """
        if not self.sees_personal_values:
            raise forbidden("an operator asks for nothing by name or e-mail address")

    def require_operator(self) -> None:
        """Go on for those who watch over the system, and for administrators.

        Raises:
            HttpProblem: 403.
        """
        if self.role not in SEE_EVERYBODY:
            raise forbidden("this needs the role operator, or admin")

    def require_admin(self) -> None:
        """Go on for administrators only.

        Raises:
            HttpProblem: 403.
        """
        if not self.is_admin:
            raise forbidden("this needs the role admin")


LOCAL = Caller("local", Role.ADMIN)
"""Everybody, in protected mode: the service listens on loopback only."""


class Authenticator:
    """Knows everyone who may call.

    Args:
        entries: as API_TOKENS lists them; none means protected mode.
        processes: how many of the service there are, which share what a guesser may try.
        now: a clock that only goes on.

    Raises:
        ConfigurationError: an entry is malformed.
    """

    def __init__(
        self, entries: Sequence[str], processes: int = 1, now: Callable[[], float] = monotonic
    ) -> None:
        parsed = parse_entries(entries)
        self._entries = [(entry.digest, Caller(entry.name, entry.role)) for entry in parsed]
        self._attempts = Attempts(
            "a token", burst=WRONG_TOKENS, seconds_each=1, processes=processes, now=now
        )

    @property
    def protected_mode(self) -> bool:
        """Whether no token is configured, so that only loopback may call."""
        return not self._entries

    def caller(self, headers: Headers, address: str) -> Caller:
        """Whoever sent these headers.

        Args:
            headers: of the request.
            address: where it came from. A known token is let in, whatever else came from there.

        Raises:
            HttpProblem: 401, without a token or with one that nobody has, and 429 after too many
                of these; 403 in protected mode, when the client believes that it talks to another
                host.
        """
        if not self._entries:
            _require_local_name(headers)
            return LOCAL
        secret = _sent_secret(headers)
        if secret is None:
            raise _unauthorized(
                "this needs a token, as Authorization: Bearer, as X-Token, or as a password"
            )
        digest = hashlib.sha256(secret).hexdigest().encode()
        found: Caller | None = None
        # Every entry is compared, so that the time tells nothing about which one came close.
        for known, caller in self._entries:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            self._attempts.require_one(address)
            self._attempts.note_wrong(address)
            raise _unauthorized("this token is not known")
        return found


class SecondFactor:
    """What destructive administration sends in header TWO-FA beside its token.

    Args:
        expected: as configured; None: nothing of the kind is allowed.
        processes: how many of the service there are, which share what a guesser may try.
        now: a clock that only goes on.
    """

    def __init__(
        self, expected: str | None, processes: int = 1, now: Callable[[], float] = monotonic
    ) -> None:
        self._expected = expected
        self._attempts = Attempts(
            "the second factor",
            burst=WRONG_FACTORS,
            seconds_each=6,
            processes=processes,
            now=now,
        )

    def require(self, headers: Headers, sender: str) -> None:
        """Go on only when the header holds it.

        Args:
            headers: of the request.
            sender: whose attempts are counted; others are not held up by them.

        Raises:
            HttpProblem: 403, also when none is configured; 429 after too many wrong ones.
        """
        self._attempts.require_one(sender)
        sent = headers.get(b"two-fa", b"")
        if self._expected and hmac.compare_digest(sent, self._expected.encode()):
            return
        if sent:
            self._attempts.note_wrong(sender)
        raise forbidden("this needs the second factor in header TWO-FA")


def require_same_origin(method: str, headers: Headers) -> None:
    """Refuse what a web page of another origin makes a browser send, unless it only reads.

    In protected mode any page in the operator's browser could otherwise command this machine's
    services. Browsers say where a request comes from, other programs do not and are let through:
    https://words.filippo.io/csrf, the rule of Go's http.CrossOriginProtection.

    Raises:
        HttpProblem: 403.
    """
    if method in SAFE_METHODS:
        return
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        is_own = site in OWN_SITES
    else:
        origin = headers.get(b"origin")
        host = headers.get(b"host", b"")
        is_own = origin is None or origin.partition(b"://")[2].lower() == host.lower()
    if not is_own:
        raise forbidden("a page of another site may not send this")


def forbidden(detail: str) -> HttpProblem:
    """The answer to someone who is known but not allowed."""
    return HttpProblem(HTTPStatus.FORBIDDEN, "forbidden", detail)


def _require_local_name(headers: Headers) -> None:
    """Refuse web pages that reach loopback under a name of their own (DNS rebinding).

    Only a browser sends such a name, and only for a page that it should not trust.
    """
    host = headers.get(b"host")
    if host is not None and not LOCAL_HOST.fullmatch(host):
        raise forbidden("without API_TOKENS only requests to a loopback address are answered")


def _sent_secret(headers: Headers) -> bytes | None:
    scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
    match scheme.lower():
        case b"bearer":
            return sent.strip()
        case b"basic":
            return _password(sent.strip())
        case _:
            return headers.get(b"x-token")


def _password(credentials: bytes) -> bytes | None:
    """The token that a person has typed into a browser, as the password for any name."""
    try:
        decoded = b64decode(credentials, validate=True)
    except ValueError:
        return None
    return decoded.partition(b":")[2]


def _unauthorized(detail: str) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        detail,
        # The second one makes a browser ask, so that its user can look at pages.
        headers={"WWW-Authenticate": 'Bearer realm="orderly", Basic realm="orderly"'},
    )
