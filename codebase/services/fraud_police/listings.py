"""The allow and block lists: `POST` and `GET /listings`, `GET` and `DELETE /listings/{id}`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, Field, model_validator

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.foundation.clock import Clock
from codebase.model.payments.cards import CardReducer
from codebase.model.payments.fraud_listing import (
    FRAUD_LISTING,
    Listable,
    Listed,
    ListName,
    PutOnList,
    TakeOffList,
    id_of_listing,
)
from codebase.model.refusals import NotFound
from codebase.services.fraud_police.bodies import CardField, reduced
from codebase.views.payments import fraud_queries
from codebase.views.payments.fields import Fingerprint, Moment, NoCard, PlainText, key_without_card
from codebase.web.apps import ServiceApp
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.fields import FromText, Text
from codebase.web.pages import LastReference, PageSize, Size, as_json
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.personal import Personal
from codebase.web.request_body import RequestBody
from codebase.web.schemas import MayBeAbsent, example
from codebase.web.shell import LOCATION, Answer, Command, command, require_admin, require_operator

SIZE_DEFAULT = 50


class PostListing(RequestBody):
    """Whom to put on a list, up to when, and why; one of `client`, `card` and `fingerprint`."""

    model_config = example(
        list="block", client="shop", ends_at="2030-01-01T00:00:00Z", reason="stolen cards"
    )

    list: FromText[ListName]
    client: Annotated[MayBeAbsent[Text], NoCard] = None
    card: MayBeAbsent[CardField] = None
    fingerprint: MayBeAbsent[Fingerprint] = None
    ends_at: Moment
    reason: PlainText

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(each is not None for each in (self.client, self.card, self.fingerprint)) != 1:
            raise ValueError("one of client, card and fingerprint is required")
        return self

    def subject(self, reducer: CardReducer) -> tuple[Listable, str]:
        """What is listed: a client by its name, or a card by the fingerprint that stays."""
        if self.client is not None:
            return Listable.CLIENT, self.client
        if self.card is not None:
            return Listable.CARD, reduced(self.card, reducer).fingerprints[-1]
        return Listable.CARD, str(self.fingerprint)


LISTING = {
    "id": "6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
    "list": "block",
    "kind": "client",
    "value": "shop",
    "ends_at": "2030-01-01T00:00:00Z",
    "reason": "stolen cards",
}


class Listing(BaseModel):
    """A client, or a card by a fingerprint, that is on a list up to `ends_at`."""

    model_config = example(**LISTING)

    id: UUID
    list: ListName
    kind: Listable
    value: str
    ends_at: datetime
    reason: Personal[str]

    @classmethod
    def of(cls, listing_id: UUID, listed: Listed) -> Listing:
        """As it is answered."""
        return cls(
            id=listing_id,
            list=listed.list,
            kind=listed.kind,
            value=listed.value,
            ends_at=listed.ends_at,
            reason=listed.reason,
        )


class Listings(BaseModel):
    """Those that hold now, the longest first; `last_reference` leads to earlier ones."""

    model_config = example(items=[LISTING], last_reference=LISTING["id"], size=SIZE_DEFAULT)

    items: list[Listing]
    last_reference: UUID | None
    size: Annotated[PageSize, Field(examples=[SIZE_DEFAULT])]


def listing_of(row: Sequence[Any]) -> Listing:
    """A row of `fraud_queries.ONE_LISTING`, or what is the same in one of `LISTINGS`."""
    listing_id, name, kind, value, ends_at, reason = row
    return Listing(
        id=listing_id,
        list=ListName(name),
        kind=Listable(kind),
        value=value,
        ends_at=ends_at,
        reason=reason,
    )


def listings_of(rows: Sequence[Sequence[Any]], size: int) -> Listings:
    """The rows of `fraud_queries.LISTINGS`.

    Raises:
        NotFound: the page was to begin after something that is not on a list.
    """
    if not rows[0][0]:
        raise NotFound("last_reference names no listing")
    items = [listing_of(members) for _, *members, _ in rows if members[0] is not None]
    return Listings(items=items, last_reference=items[-1].id if items else None, size=size)


def add_listings(
    app: ServiceApp, bus: CommandBus, reads: ConsistentReads, reducer: CardReducer, now: Clock
) -> None:
    """The routes of the lists."""
    pages = reads.query(
        fraud_queries.LISTINGS,
        fraud_queries.LISTING_ARGUMENTS,
        categories={FRAUD_LISTING.category},
    )
    one = reads.query(
        fraud_queries.ONE_LISTING,
        fraud_queries.ONE_LISTING_ARGUMENTS,
        categories=(),
        asking_for_parked=fraud_queries.ASKING_FOR_PARKED_LISTING,
    )

    @command(
        app,
        "POST",
        "/listings",
        name="put_on_list",
        body=PostListing,
        answer=Listing,
        status=HTTPStatus.CREATED,
        summary="Put on a list",
        headers=LOCATION,
        problems={409: "`ends_at` is not to come."},
        requires=[require_admin, key_without_card],
    )
    async def put_on_list(request: Command[PostListing]) -> Answer:
        """Allow or block a client or a card; on the list already, it is until the new end."""
        body = request.body
        kind, value = body.subject(reducer)
        listing_id = id_of_listing(body.list, kind, value)
        wanted = PutOnList(
            list=body.list,
            kind=kind,
            value=value,
            ends_at=body.ends_at,
            reason=body.reason,
            now=now(),
        )
        submission = request.submission(FRAUD_LISTING, listing_id, wanted)
        # Not the body, which may hold a card's number.
        asked = {"ends_at": body.ends_at.isoformat(), "reason": body.reason}
        submission.content = Content.of(request.name, asked, {"listing": listing_id})
        outcome = await bus.execute(submission)
        location = f"/listings/{listing_id}"
        return Answer.to(outcome, Listing.of(listing_id, outcome.state.listed), Location=location)

    @command(
        app,
        "DELETE",
        "/listings/{listing_id}",
        name="take_off_list",
        status=HTTPStatus.ACCEPTED,
        summary="Take off a list",
        problems={204: "It was taken off before.", 404: "There is no such listing."},
        requires=[require_admin, key_without_card],
    )
    async def take_off_list(request: Command[None]) -> Answer:
        """Before its end."""
        outcome = await bus.execute(
            request.submission(FRAUD_LISTING, request.path["listing_id"], TakeOffList())
        )
        return Answer.to(outcome, status=None if outcome.changed else HTTPStatus.NO_CONTENT)

    @app.get(
        "/listings",
        response_model=Listings,
        dependencies=[Depends(require_operator)],
        responses=LISTS,
    )
    async def get_listings(
        request: Request, last_reference: LastReference = None, size: Size = SIZE_DEFAULT
    ) -> Response:
        """Who is on the lists now."""
        rows = await reads.fetch(request, pages, last_reference, size, now())
        return as_json(listings_of(rows, size).model_dump_json())

    @app.get(
        "/listings/{listing_id}",
        response_model=Listing,
        dependencies=[Depends(require_operator)],
        responses=NAMES_ONE,
    )
    async def get_listing(request: Request, listing_id: UUID) -> Response:
        """Who is on a list now, and up to when; 404 once that is over, or was taken off."""
        rows = await reads.fetch(request, one, listing_id, now())
        if not rows:
            raise NotFound("nobody is on a list by that id now")
        return as_json(listing_of(rows[0]).model_dump_json())
