"""A connection that sends together what is published together, and takes in confirms together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Any

import pika

CONFIRM = Struct(">BHIHHQBB")
"""A frame with `basic.ack`: kind, channel, length, class, method, tag, multiple, end."""
KIND_LENGTH_CLASS_METHOD = (1, 13, 60, 80)
"""What all confirms have in common."""


class BatchingConnection(pika.SelectConnection):  # type: ignore[misc]  # pika is not typed
    """Hands what is published together to the socket together, and confirms to whoever waits.

    pika sends each of a message's three frames on its own, and the system calls cost more than all
    the rest of publishing. A message that nobody has subscribed to is confirmed in a frame of its
    own, and each takes pika as long as encoding a message. This reaches into pika (pinned): where
    it no longer did, publishing would only be slower.
    """

    _pieces: list[bytes] | None = None
    _confirming: int | None = None
    _take_confirm: Callable[..., None]

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is published inside leaves at the end, in pieces of moderate size."""
        self._pieces = []
        try:
            yield
        finally:
            pieces, self._pieces = self._pieces, None
            if pieces:
                self._adapter_emit_data(b"".join(pieces))

    @property
    def body_max(self) -> int:
        """How many bytes of a body fit into one frame."""
        return int(self._body_max_length)

    def send(self, frames: bytes) -> None:
        """Send frames that were made elsewhere, in their place among what is published."""
        self._output_marshaled_frames([frames])

    def take_confirms_together(self, channel: int, take: Callable[..., None]) -> None:
        """Of confirms that have come in together only the last takes pika's way.

        Args:
            channel: its number.
            take: called with the tag of each other, and with `multiple`.
        """
        self._confirming, self._take_confirm = channel, take

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._pieces is None:
            super()._adapter_emit_data(data)
        else:
            self._pieces.append(data)

    def _read_frame(self) -> Any:  # noqa: ANN401 - pika's
        run = self._confirms_ahead()
        for tag, multiple in run[:-1]:
            self._take_confirm(tag, multiple=multiple)
        if len(run) > 1:
            self._trim_frame_buffer(CONFIRM.size * (len(run) - 1))
        return super()._read_frame()

    def _confirms_ahead(self) -> list[tuple[int, bool]]:
        """The confirms with which begins what has come in."""
        whole = len(self._frame_buffer) // CONFIRM.size * CONFIRM.size
        run = []
        for kind, channel, length, class_id, method, tag, multiple, _end in CONFIRM.iter_unpack(
            memoryview(self._frame_buffer)[:whole]
        ):
            common = (kind, length, class_id, method)
            if channel != self._confirming or common != KIND_LENGTH_CLASS_METHOD:
                break
            run.append((tag, bool(multiple)))
        return run
