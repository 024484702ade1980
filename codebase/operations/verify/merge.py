"""Comparing what is stored with what is expected, without having either in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class Merge:
    """Compares what is stored with what is expected, both in the order of their keys.

    Args:
        stored: (key, value) in key order; of several with one key, in the order they are expected.
        compare: told (key, stored or None, expected or None) for every key on either side.
    """

    def __init__(
        self, stored: Iterator[tuple[Any, Any]], compare: Callable[[Any, Any, Any], None]
    ) -> None:
        self._stored = stored
        self._compare = compare
        self._next: tuple[Any, Any] | None = None
        self._started = False

    def _peek(self) -> tuple[Any, Any] | None:
        if not self._started:
            self._started = True
            self._next = next(self._stored, None)
        return self._next

    def expect(self, key: Any, value: object) -> None:  # noqa: ANN401 - whatever has an order
        """The next expectation; keys come in ascending order."""
        while (stored := self._peek()) is not None and stored[0] < key:
            self._compare(stored[0], stored[1], None)
            self._next = next(self._stored, None)
        if stored is not None and stored[0] == key:
            self._compare(key, stored[1], value)
            self._next = next(self._stored, None)
        else:
            self._compare(key, None, value)

    def end(self) -> None:
        """Whatever is stored beyond the last expectation was not expected."""
        while (stored := self._peek()) is not None:
            self._compare(stored[0], stored[1], None)
            self._next = next(self._stored, None)
