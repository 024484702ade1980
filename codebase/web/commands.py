"""Commands over HTTP: read strictly, answered idempotently, on the shortest path there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from codebase.engine.commands.fingerprint import IDEMPOTENCE_KEY, Content
from codebase.engine.commands.submission import Along, Given, Outcome, Submission
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.errors import invalid
from codebase.foundation.observability.telemetry import known_traceparent
from codebase.foundation.validation import adapter, explain, validate
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate
from codebase.web import consistency_token
from codebase.web.auth import Caller
from codebase.web.exchange import Exchange, HeaderList, exchange_of
from codebase.web.query_string import read_query
from codebase.web.request_body import read_body, require_json

Body = TypeVar("Body")

JSON_HEADER = (b"content-type", b"application/json")


# Not frozen, though never changed: a frozen dataclass takes four times as long to make.
@dataclass(slots=True)
class Command(Generic[Body]):
    """A command as it came in: validated, and with everything the shell knows about it.

    `name` is what the command is known by; `body` is None when the route takes none; `path` holds
    the validated parts of the path; `query` those of the query string, None when the route has
    none; `seen` is what the client has seen of this log, as its
    consistency token says.
    """

    name: str
    body: Body
    path: Mapping[str, Any]
    exchange: Exchange
    seen: consistency_token.Positions
    query: Any = None

    @property
    def caller(self) -> Caller:
        """Who sent it."""
        return self.exchange.caller

    @property
    def actor(self) -> Actor:
        """Who sent it, as the rules of the model know them."""
        return Actor(self.caller.name, self.caller.is_admin)

    @property
    def request_id(self) -> str:
        """Names this attempt in logs, in problems and in the events that it leads to."""
        return self.exchange.request_id

    @property
    def idempotence_key(self) -> str | None:
        """The `Idempotency-Key` header, bare or quoted as the IETF draft has it.

        Raises:
            InvalidInputError: it is not what a key may be.
        """
        sent = self.exchange.headers.get(b"idempotency-key")
        if sent is None:
            return None
        key = sent.decode("latin-1").strip().removeprefix('"').removesuffix('"')
        if not IDEMPOTENCE_KEY.fullmatch(key):
            raise invalid("Idempotency-Key", "must have 1 to 255 printable ASCII characters")
        return key

    @property
    def content(self) -> Content:
        """What the client asks for: tells a repeat from another command with the same key."""
        return Content.of(self.name, self.body, self.path)

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context, if the client sent one."""
        sent = self.exchange.headers.get(b"traceparent")
        if sent is None:
            return None
        return known_traceparent(sent.decode("latin-1"))

    def id_of_creation(self, category: str) -> UUID:
        """The stream that this command creates: the same for a repeat, new when it has no key."""
        key = self.idempotence_key
        return uuid4() if key is None else creation_stream_id(self.caller.name, category, key)

    def submission(
        self,
        aggregate: Aggregate[Any, Any, Any],
        stream_id: UUID,
        command: Any,  # noqa: ANN401 - as `aggregate.decide` takes it
        *,
        creates: bool = False,
        given: Given | None = None,
        along: Along | None = None,
    ) -> Submission:
        """What the command bus gets; for the arguments see `Submission`."""
        return Submission(
            aggregate=aggregate,
            stream_id=stream_id,
            command=command,
            idempotence_key=self.idempotence_key,
            content=self.content,
            actor=self.actor,
            command_id=self.request_id,
            traceparent=self.traceparent,
            creates=creates,
            given=given,
            along=along,
        )


@dataclass(slots=True)
class Answer:
    """What a command is answered with.

    Args:
        content: the body, as JSON text or as a model; None for an answer without a body.
        status: HTTP status; None for the one that the route was declared with.
        headers: further headers.
        positions: the position of the log, partition by partition, that the client has now seen.
        replayed: whether this is the answer to a repeat.
    """

    content: bytes | BaseModel | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    positions: consistency_token.Positions = field(default_factory=dict)
    replayed: bool = False

    @classmethod
    def to(
        cls,
        outcome: Outcome,
        content: BaseModel | None = None,
        *,
        status: int | None = None,
        **headers: str,
    ) -> Answer:
        """What is told of an outcome: its positions, and whether it is a repeat's."""
        return cls(content, status, headers, outcome.positions, outcome.replayed)


Handler = Callable[[Command[Any]], Awaitable[Answer]]
Requirement = Callable[[Request], object]
"""A dependency of FastAPI's routes that looks at a request, and raises if it does not like it."""


class CommandEndpoint:
    """Reads and validates one kind of command, hands it over, and sends the answer."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        body: type[BaseModel] | None,
        path_types: Mapping[str, type],
        status: int,
        *,
        log: consistency_token.Log | None,
        body_is_optional: bool = False,
        query: type[BaseModel] | None = None,
        requires: Sequence[Requirement] = (),
    ) -> None:
        self.name = name
        self._query = query
        self._log = log
        self._handler = handler
        self._body = body
        self._body_is_optional = body_is_optional
        self._path_types = path_types
        self._requires = requires
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Answer one request that Starlette has routed here."""
        await self.answer(exchange_of(scope), scope, receive)

    async def answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        """Answer one request.

        Raises:
            Exception: whatever keeps it from being answered; the shell turns it into a problem.
        """
        partitions = len(self._log.extent.positions) if self._log is not None else 0
        sent = consistency_token.taken_from(exchange, scope["headers"], partitions)
        # Before the body: whoever may not send it is not told what is wrong with it.
        for requirement in self._requires:
            requirement(Request(scope))
        body = None
        if self._body is not None:
            body = await self._read(self._body, exchange.headers, receive)
        path = self._path(scope) if self._path_types else {}
        seen = consistency_token.NOTHING_SEEN
        if self._log is not None and sent is not consistency_token.NOTHING_SENT:
            seen = await consistency_token.own(self._log, sent)
        asked = None if self._query is None else read_query(self._query, scope["query_string"])
        command = Command(self.name, body, path, exchange, seen.positions, asked)
        answer = await self._handler(command)
        content = _rendered(answer.content)
        status = self._status if answer.status is None else answer.status
        token = consistency_token.token_after(self._log, seen, answer.positions).encode()
        if self._log is not None:
            written_to = self._log.extent.log_id
            exchange.last_written.note(exchange.caller.name, written_to, answer.positions)
        exchange.cookie = b"Consistency-Token=" + token + consistency_token.COOKIE_ATTRIBUTES
        await exchange.reply(status, _headers(answer, token, content), content)

    async def _read(
        self, kind: type[BaseModel], headers: Mapping[bytes, bytes], receive: Receive
    ) -> BaseModel:
        if not self._body_is_optional:
            require_json(headers)
            return validate(kind, await read_body(receive))
        sent = await read_body(receive)
        if not sent:
            return kind()
        require_json(headers)
        return validate(kind, sent)

    def _path(self, scope: Scope) -> dict[str, Any]:
        sent = scope["path_params"]
        return {
            name: _path_value(name, kind, sent[name]) for name, kind in self._path_types.items()
        }


def _rendered(content: bytes | BaseModel | None) -> bytes:
    if isinstance(content, BaseModel):
        return content.__pydantic_serializer__.to_json(content)
    return content or b""


def _headers(answer: Answer, token: bytes, content: bytes) -> HeaderList:
    is_json = content and "Content-Type" not in answer.headers
    headers = [JSON_HEADER] if is_json else []
    headers.append((consistency_token.HEADER, token))
    if answer.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    for name, value in answer.headers.items():
        headers.append((name.lower().encode(), value.encode("latin-1")))
    return headers


def _path_value(name: str, kind: type, text: str) -> Any:  # noqa: ANN401 - whatever `kind` is
    if "\0" in text:
        raise invalid(name, "must be text without NUL")
    try:
        return adapter(kind).validate_python(text)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise explain([{**detail, "loc": (name,)} for detail in details]) from None
