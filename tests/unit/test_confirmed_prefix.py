from __future__ import annotations

import random

from codebase.engine.messages.confirmed_prefix import ConfirmedPrefix


def test_confirms_in_any_order_move_the_prefix_only_over_what_is_complete() -> None:
    prefix = ConfirmedPrefix(checkpoint=100)
    prefix.confirm(3, multiple=False)
    prefix.confirm(2, multiple=False)
    assert prefix.position == 100
    prefix.confirm(1, multiple=False)
    assert prefix.position == 103


def test_a_multiple_confirm_covers_everything_before_it() -> None:
    prefix = ConfirmedPrefix(checkpoint=0)
    prefix.confirm(6, multiple=False)
    prefix.confirm(5, multiple=True)
    assert prefix.position == 6


def test_every_order_of_confirms_ends_at_the_last() -> None:
    shuffle = random.Random(7)  # noqa: S311 - a repeatable order
    for _ in range(50):
        tags = list(range(1, 40))
        shuffle.shuffle(tags)
        prefix = ConfirmedPrefix(checkpoint=10)
        seen = set()
        for tag in tags:
            prefix.confirm(tag, multiple=False)
            seen.add(tag)
            expected = next(n for n in range(41) if n + 1 not in seen)
            assert prefix.position == 10 + expected
