"""The rules of an account: given what happened, when a command comes, then this follows."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from codebase.model.accounts.account import (
    ACCOUNT,
    AccountClosed,
    AccountOpened,
    CloseAccount,
    Command,
    EmailUsed,
    Event,
    OpenAccount,
    Region,
)
from codebase.model.actor import Actor
from codebase.model.aggregate import Claim, Release, Vacate

ID = UUID(int=7)
ALICE, BOB, ADMIN = Actor("alice"), Actor("bob"), Actor("root", is_admin=True)
OPEN = OpenAccount(
    account_id=ID, actor=ALICE, name="Blue", email="A@Blue.example", region=Region.EMEA, vip=True
)
OPENED = AccountOpened(
    account_id=ID, client="alice", name="Blue", email="A@Blue.example", region=Region.EMEA, vip=True
)
CLOSED = AccountClosed(
    account_id=ID, client="alice", email="A@Blue.example", region=Region.EMEA, vip=True
)


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        pytest.param([], OPEN, [OPENED], id="an account is opened for whoever asks"),
        pytest.param([OPENED], OPEN, [], id="a repeat changes nothing"),
        pytest.param([OPENED, CLOSED], OPEN, [], id="a repeat opens no closed account"),
        pytest.param([OPENED], CloseAccount(actor=ALICE), [CLOSED], id="its client closes it"),
        pytest.param([OPENED], CloseAccount(actor=ADMIN), [CLOSED], id="an administrator may"),
        pytest.param([OPENED], CloseAccount(actor=BOB), [], id="to others it is not there"),
        pytest.param([OPENED, CLOSED], CloseAccount(actor=ALICE), [], id="it is closed once"),
        pytest.param([], CloseAccount(actor=ALICE), [], id="what is not there is not closed"),
    ],
)
def test_deciding(given: list[Event], when: Command, then: list[Event]) -> None:
    assert ACCOUNT.decide(when, ACCOUNT.fold(given)) == then


def test_an_account_holds_its_email_address_and_its_place_until_it_is_closed() -> None:
    held = [("account_email", "a@blue.example"), ("open_account", str(ID))]
    assert list(ACCOUNT.guards(OPENED)) == [Claim(*each) for each in held]
    assert list(ACCOUNT.guards(CLOSED)) == [
        *(Release(*each) for each in held),
        Vacate(f"agents_of/{ID}"),
    ]


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        (OPENED, "account.opened.emea.vip"),
        (replace(OPENED, vip=False, region=Region.APAC), "account.opened.apac.standard"),
        (CLOSED, "account.closed.emea.vip"),
    ],
)
def test_an_event_goes_to_those_who_follow_its_region(event: Event, topic: str) -> None:
    assert ACCOUNT.topic(event) == topic


def test_the_refusal_of_an_email_address_does_not_repeat_it() -> None:
    refusal = ACCOUNT.refusal("account_email", "a@blue.example")
    assert isinstance(refusal, EmailUsed)
    assert "blue" not in refusal.detail
