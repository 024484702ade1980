"""The rules of the fraud police: when each hits, what a file of them may hold, how they add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebase.model.payments.card_check import (
    Assess,
    State,
    TransactionAssessed,
    counted,
    decide,
    evolve,
    id_of_card,
)
from codebase.model.payments.cards import Card
from codebase.model.payments.fraud_features import (
    HISTORY_MAX,
    STRICT_MAX,
    Features,
    Payment,
    Window,
)
from codebase.model.payments.fraud_judgement import (
    DecidedBy,
    Finding,
    FindingKind,
    Judgement,
    judge,
)
from codebase.model.payments.fraud_rule_set import (
    RuleSet,
    RuleSetError,
    RuleState,
    parse_rules,
    recorded_rules,
)
from codebase.model.payments.fraud_rules import in_words
from codebase.views.payments.fraud_rules_file import read_rules_file

PAYMENT = Payment(
    client="shop",
    method="amazonpay",
    kind="wallet",
    card=Card(brand="visa", last_four="1111", luhn=True, fingerprints=("new:a", "old:a")),
    amount=Decimal("100.00"),
    currency="INR",
    cost=Decimal("100.00"),
    cost_currency="INR",
)
DEFAULT = read_rules_file(None)
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def rule(kind: str, **parameters: object) -> str:
    lines = [f"{name} = {value}" for name, value in parameters.items()]
    return "\n".join([f"[rules.{kind}]", f'kind = "{kind}"', "weight = 10", *lines])


def alone(kind: str, **parameters: object) -> RuleSet:
    return parse_rules(f"threshold = 10\n{rule(kind, **parameters)}")


def past(seconds: int = 60, **counts: object) -> Features:
    window = Window(**counts)  # type: ignore[arg-type] # by name
    return Features(windows={seconds: window}, strict={seconds: window.card_payments})


INR, UNUSED = '"INR"', '"QQQ"'
# Rule, its parameters, the past, what the payment is otherwise, and whether it hits.
CASES: Mapping[str, tuple[str, dict[str, object], Features, dict[str, object], bool]] = {
    "the limit itself is allowed": (
        "card_payments", {"window": 60, "limit": 3}, past(card_payments=2), {}, False),
    "one more than the limit is not": (
        "card_payments", {"window": 60, "limit": 3}, past(card_payments=3), {}, True),
    "strictly, the limit itself is allowed": (
        "card_payments", {"window": 60, "limit": 3, "strict": "true"},
        past(card_payments=2), {}, False),
    "strictly, one more is not": (
        "card_payments", {"window": 60, "limit": 3, "strict": "true"},
        past(card_payments=3), {}, True),
    "a client up to the limit": (
        "client_payments", {"window": 60, "limit": 3}, past(client_payments=2), {}, False),
    "a client beyond": (
        "client_payments", {"window": 60, "limit": 3}, past(client_payments=3), {}, True),
    "a sum up to the limit": (
        "client_sum", {"window": 60, "limit": "150.10", "currency": INR},
        past(client_sum=Decimal("50.10")), {}, False),
    "a sum a hundredth beyond": (
        "client_sum", {"window": 60, "limit": "150.10", "currency": INR},
        past(client_sum=Decimal("50.11")), {}, True),
    "a sum in another currency": (
        "client_sum", {"window": 60, "limit": 1, "currency": '"EUR"'}, past(), {}, False),
    "a card's sum up to the limit": (
        "card_sum", {"window": 60, "limit": 100, "currency": INR}, past(), {}, False),
    "a card's sum beyond": (
        "card_sum", {"window": 60, "limit": 100, "currency": INR},
        past(card_sum=Decimal("0.01")), {}, True),
    "a card's sum in another currency": (
        "card_sum", {"window": 60, "limit": 1, "currency": '"EUR"'}, past(), {}, False),
    "as many cards as allowed": (
        "cards_of_client", {"window": 60, "limit": 2}, past(client_cards=1), {}, False),
    "one card more": (
        "cards_of_client", {"window": 60, "limit": 2}, past(client_cards=2), {}, True),
    "as many clients as allowed": (
        "clients_of_card", {"window": 60, "limit": 2}, past(card_clients=1), {}, False),
    "one client more": (
        "clients_of_card", {"window": 60, "limit": 2}, past(card_clients=2), {}, True),
    "the same amount as often as allowed": (
        "same_amount", {"window": 60, "limit": 2}, past(card_same_amount=1), {}, False),
    "the same amount once more": (
        "same_amount", {"window": 60, "limit": 2}, past(card_same_amount=2), {}, True),
    "as much as the history allows": (
        "amount_above_history", {"window": 60, "factor": 2, "minimum": 3},
        past(client_in_currency=3, client_sum=Decimal("150.00")), {}, False),
    "more than the history allows": (
        "amount_above_history", {"window": 60, "factor": 2, "minimum": 3},
        past(client_in_currency=3, client_sum=Decimal("149.99")), {}, True),
    "a history too short to tell": (
        "amount_above_history", {"window": 60, "factor": 2, "minimum": 3},
        past(client_in_currency=2, client_sum=Decimal("0.02")), {}, False),
    "enough history": (
        "little_history", {"window": 60, "minimum": 3}, past(client_payments=3), {}, False),
    "too little history": (
        "little_history", {"window": 60, "minimum": 3}, past(client_payments=2), {}, True),
    "what it costs": ("amount_is_not_cost", {}, past(), {}, False),
    "a hundredth off": ("amount_is_not_cost", {}, past(), {"cost": Decimal("100.01")}, True),
    "amounts of two currencies": (
        "amount_is_not_cost", {}, past(), {"cost": Decimal(1), "cost_currency": "EUR"}, False),
    "the order's currency": ("currency_mismatch", {}, past(), {}, False),
    "another currency": ("currency_mismatch", {}, past(), {"cost_currency": "EUR"}, True),
    "Luhn's digit": ("luhn", {}, past(), {}, False),
    "another digit": ("luhn", {}, past(), {"card": replace(PAYMENT.card, luhn=False)}, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_rule_hits_beyond_its_limit_and_not_at_it(case: str) -> None:
    kind, parameters, features, changed, hits = CASES[case]
    payment = replace(PAYMENT, **changed)
    judgement = judge(alone(kind, **parameters), payment, features)
    assert judgement.denied == hits
    assert [(each.rule, each.kind) for each in judgement.findings] == (
        [(kind, FindingKind.HIT)] if hits else []
    )
    assert all(each.observed and each.limit and each.sentence for each in judgement.findings)


FULL = Window(
    client_payments=HISTORY_MAX,
    client_sum=Decimal("500.00"),
    client_cards=7,
    card_payments=HISTORY_MAX,
    card_sum=Decimal("500.00"),
    card_clients=7,
    card_same_amount=7,
)
# Of a window in which as many payments lie as are looked at: its kind, and what it says of it.
SAID_OF_FULL = {
    "card_payments": ({"limit": 5}, "1001 payments of this card"),
    "card_sum": ({"limit": 5, "currency": INR}, "600.00 INR by this card"),
    "cards_of_client": ({"limit": 5}, "8 cards of this client"),
    "client_payments": ({"limit": 5}, "1001 payments of this client"),
    "client_sum": ({"limit": 5, "currency": INR}, "600.00 INR by this client"),
    "clients_of_card": ({"limit": 5}, "8 clients of this card"),
    "same_amount": ({"limit": 5}, "8 payments of this amount"),
}


@pytest.mark.parametrize("kind", SAID_OF_FULL)
def test_what_stops_at_a_bound_is_said_to_be_at_least_that(kind: str) -> None:
    parameters, said = SAID_OF_FULL[kind]
    asked = {"window": 60, **parameters}
    not_full = FULL._replace(client_payments=HISTORY_MAX - 1, card_payments=HISTORY_MAX - 1)

    def found(window: Window, version: int) -> tuple[Finding, Judgement]:
        rules = alone(kind, version=version, **asked)
        judgement = judge(rules, PAYMENT, Features(windows={60: window}))
        [finding] = judgement.findings
        return finding, judgement

    (now, judged), (before, judged_before) = found(FULL, 2), found(FULL, 1)
    assert now.sentence.startswith(f"at least {said}")
    assert now.observed == f"at least {said.split()[0]}"
    assert "at least" not in found(not_full, 2)[0].sentence
    # What was recorded is what it was, and is decided alike.
    assert before.sentence == now.sentence.removeprefix("at least ")
    assert before.observed == said.split()[0]
    assert (judged.denied, judged.score) == (judged_before.denied, judged_before.score)
    assert alone(kind, **asked).rules[0].version == 2, "of a file that asks for none"


def test_a_strict_window_that_is_not_all_remembered_has_at_least_so_many() -> None:
    rules = alone("card_payments", window=60, limit=5, strict="true")
    [full] = judge(rules, PAYMENT, Features(strict={60: STRICT_MAX})).findings
    [known] = judge(rules, PAYMENT, Features(strict={60: STRICT_MAX - 1})).findings
    assert (full.observed, known.observed) == (f"at least {STRICT_MAX + 1}", str(STRICT_MAX))


@pytest.mark.parametrize(
    "kind", [name for name, (_, asked, *_) in CASES.items() if "window" in asked]
)
def test_a_rule_without_its_data_has_failed_and_counts_for_nothing(kind: str) -> None:
    name, parameters, _, changed, _ = CASES[kind]
    if parameters.get("currency") == '"EUR"':
        changed = {"currency": "EUR"}
    payment = replace(PAYMENT, **changed)
    judgement = judge(alone(name, **parameters), payment, Features())
    [finding] = judgement.findings
    assert (judgement.denied, judgement.score, finding.kind) == (False, 0, FindingKind.ERR)
    assert "window of 60 s was recorded" in finding.sentence
    closed = alone(name, **parameters, fail_closed="true")
    assert judge(closed, payment, Features()).denied


@pytest.mark.parametrize(("threshold", "denied"), [(19, True), (20, True), (21, False)])
def test_a_score_that_reaches_the_threshold_denies(threshold: int, *, denied: bool) -> None:
    two = f"{rule('luhn')}\n{rule('currency_mismatch')}"
    payment = replace(PAYMENT, card=replace(PAYMENT.card, luhn=False), cost_currency="EUR")
    judgement = judge(parse_rules(f"threshold = {threshold}\n{two}"), payment, past())
    assert (judgement.denied, judgement.score) == (denied, 20)


@pytest.mark.parametrize(
    ("lists", "denied", "by"),
    [
        ({}, True, DecidedBy.RULES),
        ({"blocked": "b"}, True, DecidedBy.BLOCK_LIST),
        ({"allowed": "a"}, False, DecidedBy.ALLOW_LIST),
        ({"allowed": "a", "blocked": "b"}, False, DecidedBy.ALLOW_LIST),
    ],
)
def test_allow_beats_block_and_both_beat_the_rules(
    lists: dict[str, str], by: DecidedBy, *, denied: bool
) -> None:
    payment = replace(PAYMENT, card=replace(PAYMENT.card, luhn=False))
    judgement = judge(alone("luhn"), payment, replace(past(), **lists))  # type: ignore[arg-type]
    assert (judgement.denied, judgement.decided_by, judgement.score) == (denied, by, 10)
    blocked = judge(alone("luhn"), PAYMENT, replace(past(), **lists))  # type: ignore[arg-type]
    assert blocked.denied == (by is DecidedBy.BLOCK_LIST)


def test_only_live_rules_count() -> None:
    for state in RuleState:
        text = f'threshold = 10\n{rule("luhn")}\nstate = "{state}"'
        payment = replace(PAYMENT, card=replace(PAYMENT.card, luhn=False))
        assert judge(parse_rules(text), payment, past()).denied == (state is RuleState.LIVE)


WRONG: Mapping[str, str] = {
    "": "threshold: must be a whole number from 1",
    "threshold = 1": "rules: must be tables",
    "threshold = 0\n[rules.a]": "threshold: must be a whole number from 1",
    "threshold = true\n[rules.a]": "threshold: must be a whole number from 1",
    "threshold = 1\nlimit = 1\n[rules.a]": "limit: is not known",
    "threshold = 1\n[rules.a]\n": "rules.a.kind: must be one of amount_above_history, ",
    'threshold = 1\n[rules.a]\nkind = "nonsense"': "rules.a.kind: must be one of",
    'threshold = 1\n[rules.A]\nkind = "luhn"\nweight = 1': "rules.A: a name has small letters",
    'threshold = 1\n[rules.block_list]\nkind = "luhn"\nweight = 1': "rules.block_list: a name",
    f"threshold = 1\n{rule('luhn', window=60)}": "rules.luhn.window: is not known",
    f"threshold = 1\n{rule('luhn', version=2)}": "rules.luhn.version: must be one of [1]",
    f"threshold = 1\n{rule('luhn', state=1)}": "rules.luhn.state: must be one of live, shadow, off",
    f"threshold = 1\n{rule('luhn', fail_closed=1)}": "rules.luhn.fail_closed: must be true or",
    'threshold = 1\n[rules.luhn]\nkind = "luhn"\nweight = 1001': "weight: must be a whole number",
    'threshold = 1\n[rules.luhn]\nkind = "luhn"\nweight = -1': "rules.luhn.weight: must be a whole",
    'threshold = 1\n[rules.luhn]\nkind = "luhn"': "rules.luhn.weight: must be a whole",
    f"threshold = 1\n{rule('same_amount', window=60)}": "rules.same_amount.limit: is missing",
    f"threshold = 1\n{rule('same_amount', window=0, limit=1)}": "same_amount.window: must be a",
    f"threshold = 1\n{rule('same_amount', window=60, limit=1001)}": "limit: must be a whole number",
    f"threshold = 1\n{rule('card_payments', window=60, limit=257, strict='true')}": "at most 256",
    f"threshold = 1\n{rule('card_sum', window=60, limit=0, currency=INR)}": "must be above 0",
    f"threshold = 1\n{rule('card_sum', window=60, limit='nan', currency=INR)}": "must be above 0",
    f"threshold = 1\n{rule('card_sum', window=60, limit=1, currency=1)}": "three capital letters",
    f"threshold = 1\n{rule('luhn', version='[1]')}": "rules.luhn.version: must be one of [1]",
    f"threshold = 1\n{rule('luhn', version='{a = 1}')}": "rules.luhn.version: must be one of [1]",
    f"threshold = 1\n{rule('luhn', version='1.0')}": "rules.luhn.version: must be one of [1]",
    f"threshold = 1\n{rule('luhn', state='[]')}": "rules.luhn.state: must be one of live, shadow",
    f"threshold = 1\n{rule('luhn', state='{}')}": "rules.luhn.state: must be one of live, shadow",
    f"threshold = 1\n{rule('card_sum', window=60, limit='1e9999999999999999999', currency=INR)}": (
        "a number with too many digits"
    ),
    f"threshold = {'9' * 5000}": "a number with too many digits",
    f"threshold = 1\n{rule('card_sum', window=60, limit=1, currency=UNUSED)}": (
        "rules.card_sum.currency: is no code of ISO 4217 that is in use"
    ),
    "threshold = ": "is not TOML",
    f"threshold = {'[' * 5000}": "is not TOML",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_a_rule_set_is_named(text: str) -> None:
    with pytest.raises(RuleSetError) as refused:
        parse_rules(text)
    assert WRONG[text] in str(refused.value)


def test_a_set_is_known_by_all_of_it_and_read_again_from_what_is_stored() -> None:
    assert recorded_rules(DEFAULT.text).hash == DEFAULT.hash
    for changed in ("weight = 11", "weight = 10\nfail_closed = true", 'weight = 10\nstate = "off"'):
        text = f"threshold = 10\n{rule('luhn').replace('weight = 10', changed)}"
        assert parse_rules(text).hash != alone("luhn").hash
    reordered = f"{rule('luhn')}\n{rule('currency_mismatch')}"
    turned = f"{rule('currency_mismatch')}\n{rule('luhn')}"
    assert (
        parse_rules(f"threshold = 1\n{reordered}").hash
        == parse_rules(f"threshold = 1\n{turned}").hash
    )


def test_all_that_hits_a_much_repeated_documented_payment_denies_by_the_minute_alone() -> None:
    """Whatever else its card and its client have done: a card is denied by 31 in a minute."""
    card = replace(PAYMENT.card, luhn=False)
    worst = Window(
        client_payments=2000,
        client_in_currency=2000,
        client_sum=Decimal("246000.00"),
        card_payments=2000,
        card_sum=Decimal("246000000.00"),
        card_same_amount=2000,
    )
    windows = dict.fromkeys(DEFAULT.windows, worst)
    payment = replace(PAYMENT, card=card, amount=Decimal("123.00"), cost=Decimal("123.00"))
    for before, denied in ((29, False), (30, True)):
        judgement = judge(DEFAULT, payment, Features(windows=windows, strict={60: before}))
        assert judgement.denied == denied, judgement


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "1 second"), (60, "1 minute"), (90, "90 seconds"), (3600, "1 hour"), (86400, "24 hours")],
)
def test_windows_are_said_as_people_do(seconds: int, said: str) -> None:
    assert in_words(seconds) == said


def assess(number: int, at: float, rules: RuleSet) -> Assess:
    return Assess(
        transaction_id=str(number),
        payment=PAYMENT,
        as_of=later(at),
        features=Features(),
        positions={},
        rules=rules,
    )


@given(st.lists(st.integers(0, 200), max_size=40), st.integers(1, 5))
def test_no_window_of_a_strict_limit_clears_more_whatever_the_clocks_say(
    moments: list[int], limit: int
) -> None:
    strict = alone("card_payments", window=60, limit=limit, strict="true")
    state: State | None = None
    cleared = []
    for number, at in enumerate(moments):
        [event] = decide(assess(number, at, strict), state)
        state = evolve(state, event)
        if not event.denied:
            cleared.append(event.as_of)
    for begin in cleared:
        assert sum(begin <= each < begin + (later(60) - NOON) for each in cleared) <= limit


@given(st.permutations([30 * number for number in range(12)]))
def test_what_is_judged_late_and_in_any_order_is_within_its_limit(moments: list[int]) -> None:
    strict = alone("card_payments", window=60, limit=3, strict="true")
    state: State | None = None
    for number, at in enumerate(moments):
        [event] = decide(assess(number, at, strict), state)
        assert not event.denied
        state = evolve(state, event)


@given(st.lists(st.integers(0, 200), max_size=20), st.integers(0, 200))
def test_the_fullest_window_counts(moments: list[int], at: int) -> None:
    state: State | None = None
    for number, each in enumerate(moments):
        [event] = decide(assess(number, each, alone("luhn")), state)
        state = evolve(state, event)
    windows = [range(begin, begin + 61) for begin in range(at - 60, at + 1)]
    most = max(sum(each in window for each in moments) for window in windows)
    assert counted(state, later(at), 60) == most


def test_a_window_that_is_not_all_remembered_is_full() -> None:
    state: State | None = None
    for number in range(STRICT_MAX):
        [event] = decide(assess(number, 30 + number, alone("luhn")), state)
        state = evolve(state, event)
    assert counted(state, later(89), 60) == STRICT_MAX
    assert counted(state, later(90), 60) == 61, "all of this window is remembered"


def test_as_of_the_first_moment_that_can_be_said_there_was_nothing() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    strict = alone("card_payments", window=60, limit=1, strict="true")
    [event] = decide(replace(assess(1, 0, strict), as_of=first), None)
    assert not event.denied
    assert counted(evolve(None, event), later(0), 60) == 0


def test_a_card_remembers_a_bounded_number_of_times() -> None:
    state: State | None = None
    for number in range(STRICT_MAX + 20):
        [event] = decide(assess(number, 0, alone("luhn")), state)
        state = evolve(state, event)
    assert state is not None
    assert len(state.times) == counted(state, later(0), 60) == STRICT_MAX


def test_a_card_is_what_it_was_when_a_new_key_signs() -> None:
    assert id_of_card(PAYMENT.card) == id_of_card(replace(PAYMENT.card, fingerprints=("old:a",)))
    assert id_of_card(PAYMENT.card) != id_of_card(replace(PAYMENT.card, fingerprints=("old:b",)))


def test_what_an_unforeseen_error_says_is_not_repeated() -> None:
    def raising(_payment: Payment, _features: Features) -> Any:  # noqa: ANN401 - never
        raise ValueError("4111111111111111")

    [luhn] = alone("luhn").rules
    judgement = judge(RuleSet(1, (replace(luhn, judge=raising),)), PAYMENT, past())
    assert isinstance(judgement.findings[0], Finding)
    assert "4111" not in str(judgement)
    assert TransactionAssessed.__doc__
