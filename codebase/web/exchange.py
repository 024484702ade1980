"""One request and its answer, as far as they concern every service alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from fastapi import Request
from starlette.types import Message, Scope, Send

from codebase.foundation.random_bytes import random_bytes
from codebase.web.auth import Caller, SecondFactor
from codebase.web.last_written import LastWritten

SCOPE_KEY = "orderly.exchange"

NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")
PRIVATE = (NOSNIFF, NO_STORE)
CLOSE = (b"connection", b"close")
NO_CONTENT = int(HTTPStatus.NO_CONTENT)

HeaderList = Iterable[tuple[bytes, bytes]]


def new_request_id() -> str:
    """What an answer, and whatever is logged about it, can be found by."""
    return random_bytes(16).hex()


class Exchange:
    """What the shell knows of a request, and the way back to its sender.

    Args:
        scope: of ASGI; the exchange can be found in it again with `exchange_of`.
        send: of ASGI.
        second_factor: what destructive administration needs.
        last_written: what callers have had written by this process.
    """

    __slots__ = (
        "_second_factor",
        "_send",
        "address",
        "caller",
        "cookie",
        "ends_connection",
        "headers",
        "last_written",
        "parked_streams",
        "request_id",
        "status",
    )

    ends_connection: bool
    """Whether the answer is the last one on its connection."""
    parked_streams: int
    """How many are parked that the answer may lack; see web/parked.py."""
    cookie: bytes | None
    """What the answer sets as a cookie, whatever it is."""
    caller: Caller
    """Set by the shell before anything else sees the exchange."""

    def __init__(
        self, scope: Scope, send: Send, second_factor: SecondFactor, last_written: LastWritten
    ) -> None:
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_id = new_request_id()
        self.status = 0
        self.ends_connection = False
        self.parked_streams = 0
        self.cookie = None
        self._send = send
        self._second_factor = second_factor
        self.last_written = last_written
        self.address = (scope.get("client") or ("unknown",))[0]
        scope[SCOPE_KEY] = self

    @property
    def answered(self) -> bool:
        """Whether an answer has begun."""
        return self.status != 0

    def require_second_factor(self) -> None:
        """Go on only when header TWO-FA holds the configured second factor.

        Raises:
            HttpProblem: 403, or 429 after too many wrong ones.
        """
        self._second_factor.require(self.headers, f"{self.caller.name} at {self.address}")

    def end(self) -> None:
        """Let go of the way back: it leads to the scope, and that leads here.

        In a circle all of the request would stay in memory until the collector comes, and it would
        have to come for every thousand requests.
        """
        del self._send

    async def send(self, message: Message) -> None:
        """Pass on what FastAPI answers; every answer carries the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._completed(message.get("headers", ()))
        await self._send(message)

    async def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        """Send a whole answer; its length and the request's id are added here."""
        self.status = status
        sent = [*headers, NOSNIFF, NO_STORE, *self._own_headers()]
        if status != NO_CONTENT:
            sent.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body})

    def _completed(self, headers: HeaderList) -> list[tuple[bytes, bytes]]:
        """Nothing is kept, or taken for what it is not, unless an answer says so itself."""
        sent = list(headers)
        names = {name for name, _ in sent}
        return [*sent, *(one for one in PRIVATE if one[0] not in names), *self._own_headers()]

    def _own_headers(self) -> HeaderList:
        yield b"x-request-id", self.request_id.encode()
        if self.cookie is not None:
            yield b"set-cookie", self.cookie
        if self.parked_streams:
            yield b"parked-streams", b"%d" % self.parked_streams
        if self.ends_connection:
            yield CLOSE


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that a scope belongs to."""
    exchange: Exchange = scope[SCOPE_KEY]
    return exchange


def caller_of(request: Request) -> Caller:
    """Who sent this request, for FastAPI routes; as a dependency, or called."""
    return exchange_of(request.scope).caller


def require_admin(request: Request) -> Caller:
    """The caller, who is an administrator: a dependency for FastAPI routes.

    Raises:
        HttpProblem: 403.
    """
    caller = caller_of(request)
    caller.require_admin()
    return caller


def require_operator(request: Request) -> Caller:
    """The caller, who watches over the system: a dependency for FastAPI routes, or called.

    Raises:
        HttpProblem: 403.
    """
    caller = caller_of(request)
    caller.require_operator()
    return caller


def require_two_fa(request: Request) -> None:
    """Go on only with the second factor in header TWO-FA: a dependency for FastAPI routes.

    Raises:
        HttpProblem: 403.
    """
    exchange_of(request.scope).require_second_factor()
