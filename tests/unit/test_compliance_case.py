"""The rules of a case: given what happened, when a command comes, then this follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    REQUEST,
    Action,
    Command,
    Event,
    MakeRequest,
    NoteAnswer,
    NoteSent,
    Outcome,
    RequestAnswered,
    RequestMade,
    RequestSent,
    RequestTakenOver,
    TakeOver,
    case_of,
)
from codebase.model.aggregate import Claim
from codebase.model.refusals import KeyReused, NotFound, Rejected

AGENT, FIRST, SECOND = UUID(int=9), UUID(int=1), UUID(int=2)
MAKE = MakeRequest(
    request_id=FIRST, agent_id=AGENT, action=Action.BLOCK, reason="a check", requested_by="boss"
)
MADE = RequestMade(
    request_id=FIRST, agent_id=AGENT, action=Action.BLOCK, reason="a check", requested_by="boss"
)
SENT = RequestSent(request_id=FIRST, agent_id=AGENT)
ANSWER = NoteAnswer(request_id=FIRST, outcome=Outcome.REFUSED, detail="no")
ANSWERED = RequestAnswered(request_id=FIRST, agent_id=AGENT, outcome=Outcome.REFUSED, detail="no")
TAKEN_OVER = RequestTakenOver(
    request_id=FIRST,
    agent_id=AGENT,
    action=Action.BLOCK,
    reason="a check",
    requested_by="boss",
    requested_at=datetime(2025, 1, 1, tzinfo=UTC),
    sent_at=None,
    answered_at=None,
    outcome=None,
    detail=None,
)
WAS_SENT = replace(TAKEN_OVER, sent_at=datetime(2025, 1, 2, tzinfo=UTC))
WAS_ANSWERED = replace(WAS_SENT, answered_at=datetime(2025, 1, 3, tzinfo=UTC), outcome=Outcome.DONE)

RULES: dict[str, tuple[list[Event], Command, list[Event] | type[Rejected]]] = {
    "a request is made": ([], MAKE, [MADE]),
    "a second one is made beside it": (
        [MADE],
        replace(MAKE, request_id=SECOND),
        [replace(MADE, request_id=SECOND)],
    ),
    "a repeat makes none": ([MADE, SENT, ANSWERED], MAKE, []),
    "the same key for something else is refused": (
        [MADE],
        replace(MAKE, action=Action.UNBLOCK),
        KeyReused,
    ),
    "the same key for another reason is refused": ([MADE], replace(MAKE, reason=None), KeyReused),
    "it is sent": ([MADE], NoteSent(request_id=FIRST), [SENT]),
    "it is sent for the first time once": ([MADE, SENT], NoteSent(request_id=FIRST), []),
    "what has its answer is not sent": ([MADE, ANSWERED], NoteSent(request_id=FIRST), []),
    "what nobody asked for is not sent": ([MADE], NoteSent(request_id=SECOND), []),
    "it is answered": ([MADE, SENT], ANSWER, [ANSWERED]),
    "an answer may be faster than the note that it was sent": ([MADE], ANSWER, [ANSWERED]),
    "the first answer counts": ([MADE, ANSWERED], replace(ANSWER, outcome=Outcome.DONE), []),
    "an answer to nothing is refused": ([MADE], replace(ANSWER, request_id=SECOND), NotFound),
    "an answer in no case is refused": ([], ANSWER, NotFound),
    "one of before is taken over": ([], TakeOver(taken_over=TAKEN_OVER), [TAKEN_OVER]),
    "it is taken over once": ([TAKEN_OVER], TakeOver(taken_over=WAS_ANSWERED), []),
    "a repeat of what was taken over makes none": ([WAS_ANSWERED], MAKE, []),
    "a key of what was taken over is not free": (
        [WAS_ANSWERED],
        replace(MAKE, reason="another"),
        KeyReused,
    ),
    "what was taken over is sent": ([TAKEN_OVER], NoteSent(request_id=FIRST), [SENT]),
    "what was half sent is not sent for the first time": (
        [WAS_SENT],
        NoteSent(request_id=FIRST),
        [],
    ),
    "what was half sent is answered": ([WAS_SENT], ANSWER, [ANSWERED]),
    "what had its answer keeps it": ([WAS_ANSWERED], ANSWER, []),
}


@pytest.mark.parametrize("name", RULES)
def test_rules(name: str) -> None:
    happened, command, expected = RULES[name]
    state = COMPLIANCE_CASE.fold(happened)
    if isinstance(expected, list):
        assert COMPLIANCE_CASE.decide(command, state) == expected
    else:
        with pytest.raises(expected):
            COMPLIANCE_CASE.decide(command, state)


def test_a_request_is_claimed_by_the_case_that_it_is_in() -> None:
    claim = (Claim(REQUEST, str(FIRST)),)
    assert [COMPLIANCE_CASE.guards(one) for one in (MADE, TAKEN_OVER, SENT, ANSWERED)] == [
        claim,
        claim,
        (),
        (),
    ]
    assert isinstance(COMPLIANCE_CASE.refusal(REQUEST, str(FIRST)), KeyReused)


def test_an_agent_has_one_case() -> None:
    assert case_of(AGENT) == case_of(AGENT) != AGENT
    assert case_of(AGENT) != case_of(FIRST)
