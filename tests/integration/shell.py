"""A small service behind the real shell and the real server, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import uvloop
from fastapi import FastAPI, Request
from pydantic import BaseModel

from codebase.foundation.settings import Settings
from codebase.model.money import Currency
from codebase.web.consistency_token import Log
from codebase.web.fields import Amount, FromText
from codebase.web.request_body import RequestBody
from codebase.web.shell import (
    Answer,
    Check,
    Command,
    assemble,
    caller_of,
    command,
    require_admin,
    require_two_fa,
    service_app,
    serving,
)
from tests.patience import PATIENCE_SECONDS, UNHURRIED

KEY = "0b0b7e0a-97c0-4f0b-8b0e-1a6a3d0b6b7c"
ORDER = {"currency": "USD", "amount": "1.50", "key": KEY}


class PutOrder(RequestBody):
    """An order."""

    currency: FromText[Currency]
    amount: Amount
    key: FromText[UUID]


class Told(BaseModel):
    """What the handler was given."""

    caller: str
    amount: str
    request_id: str
    idempotence_key: str | None
    traceparent: str | None
    seen: dict[int, int]
    content: str


class Gate:
    """Holds a handler until the test opens it, and tells the test when one has arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.arrived.set()
        await self.opened.wait()


def small_service(
    gate: Gate | None = None,
    *,
    title: str = "small",
    failure: Exception | None = None,
    checks: Mapping[str, Check] | None = None,
    log: Log | None = None,
) -> FastAPI:
    """A service with a route of every kind."""
    app = service_app(title, checks=checks or {}, log=log)

    @command(
        app,
        "PUT",
        "/order",
        name="put_order",
        body=PutOrder,
        answer=Told,
        problems={409: "No room."},
    )
    async def put_order(request: Command[PutOrder]) -> Answer:
        """Place an order."""
        if gate is not None:
            await gate.pass_through()
        if failure is not None:
            raise failure
        told = Told(
            caller=request.caller.name,
            amount=str(request.body.amount),
            request_id=request.request_id,
            idempotence_key=request.idempotence_key,
            traceparent=request.traceparent,
            seen=dict(request.seen),
            content=request.content.text.decode(),
        )
        return Answer(told, headers={"Location": "/orders/1"}, positions={0: 7}, replayed=True)

    @command(app, "DELETE", "/orders/{order_id}", name="delete_order", status=202)
    async def delete_order(request: Command[None]) -> Answer:
        """Take an order back."""
        request.caller.require_admin()
        return Answer(json.dumps({"id": str(request.path["order_id"])}).encode())

    @app.get("/orders")
    async def get_orders(request: Request, size: int = 10) -> dict[str, Any]:
        """A page."""
        return {"size": size, "caller": caller_of(request).name}

    @app.get("/large")
    async def get_large() -> str:
        """More than any socket buffer holds."""
        return "x" * 30_000_000

    @app.post("/erase")
    async def erase(request: Request) -> dict[str, Any]:
        """For administrators with a second factor."""
        require_admin(request)
        require_two_fa(request)
        return {}

    @app.get("/bug")
    async def bug() -> None:
        """Fails unexpectedly, with a secret in its hands."""
        raise ValueError("4111111111111111")

    return app


class Reply(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.body)


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Reply:
        """The next answer on this connection."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.rstrip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(status_line.split()[1]), headers, body)

    async def ends(self) -> bytes:
        """Whatever still comes until the server closes the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


class Server:
    """A running server and its port."""

    def __init__(self, port: int) -> None:
        self.port = port

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        async with self.client() as client:
            client.send(request(method, path, body, headers))
            return await client.reply()


def request(
    method: str,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a request; a body is JSON unless its headers say otherwise."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    fields = {"Host": "127.0.0.1"}
    if content is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    lines = [f"{name}: {value}" for name, value in (fields | dict(headers or {})).items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + (content or b"")


@asynccontextmanager
async def running(apps: list[FastAPI], port: int, **settings: object) -> AsyncIterator[Server]:
    """The apps behind the shell, on a real port."""
    configured = Settings(**(UNHURRIED | settings))  # type: ignore[arg-type]
    async with serving(assemble(apps, configured), configured, port) as bound:
        yield Server(bound)


def in_time(
    scenario: Callable[[], Coroutine[Any, Any, None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run a scenario on the event loop that services run on, or another; patience has an end."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scenario()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(bounded())
