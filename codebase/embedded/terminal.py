"""What the operator of an embedded run reads."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time

_QUIET_SECONDS = 60.0
_SENTENCE_MAX = 200


class Terminal:
    """Sentences for the operator, whole lines even from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_said: dict[str, float] = {}

    def say(self, sentence: str) -> None:
        """Print a line; a terminal that has gone away is no reason to stop."""
        with self._lock, contextlib.suppress(OSError):
            sys.stdout.write(f"orderly: {sentence}\n")
            sys.stdout.flush()

    def say_once_a_minute(self, sentence: str) -> None:
        """Print a line unless the same one was printed within the last minute."""
        now = time.monotonic()
        with self._lock:
            recent = {s: at for s, at in self._last_said.items() if now - at < _QUIET_SECONDS}
            self._last_said = {**recent, sentence: recent.get(sentence, now)}
        if sentence not in recent:
            self.say(sentence)

    def show_error(self, name: str, line: bytes) -> None:
        """Print what a line of a service's log reports as an error, and nothing of other lines."""
        sentence = _error_in(line)
        if sentence is not None:
            self.say_once_a_minute(f"{name}: {sentence}")

    def complain(self, sentence: str) -> None:
        """Print a line on standard error."""
        with self._lock, contextlib.suppress(OSError):
            sys.stderr.write(f"orderly: {sentence}\n")


def _error_in(line: bytes) -> str | None:
    """The error that a service's log line reports, or None."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or str(entry.get("level")).upper() not in {"ERROR", "CRITICAL"}:
        return None
    return str(entry.get("event") or entry.get("message"))[:_SENTENCE_MAX]
