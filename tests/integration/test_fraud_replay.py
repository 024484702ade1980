"""What was decided is computed again, identically; other rules are tried on what was recorded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codebase.model.payments.card_check import TransactionAssessed
from codebase.model.payments.fraud_rule_set import RuleSet
from codebase.operations import OperationError
from codebase.operations.rebuild import rebuild
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.views.payments import fraud_replay
from codebase.views.payments.fraud_backtest import Backtest, backtest
from codebase.views.payments.fraud_replay import Replayed, replay
from tests.integration.police import BEGIN, LUHN_RIGHT, Hand, Shop, documented, rules, with_police

if TYPE_CHECKING:
    from tests.databases import Databases

STRICT = rules(
    '[rules.fast]\nkind = "card_payments"\nweight = 100\nwindow = 60\nlimit = 3\nstrict = true\n'
    '[rules.luhn]\nkind = "luhn"\nweight = 10\n'
    '[rules.sum]\nkind = "client_sum"\nweight = 5\nwindow = 3600\nlimit = 500\ncurrency = "INR"\n'
    '[rules.cards]\nkind = "cards_of_client"\nweight = 5\nwindow = 3600\nlimit = 1\n'
)


async def some_payments(shop: Shop) -> None:
    for number in range(12):
        card = LUHN_RIGHT if number % 3 else 1234567887654321
        await shop.judged(documented(card=card, amount=f"{number + 1}.50", cost=f"{number + 1}.50"))
        if number % 4 == 0:
            await shop.caught_up()
        if isinstance(shop.clock, Hand):
            shop.clock.move(number)
    await shop.caught_up()


def replayed(databases: Databases) -> Replayed:
    return replay(databases.settings, FRAUD_POLICE.name, say=lambda _: None)


def tried(databases: Databases, rule_set: RuleSet) -> Backtest:
    return backtest(databases.settings, rule_set, BEGIN, BEGIN + timedelta(days=1))


def test_every_decision_is_computed_again_also_after_a_rebuild(databases: Databases) -> None:
    clock = Hand()
    with_police(databases, some_payments, STRICT, clock)
    with_police(databases, some_payments, now=clock)
    assert replayed(databases) == Replayed(24, [])
    for projection in FRAUD_POLICE.projections:
        rebuild(databases.settings, FRAUD_POLICE, projection.name, say=lambda _: None)
    assert replayed(databases) == Replayed(24, [])


def test_no_more_of_a_card_is_kept_than_when_it_paid(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log has more cards than memory has room for what was decided of each."""

    async def many_cards(shop: Shop) -> None:
        for number in range(12):
            await shop.judged(documented(card=LUHN_RIGHT[:-2] + f"{number:02}"))
        await shop.caught_up()

    with_police(databases, many_cards, STRICT)
    kept: list[int] = []
    compare = fraud_replay._compare  # noqa: SLF001 - called once for each batch

    def counting(*arguments: Any) -> Iterator[str]:  # noqa: ANN401 - as it takes them
        kept.append(sum(isinstance(each, TransactionAssessed) for each in gc.get_objects()))
        return compare(*arguments)

    monkeypatch.setattr(fraud_replay, "BATCH", 1)
    monkeypatch.setattr(fraud_replay, "_compare", counting)
    gc.collect()
    assert replayed(databases) == Replayed(12, [])
    assert max(kept) - kept[0] <= 1


def test_a_past_that_differs_is_told(databases: Databases) -> None:
    with_police(databases, some_payments, STRICT)
    with databases.as_read_model_owner() as store:
        store.execute("UPDATE fraud_payment SET amount = 99 WHERE amount = 1.50")
    found = replayed(databases)
    assert found.decisions == 12
    assert found.differences
    assert all("the tables say" in each for each in found.differences)


def test_a_decision_that_its_rules_do_not_lead_to_is_told(databases: Databases) -> None:
    with_police(databases, some_payments, STRICT)
    with databases.as_owner() as log:
        log.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        log.execute(
            "UPDATE event SET data = jsonb_set(data, '{score}', '7')"
            " WHERE category = 'card_check' AND version = 1"
        )
    assert {each.partition(": ")[2] for each in replayed(databases).differences} == {
        "score is 7, its rules say 5",
        "score is 7, its rules say 10",
    }


def test_the_same_rules_flip_nothing_and_others_do_with_examples(databases: Databases) -> None:
    with_police(databases, some_payments, STRICT)
    same = tried(databases, STRICT)
    assert (same.transactions, same.flips.total(), same.exempt.total()) == (12, 0, 0)
    assert same.denied_then == same.denied_now > 0
    lenient = tried(databases, rules('[rules.luhn]\nkind = "luhn"\nweight = 10'))
    assert (lenient.denied_now, lenient.flips["cleared"]) == (0, same.denied_then)
    assert len(lenient.newly_cleared) == same.denied_then


def test_a_rule_whose_window_was_not_recorded_is_left_out_and_named(databases: Databases) -> None:
    with_police(databases, some_payments, STRICT)
    other = rules(
        '[rules.unrecorded]\nkind = "client_payments"\nweight = 1000\nwindow = 7200\nlimit = 1\n'
        '[rules.unrecorded_strict]\nkind = "card_payments"\nweight = 1000\nwindow = 30\nlimit = 1\n'
        "strict = true\n"
        '[rules.luhn]\nkind = "luhn"\nweight = 100\n'
    )
    found = tried(databases, other)
    assert found.exempt == {"unrecorded": 12, "unrecorded_strict": 12}
    assert found.denied_now == found.hits["luhn"] == 4
    assert found.flips["denied"] == len(found.newly_denied) > 0
    assert found.flips["cleared"] == len(found.newly_cleared) > 0
    assert all("luhn" in each for each in found.newly_denied)
    told = "\n".join(found.lines())
    assert "left out: unrecorded, whose window was not recorded for 12 of them" in told


def test_what_lies_outside_the_days_is_not_tried(databases: Databases) -> None:
    with_police(databases, some_payments, STRICT)
    found = backtest(databases.settings, STRICT, BEGIN + timedelta(days=1), BEGIN + timedelta(9))
    assert found == Backtest()


LATER_EVENT = """
    UPDATE event SET data = jsonb_set(
        data, '{features,windows,3600}', data #> '{features,windows,3600}' || '[7]'
    )
    WHERE category = 'card_check' AND version = 2
"""
LATER_ROW = """
    UPDATE fraud_decision
    SET features = jsonb_set(features, '{windows,3600}', features #> '{windows,3600}' || '[7]')
    WHERE version = 2
"""


def test_what_a_later_release_has_decided_is_named_and_not_repeated(databases: Databases) -> None:
    with_police(databases, some_payments, STRICT)
    with databases.as_owner() as log:
        log.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        log.execute(LATER_EVENT)
    with databases.as_read_model_owner() as store:
        store.execute(LATER_ROW)
    with pytest.raises(OperationError, match=r"cannot read the decision at \d:\d+$"):
        replayed(databases)
    with pytest.raises(OperationError, match=r"cannot read what was decided of [0-9a-f-]{36}$"):
        tried(databases, STRICT)
