"""Payment methods: different ways to one provider, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.model.payments.transaction import PaymentMethod, Status
from codebase.services.transact.driver import PAID, REFUSED, SETTLED
from codebase.views.payments.look import look_at

Asked = Mapping[str, Any]
"""A transaction, as `driver.asked` has it."""

ENDED = frozenset({Status.PAYMENT_COMPLETE, Status.PAYMENT_FAILED})
REFUSAL = "/problems/payment-refused"


class Strategy(Protocol):
    """How one method moves money: once for each transaction's id, however often it is asked to."""

    def initiate(self, asked: Asked) -> Call:
        """The request that moves the money."""

    def status(self, asked: Asked) -> Call:
        """The request that tells whether it has moved; answered 404 when it has not."""


@dataclass(frozen=True, slots=True)
class Through:
    """By a channel of the provider's."""

    channel: str

    def initiate(self, asked: Asked) -> Call:
        """A charge, named by the transaction's id."""
        payment = asked["payment"]
        body = {
            "transactionID": asked["transactionID"],
            "channel": self.channel,
            "type": payment["type"],
            "amount": payment["amount"],
            "currency": payment["currency"],
        }
        return Call(method="POST", path="/charges", body=body)

    def status(self, asked: Asked) -> Call:
        """The charge of that name."""
        return Call(method="GET", path=f"/charges/{asked['transactionID']}")


@dataclass(frozen=True, slots=True)
class ByType:
    """By the channel that is made for what is paid with."""

    channels: Mapping[str, str]

    def _of(self, asked: Asked) -> Strategy:
        return Through(self.channels.get(asked["payment"]["type"], "card"))

    def initiate(self, asked: Asked) -> Call:
        """As that channel does."""
        return self._of(asked).initiate(asked)

    def status(self, asked: Asked) -> Call:
        """As that channel does."""
        return self._of(asked).status(asked)


STRATEGIES: Mapping[PaymentMethod, Strategy] = {
    PaymentMethod.PAYTM: Through("paytm"),
    PaymentMethod.ICICI_DEBIT: Through("icici"),
    PaymentMethod.AMAZONPAY: Through("amazonpay"),
    PaymentMethod.ANY: ByType({"wallet": "paytm", "netbanking": "icici", "debit": "icici"}),
}


def strategy_of(sent: Sent) -> Strategy:
    """The method that a transaction is to be paid by."""
    return STRATEGIES[PaymentMethod(sent.send.data["paymentMethod"])]


def initiate(sent: Sent) -> Call:
    """The request that moves the money of what was sent."""
    return strategy_of(sent).initiate(sent.send.data)


def status(sent: Sent) -> Call:
    """The request that tells whether it has moved."""
    return strategy_of(sent).status(sent.send.data)


class PaymentTarget:
    """Moves money, unless a person has said in the meantime how the transaction has ended.

    Args:
        provider: made with `initiate` as its call and `status` as its inquiry.
        bus: tells how the transaction stands.
    """

    def __init__(self, provider: HttpTarget, bus: CommandBus) -> None:
        self._provider = provider
        self._bus = bus
        # With time for the look.
        self.deadline_seconds = provider.deadline_seconds + 1.0

    async def send(self, sent: Sent) -> Answer:
        """Have it paid, if it still is to be.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        if await self._has_ended(sent.subject):
            return Answer(data={"outcome": SETTLED})
        return word_of(await self._provider.send(sent))

    async def inquire(self, sent: Sent) -> Answer | None:
        """Whether it was paid.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        answer = await self._provider.inquire(sent)
        return None if answer is None else word_of(answer)

    async def _has_ended(self, transaction_id: UUID) -> bool:
        return (await look_at(self._bus, transaction_id)).state.status in ENDED


def word_of(answer: Answer) -> Answer:
    """What the provider's answer means for the payment; another refusal stays one."""
    if answer.refused is None:
        return Answer(data={"outcome": PAID})
    if answer.data.get("type") == REFUSAL:
        return Answer(data={"outcome": REFUSED, "reason": answer.data.get("detail")})
    return answer
