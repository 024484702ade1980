"""A parcel waits in a locker; a locker holds one parcel, and the floor bears so much weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from codebase.model.aggregate import Aggregate, Claim, Guard, Release, Spend
from codebase.model.refusals import Conflict, NotFound, Rejected

LOCKER = "locker"
WEIGHT = "weight_kg"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParcelStored:
    parcel_id: UUID
    client: str
    locker: str
    weight_kg: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class ParcelTaken:
    parcel_id: UUID
    locker: str


Event = ParcelStored | ParcelTaken


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreParcel:
    parcel_id: UUID
    client: str
    locker: str
    weight_kg: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeParcel:
    parcel_id: UUID


Command = StoreParcel | TakeParcel


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    stored: ParcelStored
    is_taken: bool = False


def evolve(state: Parcel | None, event: Event) -> Parcel:
    match event, state:
        case ParcelStored(), None:
            return Parcel(stored=event)
        case ParcelTaken(), Parcel():
            return Parcel(stored=state.stored, is_taken=True)
        case _:
            raise AssertionError("a parcel is stored once, and then taken")


def decide(command: Command, state: Parcel | None) -> list[Event]:
    match command, state:
        case StoreParcel(), None:
            return [
                ParcelStored(
                    parcel_id=command.parcel_id,
                    client=command.client,
                    locker=command.locker,
                    weight_kg=command.weight_kg,
                )
            ]
        case TakeParcel(), None:
            raise NotFound("there is no such parcel")
        case TakeParcel(), Parcel(is_taken=False):
            return [ParcelTaken(parcel_id=command.parcel_id, locker=state.stored.locker)]
        case _:
            return []


def guards(event: Event) -> Sequence[Guard]:
    match event:
        case ParcelStored():
            return Claim(LOCKER, event.locker), Spend(WEIGHT, event.weight_kg)
        case ParcelTaken():
            return (Release(LOCKER, event.locker),)
        case _:
            assert_never(event)


def topic(event: Event) -> str:
    return "parcel.stored" if isinstance(event, ParcelStored) else "parcel.taken"


def locker_in_use(_value: str) -> Rejected:
    return Conflict("the locker is in use")


def too_heavy(left: str) -> Rejected:
    return Conflict(f"the floor bears {left} kg more", left_kg=left)


PARCEL: Aggregate[Command, Event, Parcel] = Aggregate(
    category="parcel",
    events=(ParcelStored, ParcelTaken),
    decide=decide,
    evolve=evolve,
    guards=guards,
    topic=topic,
    refusals={LOCKER: locker_in_use, WEIGHT: too_heavy},
)
