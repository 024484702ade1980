#!/usr/bin/env python3
"""Stands in for FluentD: its Forward protocol, and the files that config/fluentd/fluent.conf names.

Of the protocol it knows the mode that the services use: single messages, acknowledged. Each record
becomes a line of `<service>/<day>.log`, and of `errors/<day>.log` if it is worth a look.
"""

from __future__ import annotations

import json
import signal
import socketserver
import struct
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgpack

LOG = Path("/fluentd/log")
PORT = 24224
TROUBLE = {"WARNING", "ERROR", "CRITICAL"}
WRITING = threading.Lock()


class Connection(socketserver.BaseRequestHandler):
    """One service's process."""

    def handle(self) -> None:
        """Write what comes, and say that it is written, until the other side closes."""
        messages = msgpack.Unpacker()
        while data := self.request.recv(65_536):
            messages.feed(data)
            for tag, moment, record, option in messages:
                write(tag, moment, record)
                self.request.sendall(msgpack.packb({"ack": option["chunk"]}))


def write(tag: str, moment: msgpack.ExtType, record: dict[str, object]) -> None:
    """Append one record to the files that it belongs to."""
    seconds, _nanoseconds = struct.unpack(">II", moment.data)
    day = datetime.fromtimestamp(seconds, UTC).date().isoformat()
    folders = [tag.split(".")[1], *(["errors"] if record.get("level") in TROUBLE else [])]
    line = json.dumps({**record, "tag": tag})
    with WRITING:
        for folder in folders:
            (LOG / folder).mkdir(exist_ok=True)
            with (LOG / folder / f"{day}.log").open("a") as file:
                file.write(f"{line}\n")


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(("0.0.0.0", PORT), Connection).serve_forever()  # noqa: S104 - reached by name only
