"""The rules of the fraud police: what each kind looks at, and when it hits. Pure functions.

A kind has versions: what a rule of an older version decided can be computed again for ever. A new
meaning is a new version, and the old one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from codebase.model.payments.fraud_features import (
    HISTORY_MAX,
    STRICT_MAX,
    WINDOW_MAX_SECONDS,
    Features,
    Payment,
    strict_count,
    window_of,
)


class Hit(NamedTuple):
    """A rule has hit: what it saw, and what it allows."""

    observed: str
    limit: str
    sentence: str


Judge = Callable[[Payment, Features], Hit | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoParameters:
    """Of rules that look at the payment alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CountLimit:
    """At most `limit`, this payment included, within `window` seconds."""

    window: int
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StrictLimit:
    """The same; `strict`: decided by the card's own stream, and never overshot."""

    window: int
    limit: int
    strict: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SumLimit:
    """At most `limit` of `currency` within `window` seconds, this payment included."""

    window: int
    limit: Decimal
    currency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryFactor:
    """At most `factor` times the mean of at least `minimum` payments within `window` seconds."""

    window: int
    factor: Decimal
    minimum: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryMinimum:
    """At least `minimum` payments before this one within `window` seconds."""

    window: int
    minimum: int


def amount_above_history(asked: HistoryFactor) -> Judge:
    """The amount against what the client has paid in the same currency."""

    def judge(payment: Payment, features: Features) -> Hit | None:
        past = window_of(features, asked.window)
        before = past.client_in_currency
        # Multiplied out: a mean would have to be rounded.
        if before < asked.minimum or payment.amount * before <= asked.factor * past.client_sum:
            return None
        return Hit(
            str(payment.amount),
            f"{asked.factor} times {past.client_sum} / {before}",
            f"the amount is more than {asked.factor} times the mean of {before} payments before",
        )

    return judge


def client_payments(asked: CountLimit) -> Judge:
    """How many payments of a client there are."""

    def judge(_payment: Payment, features: Features) -> Hit | None:
        return _counted(
            window_of(features, asked.window).client_payments + 1, asked, "payments of this client"
        )

    return judge


def client_sum(asked: SumLimit) -> Judge:
    """How much a client pays in a currency."""

    def judge(payment: Payment, features: Features) -> Hit | None:
        if payment.currency != asked.currency:
            return None
        total = window_of(features, asked.window).client_sum + payment.amount
        return _summed(total, asked, "by this client")

    return judge


def card_payments(asked: StrictLimit) -> Judge:
    """How many payments of a card there are."""

    def judge(_payment: Payment, features: Features) -> Hit | None:
        if asked.strict:
            before = strict_count(features, asked.window)
        else:
            before = window_of(features, asked.window).card_payments
        return _counted(before + 1, asked, "payments of this card")

    return judge


def card_sum(asked: SumLimit) -> Judge:
    """How much is paid by a card in a currency."""

    def judge(payment: Payment, features: Features) -> Hit | None:
        if payment.currency != asked.currency:
            return None
        total = window_of(features, asked.window).card_sum + payment.amount
        return _summed(total, asked, "by this card")

    return judge


def cards_of_client(asked: CountLimit) -> Judge:
    """How many cards a client uses."""

    def judge(_payment: Payment, features: Features) -> Hit | None:
        return _counted(
            window_of(features, asked.window).client_cards + 1, asked, "cards of this client"
        )

    return judge


def clients_of_card(asked: CountLimit) -> Judge:
    """How many clients use a card."""

    def judge(_payment: Payment, features: Features) -> Hit | None:
        return _counted(
            window_of(features, asked.window).card_clients + 1, asked, "clients of this card"
        )

    return judge


def same_amount(asked: CountLimit) -> Judge:
    """How often a card pays the same amount."""

    def judge(_payment: Payment, features: Features) -> Hit | None:
        return _counted(
            window_of(features, asked.window).card_same_amount + 1,
            asked,
            "payments of this amount by this card",
        )

    return judge


def little_history(asked: HistoryMinimum) -> Judge:
    """Whether enough is known of a client."""

    def judge(_payment: Payment, features: Features) -> Hit | None:
        before = window_of(features, asked.window).client_payments
        if before >= asked.minimum:
            return None
        return Hit(
            str(before),
            str(asked.minimum),
            f"{before} payments of this client are known, {asked.minimum} would tell something",
        )

    return judge


def amount_is_not_cost(_asked: NoParameters) -> Judge:
    """Whether what is paid is what the order costs; amounts of two currencies do not compare."""

    def judge(payment: Payment, _features: Features) -> Hit | None:
        if payment.currency != payment.cost_currency or payment.amount == payment.cost:
            return None
        return Hit(str(payment.amount), str(payment.cost), "the amount is not the order's cost")

    return judge


def currency_mismatch(_asked: NoParameters) -> Judge:
    """Whether what is paid is in the order's currency."""

    def judge(payment: Payment, _features: Features) -> Hit | None:
        if payment.currency == payment.cost_currency:
            return None
        return Hit(
            payment.currency, payment.cost_currency, "the currency is not that of the order's cost"
        )

    return judge


def luhn(_asked: NoParameters) -> Judge:
    """Whether the card's last digit is the one that Luhn's formula asks for."""

    def judge(payment: Payment, _features: Features) -> Hit | None:
        if payment.card.luhn:
            return None
        return Hit("wrong", "right", "the card's number fails Luhn's formula")

    return judge


def _counted(count: int, asked: CountLimit | StrictLimit, what: str) -> Hit | None:
    if count <= asked.limit:
        return None
    said = f"{count} {what} in {in_words(asked.window)}, {asked.limit} are allowed"
    return Hit(str(count), str(asked.limit), said)


def _summed(total: Decimal, asked: SumLimit, whose: str) -> Hit | None:
    if total <= asked.limit:
        return None
    within = in_words(asked.window)
    said = f"{total} {asked.currency} {whose} in {within}, {asked.limit} are allowed"
    return Hit(str(total), str(asked.limit), said)


def client_is_full(asked: CountLimit | SumLimit, features: Features) -> bool:
    """Whether as many of the client's payments lie in the window as are looked at, or more."""
    return window_of(features, asked.window).client_payments >= HISTORY_MAX


def card_is_full(asked: CountLimit | StrictLimit | SumLimit, features: Features) -> bool:
    """The same of the card, by its own stream where that is what decides."""
    if isinstance(asked, StrictLimit) and asked.strict:
        return strict_count(features, asked.window) >= STRICT_MAX
    return window_of(features, asked.window).card_payments >= HISTORY_MAX


def at_least(
    judge_of: Callable[[Any], Judge], is_full: Callable[[Any, Features], bool]
) -> Callable[[Any], Judge]:
    """The same kind, which says so where there may be more than was looked at."""

    def of(asked: Any) -> Judge:  # noqa: ANN401 - parameters of any kind
        judge_exactly = judge_of(asked)

        def judge(payment: Payment, features: Features) -> Hit | None:
            hit = judge_exactly(payment, features)
            if hit is None or not is_full(asked, features):
                return hit
            return hit._replace(
                observed=f"at least {hit.observed}", sentence=f"at least {hit.sentence}"
            )

        return judge

    return of


def in_words(seconds: int) -> str:
    """A window as people say it: `1 minute`, `24 hours`, `90 seconds`."""
    for name, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    raise AssertionError("every whole number of seconds is one of seconds")


class Kind(NamedTuple):
    """A kind of rule: what it can be told, and what it makes of that."""

    parameters: type[Any]
    judge: Callable[[Any], Judge]


def bounded(
    parameters: type[Any],
    judge_of: Callable[[Any], Judge],
    is_full: Callable[[Any, Features], bool],
) -> Mapping[int, Kind]:
    """A kind that counts or adds up, which since version 2 says where it may have stopped."""
    return {
        1: Kind(parameters, judge_of),
        2: Kind(parameters, at_least(judge_of, is_full)),
    }


KINDS: Mapping[str, Mapping[int, Kind]] = {
    "amount_above_history": {1: Kind(HistoryFactor, amount_above_history)},
    "amount_is_not_cost": {1: Kind(NoParameters, amount_is_not_cost)},
    "card_payments": bounded(StrictLimit, card_payments, card_is_full),
    "card_sum": bounded(SumLimit, card_sum, card_is_full),
    "cards_of_client": bounded(CountLimit, cards_of_client, client_is_full),
    "client_payments": bounded(CountLimit, client_payments, client_is_full),
    "client_sum": bounded(SumLimit, client_sum, client_is_full),
    "clients_of_card": bounded(CountLimit, clients_of_card, card_is_full),
    "currency_mismatch": {1: Kind(NoParameters, currency_mismatch)},
    "little_history": {1: Kind(HistoryMinimum, little_history)},
    "luhn": {1: Kind(NoParameters, luhn)},
    "same_amount": bounded(CountLimit, same_amount, card_is_full),
}
"""Name -> version -> the kind. Versions are stored with every rule set, and never change."""

BOUNDS: Mapping[str, tuple[int, int]] = {
    "window": (1, WINDOW_MAX_SECONDS),
    "limit": (1, HISTORY_MAX),
    "minimum": (1, HISTORY_MAX),
}
"""Of whole numbers: what lies beyond `HISTORY_MAX` is not counted, so that no rule may ask for
it."""
STRICT_LIMIT_MAX = STRICT_MAX
