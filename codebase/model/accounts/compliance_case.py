"""What compliance has asked for about one agent, in order, and what became of each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate, Claim, Guard
from codebase.model.refusals import KeyReused, NotFound, Rejected

CASES = UUID("6b0c1c52-9d0c-5d35-8f4e-8a0f7b0f2c41")
"""The namespace of the streams, one for each agent that was ever asked about."""
REQUEST = "compliance_request"
"""The kind of claim by which a request is in one case only, and its case is found by its id."""


class Action(StrEnum):
    """What is to be done to the agent."""

    BLOCK = "block"
    UNBLOCK = "unblock"


class Outcome(StrEnum):
    """What became of a request in the end."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class RequestMade:
    """Somebody wants the agent blocked or unblocked."""

    request_id: UUID
    agent_id: UUID
    action: Action
    reason: str | None
    requested_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSent:
    """Its command is on the way, for the first time."""

    request_id: UUID
    agent_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestAnswered:
    """What became of it; `detail` says why it was refused."""

    request_id: UUID
    agent_id: UUID
    outcome: Outcome
    detail: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTakenOver:
    """A request of before there were cases, with all that was known of it."""

    request_id: UUID
    agent_id: UUID
    action: Action
    reason: str | None
    requested_by: str
    requested_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None
    outcome: Outcome | None
    detail: str | None


Event = RequestMade | RequestSent | RequestAnswered | RequestTakenOver


@dataclass(frozen=True, kw_only=True, slots=True)
class MakeRequest:
    """Ask for something; a repeat has the same id."""

    request_id: UUID
    agent_id: UUID
    action: Action
    reason: str | None
    requested_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoteSent:
    """Its command is on the way."""

    request_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class NoteAnswer:
    """What became of it was said, perhaps not for the first time."""

    request_id: UUID
    outcome: Outcome
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeOver:
    """Enter a request of before there were cases."""

    taken_over: RequestTakenOver


Command = MakeRequest | NoteSent | NoteAnswer | TakeOver


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request as it was made, and how far it is; `requested_at` if that was before its event."""

    made: RequestMade
    requested_at: datetime | None = None
    is_sent: bool = False
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Every request about one agent, by its id."""

    requests: Mapping[UUID, Request] = field(default_factory=dict)


State = Case


def case_of(agent_id: UUID) -> UUID:
    """The stream of what is asked for about an agent, whether or not there is such an agent."""
    return uuid5(CASES, str(agent_id))


def evolve(state: State | None, event: Event) -> State:
    """The case after one more event."""
    requests = state.requests if state else {}
    match event:
        case RequestMade():
            request = Request(made=event)
        case RequestTakenOver():
            request = _taken_over(event)
        case RequestSent():
            request = replace(requests[event.request_id], is_sent=True)
        case RequestAnswered():
            request = replace(requests[event.request_id], outcome=event.outcome)
        case _:
            assert_never(event)
    return Case(requests={**requests, event.request_id: request})


def _taken_over(event: RequestTakenOver) -> Request:
    made = RequestMade(
        request_id=event.request_id,
        agent_id=event.agent_id,
        action=event.action,
        reason=event.reason,
        requested_by=event.requested_by,
    )
    return Request(
        made=made,
        requested_at=event.requested_at,
        is_sent=event.sent_at is not None,
        outcome=event.outcome,
    )


def decide(command: Command, state: State | None) -> list[Event]:
    """Each request is made once, sent for the first time once, and has one answer, the first.

    Raises:
        KeyReused: the id stands for another request.
        NotFound: an answer to what nobody asked for.
    """
    requests = state.requests if state else {}
    match command:
        case MakeRequest():
            return _made(command, requests.get(command.request_id))
        case TakeOver(taken_over=event):
            return [] if event.request_id in requests else [event]
        case NoteSent():
            return _sent(requests.get(command.request_id))
        case NoteAnswer():
            return _answered(command, requests.get(command.request_id))
        case _:
            assert_never(command)


def _made(command: MakeRequest, known: Request | None) -> list[Event]:
    made = RequestMade(
        request_id=command.request_id,
        agent_id=command.agent_id,
        action=command.action,
        reason=command.reason,
        requested_by=command.requested_by,
    )
    if known is None:
        return [made]
    if known.made != made:
        raise key_reused("")
    return []


def _sent(known: Request | None) -> list[Event]:
    if known is None or known.is_sent or known.outcome:
        return []
    return [RequestSent(request_id=known.made.request_id, agent_id=known.made.agent_id)]


def _answered(command: NoteAnswer, known: Request | None) -> list[Event]:
    if known is None:
        raise NotFound("nobody asked for this")
    if known.outcome:
        return []
    return [
        RequestAnswered(
            request_id=command.request_id,
            agent_id=known.made.agent_id,
            outcome=command.outcome,
            detail=command.detail,
        )
    ]


def guards(event: Event) -> tuple[Guard, ...]:
    """A request is about one agent: with the same key nobody asks for something about another."""
    if isinstance(event, RequestMade | RequestTakenOver):
        return (Claim(REQUEST, str(event.request_id)),)
    return ()


def topic(event: Event) -> str:
    """The routing key of an event."""
    match event:
        case RequestMade():
            return f"compliance_case.requested.{event.action}"
        case RequestSent():
            return "compliance_case.sent"
        case RequestAnswered():
            return f"compliance_case.answered.{event.outcome}"
        case RequestTakenOver():
            return f"compliance_case.taken_over.{event.action}"
        case _:
            assert_never(event)


def key_reused(_request_id: str) -> Rejected:
    """The refusal of a key that stands for another request."""
    return KeyReused("this idempotence key already stands for another request")


COMPLIANCE_CASE: Aggregate[Command, Event, State] = Aggregate(
    category="compliance_case",
    events=(RequestMade, RequestSent, RequestAnswered, RequestTakenOver),
    decide=decide,
    evolve=evolve,
    guards=guards,
    topic=topic,
    refusals={REQUEST: key_reused},
)
