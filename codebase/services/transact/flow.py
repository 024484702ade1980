"""The picture of the flow of states: how many transactions stand in each, and where they may go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from codebase.model.payments.transaction import TABLE, Status

# In units that are pixels on the narrowest screen; a page enlarges them, words as well.
WIDTH = 250
BOX_WIDTH, BOX_HEIGHT = 108, 46
GUTTER, GAP = WIDTH - 2 * BOX_WIDTH, 24
ARROW = 4
"""Room for the head of an arrow, before what it points at."""

PLACES: Mapping[Status, tuple[int, int]] = {
    Status.PENDING: (0, 0),
    Status.CLEARED: (0, 1),
    Status.PAYMENT_INITIATED: (0, 2),
    Status.PAYMENT_COMPLETE: (0, 3),
    Status.FRAUDULENT: (1, 0),
    Status.ALERTED: (1, 1),
    Status.PAYMENT_FAILED: (1, 3),
}
"""Status -> column and row."""
HEIGHT = 4 * BOX_HEIGHT + 3 * GAP

KINDS: Mapping[Status, str] = {
    Status.PENDING: "waiting",
    Status.CLEARED: "waiting",
    Status.PAYMENT_INITIATED: "waiting",
    Status.PAYMENT_COMPLETE: "good",
    Status.FRAUDULENT: "bad",
    Status.ALERTED: "bad",
    Status.PAYMENT_FAILED: "bad",
}
"""Status -> the kind of badge that it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A state; `filled` is how much of its width stands for those that are in it."""

    name: str
    kind: str
    transactions: int
    x: int
    y: int
    filled: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What the page draws: boxes, and the paths of arrows between them."""

    description: str
    boxes: Sequence[Box]
    arrows: Sequence[str]
    width: int = WIDTH
    height: int = HEIGHT
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def name_of(status: Status | str) -> str:
    """A status in a word."""
    return status.removeprefix("PAYMENT_").lower()


def flow_of(transactions: Mapping[Status, int]) -> Flow:
    """The picture of so many transactions in each state."""
    boxes = list(_boxes(transactions))
    return Flow(
        description=", ".join(f"{one.name} {one.transactions:,}" for one in boxes),
        boxes=boxes,
        arrows=list(_arrows()),
    )


def _boxes(transactions: Mapping[Status, int]) -> Iterator[Box]:
    total = max(1, sum(transactions.values()))
    for status in Status:
        x, y = _corner(status)
        its = transactions.get(status, 0)
        yield Box(
            name=name_of(status),
            kind=KINDS[status],
            transactions=its,
            x=x,
            y=y,
            # The smallest number that is not nothing can still be seen.
            filled=max(2.0, round(BOX_WIDTH * its / total, 1)) if its else 0.0,
        )


def _arrows() -> Iterator[str]:
    for status in Status:
        for following in sorted(TABLE[status]):
            yield _arrow(status, following)


def _arrow(start: Status, end: Status) -> str:
    """Down, across, or by the way that leads down between the columns."""
    (column, row), (to_column, to_row) = PLACES[start], PLACES[end]
    x, y = _corner(start)
    to_x, to_y = _corner(end)
    middle = BOX_HEIGHT // 2
    if column == to_column:
        return f"M{x + BOX_WIDTH // 2} {y + BOX_HEIGHT}V{to_y - ARROW}"
    if row == to_row:
        return f"M{x + BOX_WIDTH} {y + middle}H{to_x - ARROW}"
    # Lower than one that leads straight across.
    below = y + middle + 12
    return f"M{x + BOX_WIDTH} {below}H{WIDTH // 2}V{to_y + middle}H{to_x - ARROW}"


def _corner(status: Status) -> tuple[int, int]:
    column, row = PLACES[status]
    return column * (BOX_WIDTH + GUTTER), row * (BOX_HEIGHT + GAP)
