"""Single requests: whether they are answered, and how soon while something else goes on."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

PIECE = 65_536
PAUSE_SECONDS = 0.005
DEADLINE_SECONDS = 60.0


def status_of(address: str, method: str = "GET", *, deadline_seconds: float) -> int:
    """The status that a request is answered with."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.netloc, timeout=deadline_seconds)
    try:
        connection.request(method, url.path)
        return connection.getresponse().status
    finally:
        connection.close()


def fetch(address: str, method: str = "GET", *, seconds: float) -> None:
    """Read an answer and keep nothing of it; whatever is left after so many seconds is left."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.netloc, timeout=DEADLINE_SECONDS)
    until = time.monotonic() + seconds
    try:
        connection.request(method, url.path)
        answer = connection.getresponse()
        while time.monotonic() < until and answer.read(PIECE):
            pass
    finally:
        connection.close()


class Asker:
    """Asks for the same again and again, and notes how long each answer takes.

    Args:
        address: what is asked for.
    """

    def __init__(self, address: str) -> None:
        self._url = urlsplit(address)
        self._stop = threading.Event()
        self.seconds: list[float] = []

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the body runs; the last answer is waited for."""
        thread = threading.Thread(target=self._ask, name="asker")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._url.netloc, timeout=DEADLINE_SECONDS)
        is_over = False
        # However soon it is over, there is one answer.
        while not is_over:
            started = time.perf_counter()
            connection.request("GET", self._url.path)
            connection.getresponse().read()
            self.seconds.append(time.perf_counter() - started)
            is_over = self._stop.wait(PAUSE_SECONDS)
        connection.close()
