"""Shadow rules: written down, never answering, whatever they do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from codebase.model.payments import fraud_rules
from codebase.model.payments.fraud_features import Features, Payment
from codebase.model.payments.fraud_rules import Hit, Judge, Kind, NoParameters
from codebase.operations import OperationError
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.services.fraud_police.rule_watch import SLOW_MAX, SLOW_SECONDS
from codebase.views.payments.fraud_replay import replay
from tests.clocks import StandingClock
from tests.integration.flow import eventually, query
from tests.integration.police import Shop, documented, rule_names, rules, with_police
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

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


def test_decisions_and_what_live_and_shadow_rules_find_are_counted(databases: Databases) -> None:
    names = {
        "decisions": {"outcome": "cleared"},
        "findings": {"rule": "luhn", "kind": "hit"},
        "shadow_findings": {"rule": "shadowed", "kind": "hit"},
        "shadow_decisions": {},
    }

    def told() -> list[float]:
        return [
            REGISTRY.get_sample_value(f"orderly_fraud_{name}_total", labels) or 0.0
            for name, labels in names.items()
        ]

    before = told()

    async def story(shop: Shop) -> None:
        await three_payments(shop)
        # Of shadow rules it is counted after it was written.
        expected = [count + more for count, more in zip(before, (3, 3, 2, 3), strict=True)]
        await asyncio.to_thread(eventually, lambda: told() == expected)

    with_police(databases, story, SHADOWED)


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


class Stuck:
    """A kind of rule that does not come to its end before it may."""

    def __init__(self) -> None:
        self.entered, self.let_go, self.came_back = (threading.Event() for _ in range(3))
        self.asked = 0

    def kind(self, _asked: NoParameters) -> Judge:
        def judge(_payment: Payment, _features: Features) -> Hit | None:
            self.asked += 1
            self.entered.set()
            assert self.let_go.wait(PATIENCE_SECONDS)
            self.came_back.set()
            return Hit("", "", "at last")

        return judge


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    made = Stuck()
    known = {**fraud_rules.KINDS, "stuck": {1: Kind(NoParameters, made.kind)}}
    monkeypatch.setattr("codebase.model.payments.fraud_rule_set.KINDS", known)
    yield made
    made.let_go.set()


STUCK = '[rules.stuck]\nkind = "stuck"\nweight = 1000\n'
TOO_LONG = ("stuck", "err", 0, "this rule could not tell: it took too long")


def said(message: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    return [
        (one["rule"], one["kind"], one["weight"], one["sentence"]) for one in message["reasons"]
    ]


def test_a_live_rule_that_never_comes_to_an_end_is_a_finding_and_keeps_nobody_waiting(
    databases: Databases, stuck: Stuck
) -> None:
    async def story(shop: Shop) -> None:
        # All at once: whoever waits behind the first one is answered as well.
        answers = await asyncio.gather(*(shop.judged(documented()) for _ in range(10)))
        answers += [await shop.judged(documented()) for _ in range(10)]
        assert not stuck.came_back.is_set()
        for message in answers:
            assert (message["isFraud"], message["score"]) == (False, 10)
            assert [one[0] for one in said(message)] == ["luhn", "stuck"]
            assert said(message)[1] == TOO_LONG
        # While it is away it is not asked again.
        assert stuck.asked == 1
        await shop.caught_up()

    with_police(databases, story, rules(LIVE + STUCK))
    # It can be computed again by whoever finds it as fast as it should be.
    stuck.let_go.set()
    again = replay(databases.settings, FRAUD_POLICE.name, say=print)
    assert (again.decisions, again.differences) == (20, [])


def test_a_rule_that_took_too_long_is_asked_again_when_it_has_come_back(
    databases: Databases, stuck: Stuck
) -> None:
    async def story(shop: Shop) -> None:
        assert TOO_LONG in said(await shop.judged(documented()))
        stuck.let_go.set()
        while TOO_LONG in said(message := await shop.judged(documented())):
            pass
        assert (message["isFraud"], message["score"]) == (True, 1010)

    with_police(databases, story, rules(LIVE + STUCK), rest_seconds=0)


def test_a_rule_that_took_too_long_rests_after_it_has_come_back(
    databases: Databases, stuck: Stuck
) -> None:
    async def story(shop: Shop) -> None:
        assert TOO_LONG in said(await shop.judged(documented()))
        stuck.let_go.set()
        assert await asyncio.to_thread(stuck.came_back.wait, PATIENCE_SECONDS)
        for _ in range(3):
            assert TOO_LONG in said(await shop.judged(documented()))
        assert stuck.asked == 1

    with_police(databases, story, rules(LIVE + STUCK), rest_seconds=NEVER_SECONDS)


def test_a_rule_that_took_too_long_counts_where_it_is_to_fail_closed(
    databases: Databases, stuck: Stuck
) -> None:
    async def story(shop: Shop) -> None:
        message = await shop.judged(documented())
        assert (message["isFraud"], message["score"]) == (True, 1010)
        assert not stuck.came_back.is_set()

    with_police(databases, story, rules(LIVE + STUCK + "fail_closed = true\n"))


class Drowsy:
    """A kind of rule that takes so long, by a clock of its own."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.takes_seconds = 2 * SLOW_SECONDS
        self.asked = 0

    def kind(self, _asked: NoParameters) -> Judge:
        def judge(_payment: Payment, _features: Features) -> Hit | None:
            self.asked += 1
            self.clock.push(self.takes_seconds)
            return Hit("", "", "at last")

        return judge


def test_a_live_rule_that_is_slow_each_time_is_not_asked_for_a_while(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody waits for it: what it finds is worth less than that."""
    drowsy = Drowsy()
    known = {**fraud_rules.KINDS, "drowsy": {1: Kind(NoParameters, drowsy.kind)}}
    monkeypatch.setattr("codebase.model.payments.fraud_rule_set.KINDS", known)
    too_long = ("drowsy", "err", 0, "this rule could not tell: it took too long")

    async def is_asked(shop: Shop) -> bool:
        before = drowsy.asked
        findings = said(await shop.judged(documented()))
        assert (too_long in findings) is (drowsy.asked == before)
        assert ("luhn", "hit") in [finding[:2] for finding in findings]
        return drowsy.asked > before

    async def story(shop: Shop) -> None:
        for _ in range(SLOW_MAX - 1):
            assert await is_asked(shop)
        drowsy.takes_seconds = SLOW_SECONDS / 2
        assert await is_asked(shop), "in time once, which counts"
        drowsy.takes_seconds = 2 * SLOW_SECONDS
        for _ in range(SLOW_MAX):
            assert await is_asked(shop)
        assert not await is_asked(shop)
        drowsy.clock.push(59.0)
        assert not await is_asked(shop)
        drowsy.clock.push(1.0)
        assert await is_asked(shop)

    slow = rules(LIVE + '[rules.drowsy]\nkind = "drowsy"\nweight = 1\n')
    with_police(databases, story, slow, rest_seconds=60.0, rules_clock=drowsy.clock)


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


COUNTS_MORE = """
    UPDATE fraud_decision
    SET features = jsonb_set(features, '{windows,60}', features #> '{windows,60}' || '[7]')
"""
COUNTS_AS_BEFORE = """
    UPDATE fraud_decision
    SET features = jsonb_set(features, '{windows,60}', (features #> '{windows,60}') - -1)
"""


def test_decisions_of_a_later_release_are_waited_for(
    databases: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    with_police(databases, three_payments, SHADOWED)
    before = found(databases)
    with databases.as_read_model_owner() as store:
        store.execute(COUNTS_MORE)
    told = verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=lambda _: None)
    assert sum("cannot be compared" in each for each in told) == len(before)
    with databases.as_read_model_owner() as store:
        store.execute("TRUNCATE fraud_shadow, fraud_shadow_reached")

    async def story(shop: Shop) -> None:
        await asyncio.to_thread(eventually, lambda: "shadow rules wait at " in caplog.text)
        assert not (await shop.judged(documented()))["isFraud"]
        await shop.caught_up()
        assert found(databases) == []
        with databases.as_read_model_owner() as store:
            store.execute(COUNTS_AS_BEFORE + " WHERE version < 4")
        await asyncio.to_thread(eventually, lambda: found(databases)[:2] == before)

    with_police(databases, story, SHADOWED)
