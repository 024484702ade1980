"""Payment methods: different ways to one provider, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from codebase.engine.reactions.http_target import Call
from codebase.engine.reactions.reaction import Sent
from codebase.model.payments.transaction import PaymentMethod

Asked = Mapping[str, Any]
"""A transaction, as `driver.asked` has it."""


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
