"""A client opens an account in a region; closing it takes its agents away as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate, Claim, Guard, Release, Vacate
from codebase.model.refusals import Conflict, NotFound, Rejected

ACCOUNT_EMAIL = "account_email"
OPEN_ACCOUNT = "open_account"
AGENTS_OF = "agents_of"


class Region(StrEnum):
    """Where an account is looked after."""

    EMEA = "emea"
    NAM = "nam"
    APAC = "apac"


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class AccountOpened:
    """The account stands, and its e-mail address belongs to it."""

    account_id: UUID
    client: str
    name: str
    email: str
    region: Region
    vip: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountClosed:
    """The account is gone, its agents with it, and its e-mail address is free again."""

    account_id: UUID
    client: str
    email: str
    region: Region
    vip: bool


Event = AccountOpened | AccountClosed


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenAccount:
    """Open an account for the actor."""

    account_id: UUID
    actor: Actor
    name: str
    email: str
    region: Region
    vip: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseAccount:
    """Close the account, if it is there and within the actor's reach."""

    actor: Actor


Command = OpenAccount | CloseAccount


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An account, open or closed."""

    opened: AccountOpened
    is_closed: bool = False

    def is_open_to(self, actor: Actor) -> bool:
        """Whether the actor finds an open account here."""
        return not self.is_closed and actor.may_act_for(self.opened.client)


State = Account


class EmailUsed(Conflict):
    """The e-mail address belongs to somebody else."""

    problem = "email-used"


def email_key(email: str) -> str:
    """What makes two e-mail addresses the same one: letter case does not count."""
    return email.lower()


def account_not_found(account_id: UUID | str) -> Rejected:
    """There is no such account, or none within the sender's reach."""
    return NotFound(f"Account {account_id} not found")


def agents_of(account_id: UUID) -> str:
    """The kind of claim by which each agent of an account is known as such."""
    return f"{AGENTS_OF}/{account_id}"


def evolve(state: State | None, event: Event) -> State:
    """The account after one more event."""
    match event:
        case AccountOpened():
            return Account(opened=event)
        case AccountClosed():
            assert state is not None, "only an open account is closed"  # noqa: S101 - an invariant
            return replace(state, is_closed=True)
        case _:
            assert_never(event)


def decide(command: Command, state: State | None) -> list[Event]:
    """Open an account once; close it once."""
    match command, state:
        case OpenAccount(), None:
            return [
                AccountOpened(
                    account_id=command.account_id,
                    client=command.actor.name,
                    name=command.name,
                    email=command.email,
                    region=command.region,
                    vip=command.vip,
                )
            ]
        case CloseAccount(actor=actor), Account(opened=opened) if state.is_open_to(actor):
            return [
                AccountClosed(
                    account_id=opened.account_id,
                    client=opened.client,
                    email=opened.email,
                    region=opened.region,
                    vip=opened.vip,
                )
            ]
        case _:
            return []


def guards(event: Event) -> Sequence[Guard]:
    """An e-mail address belongs to one account; a closed account has no agents."""
    own = str(event.account_id)
    email = email_key(event.email)
    match event:
        case AccountOpened():
            return (Claim(ACCOUNT_EMAIL, email), Claim(OPEN_ACCOUNT, own))
        case AccountClosed():
            return (
                Release(ACCOUNT_EMAIL, email),
                Release(OPEN_ACCOUNT, own),
                Vacate(agents_of(event.account_id)),
            )
        case _:
            assert_never(event)


def topic(event: Event) -> str:
    """The routing key of an event."""
    happened = "opened" if isinstance(event, AccountOpened) else "closed"
    return f"account.{happened}.{event.region}.{'vip' if event.vip else 'standard'}"


def owner(state: State) -> str:
    """The client that opened the account."""
    return state.opened.client


def email_used(_email: str) -> Rejected:
    """The refusal of an e-mail address that another account has."""
    return EmailUsed("another account has this e-mail address")


ACCOUNT: Aggregate[Command, Event, State] = Aggregate(
    category="account",
    events=(AccountOpened, AccountClosed),
    decide=decide,
    evolve=evolve,
    guards=guards,
    topic=topic,
    owner=owner,
    refusals={ACCOUNT_EMAIL: email_used},
)
