"""When a client's alerts go out: the first at once, and soon after that what has come together.

At most three mails about a client begin in any ten minutes, at least 30 s apart. All times are
those of the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

MAILS_MAX = 3
WITHIN = timedelta(minutes=10)
APART = timedelta(seconds=30)
TOGETHER_MAX = 1000
"""More than that do not wait for each other: a state and a mail have an end."""

State = Mapping[str, Any]
"""`mails`: when the last ones went; `held`: what waits for the digest; `due`: when that goes, None
while nothing waits; `going`: what goes because of the last event."""


def added(state: State | None, alert: Mapping[str, Any], now: datetime) -> State:
    """One more alert: it goes at once, or waits.

    Args:
        state: None before a client's first one.
        alert: as JSON knows it.
        now: when it was raised.
    """
    mails = [] if state is None else state["mails"]
    held = [*([] if state is None else state["held"]), alert]
    due = datetime.fromisoformat(state["due"]) if state and state["due"] else earliest(mails, now)
    # What is due by now is in the hands of its reminder.
    is_first = len(held) == 1
    if (is_first and due <= now) or len(held) >= TOGETHER_MAX:
        return {"mails": _with(mails, now), "held": [], "due": None, "going": held}
    return {"mails": mails, "held": held, "due": due.isoformat(), "going": []}


def emptied(state: State, now: datetime) -> State:
    """The digest has gone."""
    mails = _with(state["mails"], now) if state["held"] else state["mails"]
    return {"mails": mails, "held": [], "due": None, "going": []}


def due_at(state: State) -> datetime:
    """When the digest goes, in which something waits."""
    return datetime.fromisoformat(state["due"])


def earliest(mails: Sequence[str], now: datetime) -> datetime:
    """The first moment from `now` on at which a mail may go, after those that went."""
    times = [datetime.fromisoformat(each) for each in mails]
    bounds = [now]
    if times:
        bounds.append(times[-1] + APART)
    if len(times) == MAILS_MAX:
        bounds.append(times[0] + WITHIN)
    return max(bounds)


def _with(mails: Sequence[str], now: datetime) -> list[str]:
    return [*mails, now.isoformat()][-MAILS_MAX:]
