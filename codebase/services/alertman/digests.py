"""When a client's alerts go out: the first at once, and soon after that what has come together.

At most three mails about a client begin in any ten minutes, at least 30 s apart, and none while the
one before has not gone: what comes meanwhile waits, or all of it would go together in the end.
All times are those of the log, but for when a mail went.
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
while nothing waits; `going`: what goes because of the last event; `open`: when the mails were to go
of which nobody knows yet what became of them."""
NOTHING: State = {"mails": [], "held": [], "due": None, "going": [], "open": []}


def added(state: State | None, alert: Mapping[str, Any], now: datetime) -> State:
    """One more alert: it goes at once, or waits.

    Args:
        state: None before a client's first one.
        alert: as JSON knows it.
        now: when it was raised.
    """
    # A state that was stored before lacks what has been added since.
    state = {**NOTHING, **(state or {})}
    held = [*state["held"], alert]
    known = state["due"]
    due = datetime.fromisoformat(known) if known else earliest(state["mails"], now)
    # What is due by now is in the hands of its reminder.
    is_first = len(held) == 1 and not state["open"]
    if (is_first and due <= now) or len(held) >= TOGETHER_MAX:
        return {**begun(state, now), "going": held}
    return {**state, "held": held, "due": due.isoformat(), "going": []}


def begun(state: State, now: datetime) -> State:
    """A mail with all that is held is to go."""
    return {
        "mails": _with(state["mails"], now),
        "held": [],
        "due": None,
        "going": [],
        "open": [*state.get("open", ()), now.isoformat()],
    }


def may_go(state: State, due: str | None) -> bool:
    """Whether a digest may: there is something in it, and the mail before it has gone.

    Args:
        state: of the client.
        due: when it was to go by whoever asks, which may have changed since; None: nobody knows.
    """
    return bool(state["held"]) and not state.get("open") and due in {None, state["due"]}


def over(state: State, counted_at: str, went_at: datetime | None) -> State:
    """It is known what became of a mail.

    Args:
        state: before that.
        counted_at: when it was to go.
        went_at: when it went, from which the next ones are reckoned; None: it told nobody.
    """
    still_open = [*state.get("open", ())]
    if counted_at in still_open:
        still_open.remove(counted_at)
    mails, due = state["mails"], state["due"]
    if went_at is not None:
        went = (went_at.isoformat() if each == counted_at else each for each in mails)
        mails = sorted(went, key=datetime.fromisoformat)
    if due:
        due = earliest(mails, datetime.fromisoformat(due)).isoformat()
    return {**state, "mails": mails, "due": due, "open": still_open}


def given_back(state: State, counted_at: datetime, now: datetime) -> State:
    """A mail that had been counted did not go, because all that it told of is silenced."""
    mails = [each for each in state["mails"] if datetime.fromisoformat(each) != counted_at]
    due = state["due"]
    if due:
        due = min(datetime.fromisoformat(due), earliest(mails, now)).isoformat()
    return {**state, "mails": mails, "due": due, "going": []}


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
