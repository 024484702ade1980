"""A payment on its way in: read, reduced, written, and waited for."""

from __future__ import annotations

import asyncio
from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Outcome, Submission
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.failpoints import failpoint
from codebase.model.payments.cards import Card, CardReducer
from codebase.model.payments.transaction import (
    DECIDED,
    TRANSACTION,
    RequestTransaction,
    TransactionRequested,
)
from codebase.model.refusals import KeyReused
from codebase.services.transact.bodies import PostTransaction
from codebase.services.transact.waiting import Waiting
from codebase.views.payments.fields import refuse_elsewhere
from codebase.views.payments.look import look_at
from codebase.web.shell import Command

NAME = "transact"
"""What the command is known by, in fingerprints that are stored."""
WAIT_SECONDS = 0.25
"""How long a request waits for the end of its transaction."""
LOOK_SECONDS = 0.1
"""And how long it then looks at the log: together less than 400 ms."""


class Taking:
    """Takes payments.

    Args:
        bus: writes them.
        reducer: of card numbers.
        waiting: hears what becomes of them.
        max_age_seconds: how long they may wait to be paid.
    """

    def __init__(
        self,
        bus: CommandBus,
        reducer: CardReducer,
        waiting: Waiting,
        *,
        max_age_seconds: float,
    ) -> None:
        self._bus = bus
        self._reducer = reducer
        self._waiting = waiting
        self._max_age_seconds = max_age_seconds

    async def take(self, request: Command[PostTransaction]) -> Outcome:
        """Have it written, and wait for its end; the outcome says how it stands.

        Raises:
            InvalidInputError: the card's number stands where it would be kept.
            Rejected: the key stands for another payment.
            ServiceUnavailable: the log did not answer in time.
        """
        number = request.body.payment.card
        refuse_elsewhere(
            number, {"order.id": request.body.order.id, "Idempotency-Key": request.idempotence_key}
        )
        card = self._reducer.reduce(number)
        submission = self._submission(request, card)
        with self._waiting.for_end_of(submission.stream_id) as end:
            outcome = await self._bus.execute(submission)
            failpoint("transact_after_append")
            refuse_another_card(outcome, card)
            now = await look_at(self._bus, submission.stream_id) if outcome.replayed else outcome
            if now.state.status not in DECIDED:
                now = await self._end(end, now)
        now.replayed = outcome.replayed
        return now

    async def _end(self, end: asyncio.Future[Outcome], so_far: Outcome) -> Outcome:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await end
        except TimeoutError:
            return await self._last_look(so_far)

    async def _last_look(self, so_far: Outcome) -> Outcome:
        """Another process may have come to the end, of whom nobody hears here.

        It is stored already: whoever cannot be told how it ended is told that it goes on.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await look_at(self._bus, so_far.stream_id)
        except (TimeoutError, ServiceUnavailable):
            return so_far

    def _submission(self, request: Command[PostTransaction], card: Card) -> Submission:
        return Submission(
            aggregate=TRANSACTION,
            stream_id=id_of(request),
            command=RequestTransaction(requested=self._requested(request, card)),
            idempotence_key=request.idempotence_key,
            content=content_of(request.body, card),
            actor=request.actor,
            command_id=request.request_id,
            traceparent=request.traceparent,
            creates=True,
        )

    def _requested(self, request: Command[PostTransaction], card: Card) -> TransactionRequested:
        order, payment = request.body.order, request.body.payment
        return TransactionRequested(
            client=request.caller.name,
            order_id=order.id,
            order_name=order.name,
            order_cost=order.cost,
            order_currency=order.currency,
            payment_method=request.body.paymentMethod,
            payment_type=payment.type,
            amount=payment.amount,
            currency=payment.currency,
            card=card,
            max_age_seconds=self._max_age_seconds,
        )


def id_of(request: Command[PostTransaction]) -> UUID:
    """The transaction's: the same for a repeat, and without a key always another one."""
    return request.id_of_creation(TRANSACTION.category)


def content_of(body: PostTransaction, card: Card) -> Content:
    """What is to be paid, and of the card what no key is needed for: see `refuse_another_card`."""
    order, payment = body.order, body.payment
    details = {
        "order": {
            "id": order.id,
            "name": order.name,
            "cost": str(order.cost),
            "currency": order.currency,
        },
        "paymentMethod": body.paymentMethod.value,
        "payment": {
            "card": {"brand": card.brand, "last_four": card.last_four},
            "type": payment.type.value,
            "amount": str(payment.amount),
            "currency": payment.currency,
        },
    }
    return Content.of(NAME, details, {})


def refuse_another_card(outcome: Outcome, card: Card) -> None:
    """Two cards may look alike, and only keys tell them apart, of which the first may change.

    Raises:
        KeyReused: the key stands for a payment by another card.
    """
    if outcome.replayed and not outcome.state.requested.card.is_same_as(card):
        raise KeyReused("this idempotence key already stands for a payment by another card")
