"""Who is let through, or denied, whatever the rules say: cards and clients, until a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate
from codebase.model.refusals import Conflict, NotFound

LISTINGS = UUID("5d2b8c1e-0f6a-5c3d-8b7e-9e4f1a2c3d5b")
"""The namespace of the ids of listings."""


class ListName(StrEnum):
    """Whoever is on the first is let through, on the second denied; on both, let through."""

    ALLOW = "allow"
    BLOCK = "block"


class Listable(StrEnum):
    """What can be on a list: a card, by one of its fingerprints, or a client, by its name."""

    CARD = "card"
    CLIENT = "client"


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A card or a client is on a list, up to `ends_at`."""

    list: ListName
    kind: Listable
    value: str
    ends_at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlisted:
    """It is on the list no more."""

    list: ListName
    kind: Listable
    value: str


Event = Listed | Unlisted


@dataclass(frozen=True, kw_only=True, slots=True)
class PutOnList:
    """Put on a list, or change until when; `now` is when this is sent."""

    list: ListName
    kind: Listable
    value: str
    ends_at: datetime
    reason: str
    now: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeOffList:
    """Take off a list before its end."""


Command = PutOnList | TakeOffList


@dataclass(frozen=True, slots=True)
class State:
    """What was listed last, and whether it still is, apart from its end."""

    listed: Listed
    is_listed: bool


class EndsTooEarly(Conflict):
    """The end lies in the past."""

    problem = "ends-too-early"


def id_of_listing(list_name: ListName, kind: Listable, value: str) -> UUID:
    """The stream of a card or a client on a list."""
    return uuid5(LISTINGS, f"{list_name}\n{kind}\n{value}")


def evolve(state: State | None, event: Event) -> State:
    """What the event makes of it."""
    match event:
        case Listed():
            return State(event, is_listed=True)
        case Unlisted():
            if state is None:
                raise ValueError("nothing was listed")
            return State(state.listed, is_listed=False)
        case _:
            assert_never(event)


def decide(command: Command, state: State | None) -> list[Event]:
    """The last word on an end counts; what is not listed cannot be taken off."""
    match command:
        case PutOnList():
            if command.ends_at <= command.now:
                raise EndsTooEarly("ends_at must be to come", now=command.now.isoformat())
            wanted = Listed(
                list=command.list,
                kind=command.kind,
                value=command.value,
                ends_at=command.ends_at,
                reason=command.reason,
            )
            is_so = state is not None and state.is_listed and state.listed == wanted
            return [] if is_so else [wanted]
        case TakeOffList():
            if state is None:
                raise NotFound("no such listing")
            was = state.listed
            gone = Unlisted(list=was.list, kind=was.kind, value=was.value)
            return [gone] if state.is_listed else []
        case _:
            assert_never(command)


def topic(event: Event) -> str:
    """The routing key of an event."""
    match event:
        case Listed():
            return f"fraud_listing.listed.{event.list}"
        case Unlisted():
            return f"fraud_listing.unlisted.{event.list}"
        case _:
            assert_never(event)


FRAUD_LISTING: Aggregate[Command, Event, State] = Aggregate(
    category="fraud_listing",
    events=(Listed, Unlisted),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
