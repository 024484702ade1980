"""Which of the messages in flight have certainly arrived."""

from __future__ import annotations


class ConfirmedPrefix:
    """How far publishing is confirmed without a hole; confirms come in any order.

    Delivery tags of a channel count from 1, as positions count on from the checkpoint.
    """

    def __init__(self, checkpoint: int) -> None:
        self._base = checkpoint
        self._beyond: set[int] = set()
        self.position = checkpoint

    def confirm(self, delivery_tag: int, *, multiple: bool) -> None:
        """Take in one confirm, for one event or for all up to it."""
        position = self._base + delivery_tag
        if multiple:
            self.position = max(self.position, position)
            self._beyond = {each for each in self._beyond if each > self.position}
        else:
            self._beyond.add(position)
        while self.position + 1 in self._beyond:
            self.position += 1
            self._beyond.remove(self.position)
