"""What goes over the wire is what uvicorn would send, byte for byte."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

import pytest
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from codebase.web.connection_answers import Answers, Cycle

DATE = (b"date", b"Sat, 28 Nov 2026 21:20:34 GMT")
LENGTH = (b"content-length", b"2")


class Wire(asyncio.Transport):
    """Keeps what is written to it, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Sent(NamedTuple):
    """What came of an answer."""

    data: bytes
    closed: bool
    is_complete: bool
    refused: type[Exception] | None


def answer(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sent_by(
    kind: type[RequestResponseCycle], messages: list[Message], *, method: str, keep_alive: bool
) -> tuple[Sent, Wire]:
    wire = Wire()

    async def scenario() -> type[Exception] | None:
        answers = Answers(wire, wire.close)
        scope: Any = {"type": "http", "method": method}
        logger = logging.getLogger("unused")
        cycle = kind(
            scope=scope,
            transport=answers,  # type: ignore[arg-type] # as the protocol has it
            flow=FlowControl(wire),
            logger=logger,
            access_logger=logger,
            access_log=False,
            default_headers=[DATE],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=answers.end,
        )
        try:
            for message in messages:
                await cycle.send(message)  # type: ignore[arg-type]
        except RuntimeError as error:
            return type(error)
        finally:
            complete.append(cycle.response_complete)
        return None

    complete: list[bool] = []
    refused = asyncio.run(scenario())
    return Sent(b"".join(wire.pieces), wire.closed, complete[0], refused), wire


ANSWERS = {
    "ordinary": [answer((b"content-type", b"text/plain"), LENGTH), body(b"ok")],
    "a text beyond ASCII": [answer((b"x", "é\t".encode()), LENGTH), body(b"ok")],
    "nothing": [answer((b"content-length", b"0"), status=404), body(b"")],
    "without a body": [answer(status=204), body(b"")],
    "without a length": [answer(), body(b"ok")],
    "its parts one by one": [answer(LENGTH), body(b"o", more=True), body(b"k")],
    "its end by itself": [answer(LENGTH), body(b"ok", more=True), body(b"")],
    "a length, and chunks": [answer(LENGTH, (b"transfer-encoding", b"chunked")), body(b"ok")],
    "in chunks": [answer((b"transfer-encoding", b"chunked")), body(b"ok")],
    "the last one": [answer(LENGTH, (b"connection", b"close")), body(b"ok")],
    "two lengths": [answer(LENGTH, (b"content-length", b"3")), body(b"ok")],
    "longer than it says": [answer(LENGTH), body(b"okay")],
    "shorter than it says": [answer(LENGTH), body(b"o")],
    "a line break in a header": [answer((b"location", b"/\r\nx: y"), LENGTH), body(b"ok")],
    "a NUL in a header": [answer((b"location", b"/\0"), LENGTH), body(b"ok")],
    "two answers": [answer(LENGTH), body(b"ok"), body(b"ok")],
}


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("method", ["PUT", "HEAD"])
@pytest.mark.parametrize("messages", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_what_uvicorn_would_send(
    messages: list[Message], method: str, *, keep_alive: bool
) -> None:
    ours, _ = sent_by(Cycle, messages, method=method, keep_alive=keep_alive)
    theirs, _ = sent_by(RequestResponseCycle, messages, method=method, keep_alive=keep_alive)
    assert ours == theirs


def test_an_ordinary_answer_takes_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise all of it would be for nothing: uvicorn's way costs half as much again."""
    monkeypatch.delattr(RequestResponseCycle, "send")
    sent, wire = sent_by(Cycle, ANSWERS["ordinary"], method="PUT", keep_alive=True)
    assert sent.is_complete
    assert len(wire.pieces) == 1
