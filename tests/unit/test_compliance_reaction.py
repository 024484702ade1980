"""What requests cause, asked without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from codebase.engine.reactions.reaction import (
    Answer,
    Forget,
    Happened,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.model.accounts.compliance_case import RequestAnswered, RequestMade, case_of
from codebase.services.compliance.reaction import (
    AGAIN,
    BLOCK_AGENT,
    CASE,
    LONGEST_PAUSE_SECONDS,
    NOTE_ANSWER,
    NOTE_SENT,
    compliance,
)
from tests.unit.test_compliance_case import (
    AGENT,
    ANSWERED,
    FIRST,
    MADE,
    SECOND,
    SENT,
    TAKEN_OVER,
    WAS_ANSWERED,
    WAS_SENT,
)

NOW = datetime(2026, 11, 29, tzinfo=UTC)
WAIT_SECONDS = 10.0
REACTION = compliance(WAIT_SECONDS)
LATER = replace(MADE, request_id=SECOND)


def happened(*events: Any) -> list[Happened]:  # noqa: ANN401 - of the aggregate
    return [
        Happened(event=event, stream_id=case_of(AGENT), version=version, recorded_at=NOW)
        for version, event in enumerate(events, 1)
    ]


def data(request_id: UUID = FIRST, times: int = 0) -> dict[str, Any]:
    return {
        "request_id": str(request_id),
        "action": "block",
        "reason": "a check",
        "times": times,
    }


NEXT = Remind(AGAIN, NOW + timedelta(seconds=WAIT_SECONDS), {"request_id": str(FIRST), "times": 1})
SEND = Send(BLOCK_AGENT, "block", data())
SEND_LATER = Send(BLOCK_AGENT, "block", data(SECOND))
CAUSED: dict[str, tuple[list[Any], list[Any]]] = {
    "a request is sent": ([MADE], [SEND]),
    "the next for the agent waits, and sees to it that the first goes on": ([MADE, LATER], [NEXT]),
    "even when the one before is on the way": ([MADE, SENT, LATER], [NEXT]),
    "until that has its answer": ([MADE, LATER, ANSWERED], [Forget(AGAIN), SEND_LATER]),
    "an answer to the last one is the end of it": ([MADE, SENT, ANSWERED], [Forget(AGAIN)]),
    "after the end it begins anew": ([MADE, ANSWERED, LATER], [SEND_LATER]),
    "to be sent causes nothing": ([MADE, SENT], []),
    "what was taken over is sent": ([TAKEN_OVER], [SEND]),
    "so is what was half sent, once more": ([WAS_SENT], [SEND]),
    "before what was asked for since": ([WAS_SENT, LATER], [NEXT]),
    "what had its answer is not": ([WAS_ANSWERED], []),
    "nor is what is open sent again for it": (
        [MADE, replace(WAS_ANSWERED, request_id=SECOND)],
        [],
    ),
    "and nothing waits for it": ([WAS_ANSWERED, LATER], [SEND_LATER]),
}


@pytest.mark.parametrize("name", CAUSED)
def test_what_events_cause(name: str) -> None:
    events, expected = CAUSED[name]
    assert list(REACTION.after(*happened(*events))) == expected
    assert {REACTION.subject(each) for each in happened(*events)} == {AGENT}


def sent(times: int = 0, target: str = BLOCK_AGENT) -> Sent:
    return Sent(key=UUID(int=5), subject=AGENT, send=Send(target, "block", data(times=times)))


def noted(**more: str) -> dict[str, str]:
    return {"request_id": str(FIRST), **more}


def posted(times: int) -> list[Any]:
    return list(REACTION.outcome(sent(times), Answer(data={"outcome": "sent", "at": str(NOW)})))


def again(seconds: float, times: int) -> Remind:
    due_at = NOW + timedelta(seconds=seconds)
    return Remind(AGAIN, due_at, {"request_id": str(FIRST), "times": times})


def test_what_is_posted_is_noted_once_and_sent_again_after_longer_and_longer_pauses() -> None:
    assert posted(0) == [Send(CASE, NOTE_SENT, noted()), again(WAIT_SECONDS, 1)]
    assert posted(1) == [again(2 * WAIT_SECONDS, 2)]
    assert posted(3) == [again(8 * WAIT_SECONDS, 4)]
    assert posted(10**6) == [again(LONGEST_PAUSE_SECONDS, 10**6 + 1)]


def test_an_outcome_is_noted() -> None:
    for outcome in ("done", "unchanged"):
        follows = REACTION.outcome(sent(), Answer(data={"outcome": outcome}))
        assert follows == [Forget(AGAIN), Send(CASE, NOTE_ANSWER, noted(outcome=outcome))]


def test_a_refusal_is_noted_with_its_reason() -> None:
    problem = {"detail": "there is none", "type": "/problems/not-found"}
    follows = REACTION.outcome(sent(), Answer(refused="404 there is none", data=problem))
    expected = noted(outcome="refused", detail="there is none")
    assert follows == [Forget(AGAIN), Send(CASE, NOTE_ANSWER, expected)]


def test_a_request_that_an_operator_does_without_is_refused() -> None:
    follows = REACTION.outcome(sent(), Answer(refused="left out"))
    expected = noted(outcome="refused", detail="left out")
    assert follows == [Forget(AGAIN), Send(CASE, NOTE_ANSWER, expected)]


def test_a_note_causes_nothing() -> None:
    assert REACTION.outcome(sent(target=CASE), Answer(data={"outcome": "done"})) == ()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([MADE, SENT], [Send(BLOCK_AGENT, "block", data(times=3))]),
        ([MADE, SENT, LATER], [Send(BLOCK_AGENT, "block", data(times=3))]),
        ([MADE, SENT, ANSWERED], []),
        ([MADE, SENT, ANSWERED, LATER], []),
    ],
    ids=["no answer", "no answer, and others wait", "answered", "another one's turn"],
)
def test_who_waits_for_an_answer_asks_again(
    events: list[RequestMade | RequestAnswered], expected: list[Send]
) -> None:
    about: Mapping[str, Any] = {"request_id": str(FIRST), "times": 3}
    reminder = Reminder(subject=AGENT, name=AGAIN, due_at=NOW, data=about)
    assert list(REACTION.remind(reminder, REACTION.fold(happened(*events)))) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([MADE, LATER], [again(8 * WAIT_SECONDS, 4)]),
        ([MADE, SENT, LATER, ANSWERED], []),
    ],
    ids=["no answer", "answered"],
)
def test_what_is_still_to_be_done_is_not_sent_beside_itself_and_looked_at_later(
    events: list[Any], expected: list[Remind]
) -> None:
    """Somebody may do without it: then nothing of the same request is behind it."""
    about: Mapping[str, Any] = {"request_id": str(FIRST), "times": 3}
    reminder = Reminder(subject=AGENT, name=AGAIN, due_at=NOW, data=about, is_busy=True)
    assert list(REACTION.remind(reminder, REACTION.fold(happened(*events)))) == expected
