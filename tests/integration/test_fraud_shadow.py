"""Shadow rules: written down, never answering, whatever they do."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from codebase.model.payments import fraud_rules
from codebase.model.payments.fraud_features import Features, Payment
from codebase.model.payments.fraud_rules import Hit, Judge, Kind, NoParameters
from codebase.operations import OperationError
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.views.payments.fraud_replay import replay
from tests.integration.flow import eventually, query
from tests.integration.police import Shop, documented, rule_names, rules, with_police
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

LIVE = '[rules.luhn]\nkind = "luhn"\nweight = 10\n'
SHADOWED = rules(
    LIVE + '[rules.shadowed]\nkind = "card_payments"\nstate = "shadow"\nweight = 1000\n'
    "window = 60\nlimit = 1\n"
    '[rules.resting]\nkind = "luhn"\nstate = "off"\nweight = 1000\n'
)


def found(databases: Databases) -> list[tuple[int, list[str], list[str]]]:
    """(version, rules, kinds) of all shadow findings."""
    rows = query(
        databases.as_read_model_owner(),
        "SELECT version, findings FROM fraud_shadow ORDER BY version",
    )
    return [
        (version, [one["rule"] for one in findings], [one["kind"] for one in findings])
        for version, findings in rows
    ]


async def three_payments(shop: Shop) -> None:
    for _ in range(3):
        message = await shop.judged(documented())
        assert not message["isFraud"]
        assert rule_names(message) == {"luhn"}
        await shop.caught_up()
    await asyncio.to_thread(eventually, lambda: len(found(shop.databases)) == 2)


def test_a_shadow_rule_is_written_down_and_never_answers(databases: Databases) -> None:
    with_police(databases, three_payments, SHADOWED)
    assert found(databases) == [(2, ["shadowed"], ["hit"]), (3, ["shadowed"], ["hit"])]
    assert verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=print) == []


def test_after_a_rebuild_it_is_written_down_again(databases: Databases) -> None:
    with_police(databases, three_payments, SHADOWED)
    before = found(databases)
    rebuild(databases.settings, FRAUD_POLICE, "fraud_decisions", say=lambda _: None)
    assert found(databases) == []

    async def story(shop: Shop) -> None:
        await asyncio.to_thread(eventually, lambda: found(shop.databases) == before)

    with_police(databases, story, SHADOWED)


def test_what_it_should_not_have_found_is_told_by_verify(databases: Databases) -> None:
    with_police(databases, three_payments, SHADOWED)
    with databases.as_read_model_owner() as store:
        store.execute("UPDATE fraud_shadow SET findings = '[]' WHERE version = 2")
    [told] = verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=lambda _: None)
    assert "is not what its rules find" in told


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of rule that raises, beside the others."""

    def raising(_asked: NoParameters) -> Judge:
        def judge(_payment: Payment, _features: Features) -> Hit | None:
            raise ZeroDivisionError

        return judge

    known = {**fraud_rules.KINDS, "raising": {1: Kind(NoParameters, raising)}}
    monkeypatch.setattr("codebase.model.payments.fraud_rule_set.KINDS", known)


@pytest.mark.usefixtures("kinds")
def test_a_rule_that_raises_is_a_finding_live_or_in_the_shadow(databases: Databases) -> None:
    broken = rules(
        LIVE + '[rules.broken]\nkind = "raising"\nweight = 1000\n'
        '[rules.broken_too]\nkind = "raising"\nstate = "shadow"\nweight = 1000\n'
    )

    async def story(shop: Shop) -> None:
        message = await shop.judged(documented())
        assert (message["isFraud"], message["score"]) == (False, 10)
        [failed] = [one for one in message["reasons"] if one["rule"] == "broken"]
        assert (failed["kind"], failed["weight"]) == ("err", 0)
        assert failed["sentence"] == "this rule could not tell: ZeroDivisionError"
        await shop.caught_up()
        await asyncio.to_thread(eventually, lambda: bool(found(shop.databases)))

    with_police(databases, story, broken)
    assert found(databases) == [(1, ["broken_too"], ["err"])]


@pytest.mark.usefixtures("kinds")
def test_a_rule_that_raises_counts_where_it_is_to_fail_closed(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        assert (await shop.judged(documented()))["isFraud"]

    closed = '[rules.broken]\nkind = "raising"\nweight = 100\nfail_closed = true\n'
    with_police(databases, story, rules(closed))


def test_a_shadow_rule_that_never_comes_to_an_end_keeps_no_answer_waiting(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def stuck(_asked: NoParameters) -> Judge:
        def judge(_payment: Payment, _features: Features) -> Hit | None:
            entered.set()
            assert let_go.wait(PATIENCE_SECONDS)
            return Hit("", "", "at last")

        return judge

    known = {**fraud_rules.KINDS, "stuck": {1: Kind(NoParameters, stuck)}}
    monkeypatch.setattr("codebase.model.payments.fraud_rule_set.KINDS", known)
    slow = rules(LIVE + '[rules.stuck]\nkind = "stuck"\nstate = "shadow"\nweight = 1000\n')

    async def story(shop: Shop) -> None:
        for _ in range(3):
            assert (await shop.judged(documented()))["score"] == 10
            await shop.caught_up()
        assert await asyncio.to_thread(entered.wait, PATIENCE_SECONDS)
        assert (await shop.judged(documented()))["score"] == 10
        await shop.caught_up()
        let_go.set()
        await asyncio.to_thread(eventually, lambda: len(found(shop.databases)) == 4)

    try:
        with_police(databases, story, slow)
    finally:
        let_go.set()


def test_a_decision_that_is_projected_late_is_looked_at_all_the_same(databases: Databases) -> None:
    with_police(databases, three_payments, SHADOWED)
    before = found(databases)
    with databases.as_read_model_owner() as store:
        # As if they had been parked, and retried now: below where the others are.
        store.execute("TRUNCATE fraud_decision, fraud_shadow")
        store.execute("UPDATE projection_checkpoint SET position = 0, event_id = NULL")

    async def story(shop: Shop) -> None:
        await shop.caught_up()
        await asyncio.to_thread(eventually, lambda: found(shop.databases) == before)

    with_police(databases, story, SHADOWED)


@pytest.mark.usefixtures("kinds")
def test_rules_of_a_later_release_are_waited_for(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = rules(LIVE + '[rules.later]\nkind = "raising"\nstate = "shadow"\nweight = 1\n')

    async def one(shop: Shop) -> None:
        await shop.judged(documented())
        await shop.caught_up()
        await asyncio.to_thread(eventually, lambda: bool(found(shop.databases)))

    with_police(databases, one, later)
    before = found(databases)
    rebuild(databases.settings, FRAUD_POLICE, "fraud_decisions", say=lambda _: None)
    with monkeypatch.context() as downgraded:
        downgraded.setattr("codebase.model.payments.fraud_rule_set.KINDS", fraud_rules.KINDS)

        async def nothing_of_it(shop: Shop) -> None:
            assert not (await shop.judged(documented()))["isFraud"]
            await shop.caught_up()

        with_police(databases, nothing_of_it, rules(LIVE))
        assert found(databases) == []
        with pytest.raises(OperationError, match="does not know rule set"):
            replay(databases.settings, FRAUD_POLICE.name)

    async def all_of_it(shop: Shop) -> None:
        await asyncio.to_thread(eventually, lambda: found(shop.databases) == before)

    with_police(databases, all_of_it, later)
