"""The fraud police: what it answers, once for each transaction, and how fast a card may pay."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Outcome, Submission
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.keys import new_key
from codebase.model.actor import Actor
from codebase.model.payments.card_check import (
    CARD_CHECK,
    Assess,
    TransactionAssessed,
    id_of_card,
)
from codebase.model.payments.cards import CardNumber
from codebase.model.payments.fraud_features import HISTORY_MAX, Features, Payment, Window
from codebase.model.payments.fraud_judgement import FindingKind
from codebase.model.payments.fraud_rule_history import FRAUD_RULES
from codebase.model.payments.fraud_rule_set import RuleSet
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.fraud_police.police import Police
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.services.fraud_police.rules import SHOWN
from codebase.views.payments.settings import card_reducer
from tests.integration.police import (
    BEGIN,
    DEFAULT_RULES,
    LUHN_RIGHT,
    PATH,
    Hand,
    Shop,
    another_police,
    documented,
    rule_names,
    rules,
    with_police,
)

if TYPE_CHECKING:
    from tests.databases import Databases

FIVE_A_MINUTE = rules(
    '[rules.fast]\nkind = "card_payments"\nweight = 100\nwindow = 60\nlimit = 5\nstrict = true'
)
LOOSE = rules('[rules.fast]\nkind = "card_payments"\nweight = 100\nwindow = 60\nlimit = 5')
AT_ONCE = 20
DECISION_MAX_BYTES = 2048


def decisions(databases: Databases) -> int:
    with databases.as_owner() as log:
        row = log.execute("SELECT count(*) FROM event WHERE category = 'card_check'").fetchone()
    assert row is not None
    return int(row[0])


def test_the_documented_transaction_passes_with_reasons(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        message = await shop.judged(documented())
        assert message["isFraud"] is False
        assert rule_names(message) == {"luhn", "little_history"}
        assert message["score"] == sum(reason["weight"] for reason in message["reasons"])
        [luhn] = [reason for reason in message["reasons"] if reason["rule"] == "luhn"]
        assert luhn == {
            "rule": "luhn",
            "version": 1,
            "weight": 10,
            "kind": "hit",
            "observed": "wrong",
            "limit": "right",
            "window": None,
            "sentence": "the card's number fails Luhn's formula",
        }

    with_police(databases, story)


def test_the_documented_transaction_is_denied_from_the_31st_in_a_minute_on(
    databases: Databases,
) -> None:
    clock = Hand()

    async def story(shop: Shop) -> None:
        for _ in range(30):
            assert not (await shop.judged(documented()))["isFraud"]
        await shop.caught_up()
        denied = await shop.judged(documented())
        assert denied["isFraud"]
        assert "card_payments_in_a_minute" in rule_names(denied)
        clock.move(60)
        await shop.caught_up()
        assert not (await shop.judged(documented()))["isFraud"], "the minute is over"

    with_police(databases, story, now=clock)


def test_the_page_leads_to_older_decisions_and_shows_only_what_was_denied(
    databases: Databases,
) -> None:
    """Five more than fit on one: the sixth of a card is denied, and all that follow."""

    async def story(shop: Shop) -> None:
        sent = [documented() for _ in range(SHOWN + 5)]
        for each in sent:
            await shop.judged(each)
        await shop.caught_up()
        ids = [each["transactionID"] for each in reversed(sent)]
        newest = await page(shop, "/")
        assert shown(newest) == ids[:SHOWN]
        older = await page(shop, older_than(newest))
        assert shown(older) == ids[SHOWN:]
        assert OLDER.search(older) is None
        assert shown(await page(shop, "/?is_fraud=false")) == ids[-5:]
        denied = await page(shop, "/?is_fraud=true")
        assert shown(denied) == ids[:SHOWN]
        assert shown(await page(shop, older_than(denied))) == []
        assert shown(await page(shop, "/?is_fraud=")) == ids[:SHOWN], "as the form says it"
        gone = await shop.send("GET", f"/?last_reference={uuid4()}", who="watcher")
        assert gone.status_code == 404

    with_police(databases, story, FIVE_A_MINUTE)


OLDER = re.compile(r'<a rel="next" href="([^"]+)">older decisions')


async def page(shop: Shop, path: str) -> str:
    answer = await shop.send("GET", path, who="watcher")
    assert answer.status_code == 200, answer.text
    return answer.text


def shown(page: str) -> list[str]:
    """The transactions on a page, in their order."""
    return re.findall(r'href="/decisions/([0-9a-f-]{36})"', page)


def older_than(page: str) -> str:
    found = OLDER.search(page)
    assert found is not None
    return html.unescape(found[1])


def test_a_repeat_has_the_same_answer_whatever_has_come_since(databases: Databases) -> None:
    body = documented()

    async def story(shop: Shop) -> None:
        first = await shop.send("POST", PATH, body)
        for _ in range(6):
            await shop.judged(documented())
        again = await shop.send("POST", PATH, body)
        assert (again.status_code, again.json()) == (200, first.json())
        assert again.headers["Idempotent-Replayed"] == "true"
        other = await shop.send("POST", PATH, {**body, "paymentMethod": "paytm"})
        assert other.status_code == 422

    with_police(databases, story, FIVE_A_MINUTE)
    assert decisions(databases) == 7


def test_what_a_client_was_told_in_advance_does_not_answer_for_its_payment(
    databases: Databases,
) -> None:
    """`transact` makes a transaction's id of what the client chooses, so the client knows it."""
    body = documented()

    async def story(shop: Shop) -> None:
        assert not (await shop.judged(body))["isFraud"]
        blocking = {"list": "block", "client": "shop", "reason": "gone"}
        blocking["ends_at"] = (BEGIN + timedelta(days=1)).isoformat()
        made = await shop.send("POST", "/listings", blocking, who="boss")
        assert made.status_code == 201
        await shop.caught_up()
        assert not (await shop.judged(body))["isFraud"], "the client is told what it was told"
        by_transact = await shop.send("POST", PATH, body, who="boss")
        assert by_transact.json()["message"]["isFraud"]
        assert "Idempotent-Replayed" not in by_transact.headers
        again = await shop.send("POST", PATH, body, who="boss")
        assert again.json() == by_transact.json()
        assert again.headers["Idempotent-Replayed"] == "true"

    with_police(databases, story)
    assert decisions(databases) == 2


def test_100_at_once_of_one_card_clear_exactly_5_against_a_strict_limit_of_5(
    databases: Databases,
) -> None:
    async def story(shop: Shop) -> None:
        answers = await asyncio.gather(*(shop.judged(documented()) for _ in range(100)))
        assert sum(not each["isFraud"] for each in answers) == 5

    with_police(databases, story, FIVE_A_MINUTE)


def test_two_polices_together_clear_exactly_5_against_a_strict_limit_of_5(
    databases: Databases,
) -> None:
    async def story(shop: Shop) -> None:
        async with another_police(shop, FIVE_A_MINUTE) as other:
            asked = [each.judged(documented()) for _ in range(50) for each in (shop, other)]
            answers = await asyncio.gather(*asked)
        assert sum(not each["isFraud"] for each in answers) == 5

    with_police(databases, story, FIVE_A_MINUTE)


def test_a_log_that_does_not_answer_keeps_nobody_waiting_for_those_before_him(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules are adopted before the first decision: all who come at once wait for one attempt."""
    attempts = arrived = 0
    all_are_there = asyncio.Event()
    adopt = Police._adopt  # noqa: SLF001 - who is in there waits

    async def arriving(police: Police) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == AT_ONCE:
            all_are_there.set()
        await adopt(police)

    async def away(_bus: CommandBus, submission: Submission) -> Outcome:
        nonlocal attempts
        assert submission.aggregate is FRAUD_RULES
        attempts += 1
        await all_are_there.wait()
        raise ServiceUnavailable("write_model")

    async def story(shop: Shop) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(CommandBus, "execute", away)
            broken.setattr(Police, "_adopt", arriving)
            asked = [shop.send("POST", PATH, documented()) for _ in range(AT_ONCE)]
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {503}
        assert attempts == 1
        assert not (await shop.judged(documented()))["isFraud"]

    with_police(databases, story)


def test_100_at_once_of_one_transaction_are_one_decision(databases: Databases) -> None:
    body = documented()

    async def story(shop: Shop) -> None:
        answers = await asyncio.gather(*(shop.judged(body) for _ in range(100)))
        assert all(each == answers[0] for each in answers)

    with_police(databases, story, FIVE_A_MINUTE)
    assert decisions(databases) == 1


def test_a_limit_that_is_not_strict_holds_once_the_tables_have_caught_up(
    databases: Databases,
) -> None:
    async def story(shop: Shop) -> None:
        for _ in range(5):
            assert not (await shop.judged(documented()))["isFraud"]
        await shop.caught_up()
        assert (await shop.judged(documented()))["isFraud"]

    with_police(databases, story, LOOSE)


@pytest.mark.parametrize("rule_set", [FIVE_A_MINUTE, LOOSE], ids=["strict", "loose"])
def test_a_new_key_leaves_a_card_what_it_was(databases: Databases, rule_set: object) -> None:
    old, new = new_key("old"), new_key("new")
    clock, repeated = Hand(), documented()

    async def before(shop: Shop) -> None:
        await shop.judged(repeated)
        for _ in range(4):
            assert not (await shop.judged(documented()))["isFraud"]
        await shop.caught_up()

    async def after(shop: Shop) -> None:
        again = await shop.send("POST", PATH, repeated)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (await shop.judged(documented()))["isFraud"]

    with_police(databases, before, rule_set, clock, (old,))  # type: ignore[arg-type]
    with_police(databases, after, rule_set, clock, (new, old))  # type: ignore[arg-type]


def test_no_card_number_is_left_anywhere(databases: Databases) -> None:
    number = "4929123456781234"

    async def story(shop: Shop) -> None:
        answer = await shop.send("POST", PATH, documented(card=number))
        assert answer.status_code == 200
        refused = await shop.send("POST", PATH, documented(card=number, cvv="123"))
        assert refused.status_code == 422
        too_long = await shop.send("POST", PATH, documented(card=f"{number}99999"))
        assert too_long.status_code == 422
        await shop.caught_up()
        for each in (answer, refused, too_long):
            assert number[6:12] not in each.text

    with_police(databases, story)
    with databases.as_owner() as log, databases.as_read_model_owner() as store:
        for table in ("event", "command_note"):
            assert "345678" not in str(log.execute(f"TABLE {table}").fetchall())
        for table in ("fraud_decision", "fraud_payment"):
            assert "345678" not in str(store.execute(f"TABLE {table}").fetchall())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"card": "1234"}, "payment.card"),
        ({"card": True}, "payment.card"),
        ({"card": {"brand": "visa"}}, "payment.card"),
        ({"amount": "1.234"}, "payment.amount"),
        ({"amount": 0}, "payment.amount"),
        ({"cost": "NaN"}, "order.cost"),
        ({"currency": "inr"}, "payment.currency"),
        ({"type": ""}, "payment.type"),
        ({"id": ""}, "order.id"),
        ({"transactionID": "1"}, "transactionID"),
        ({"userID": ""}, "userID"),
        ({"paymentMethod": 1}, "paymentMethod"),
        ({"pin": "1234"}, "pin"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_field_and_not_repeated(
    databases: Databases, changed: dict[str, object], field: str
) -> None:
    async def story(shop: Shop) -> None:
        answer = await shop.send("POST", PATH, documented(**changed))
        assert answer.status_code == 422
        assert any(name.startswith(field) for name in answer.json()["errors"]), answer.text

    with_police(databases, story)
    assert decisions(databases) == 0


def test_a_client_shows_its_own_transactions_only_and_administrators_everybodys(
    databases: Databases,
) -> None:
    async def story(shop: Shop) -> None:
        assert (await shop.send("POST", PATH, documented(), who="other")).status_code == 403
        assert (await shop.send("POST", PATH, documented(), who="watcher")).status_code == 403
        assert not (await shop.judged(documented(), who="boss"))["isFraud"]
        for who, status in (("shop", 403), ("boss", 200)):
            headers = {"X-User-Id": "other"}
            answer = await shop.send("POST", PATH, documented(), who=who, headers=headers)
            assert answer.status_code == status
        empty = {"X-User-Id": " "}
        answer = await shop.send("POST", PATH, documented(), who="boss", headers=empty)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["X-User-Id"])
        await shop.caught_up()
        others = (await shop.send("GET", "/decisions", who="other")).json()
        assert len(others["items"]) == 1

    with_police(databases, story)


def requested(at: datetime, **changed: object) -> dict[str, Any]:
    return documented(requested_at=at.isoformat(), **changed)


@pytest.mark.parametrize("order", [range(8), range(7, -1, -1)], ids=["oldest", "newest"])
@pytest.mark.parametrize("rule_set", [FIVE_A_MINUTE, LOOSE], ids=["strict", "loose"])
def test_what_waited_together_is_judged_as_of_when_it_was_requested(
    databases: Databases, rule_set: RuleSet, order: Sequence[int]
) -> None:
    clock = Hand(BEGIN + timedelta(hours=1))

    async def story(shop: Shop) -> None:
        for minute in order:
            at = BEGIN + timedelta(minutes=minute)
            assert not (await shop.judged(requested(at), who="boss"))["isFraud"]
        await shop.caught_up()
        # What was requested together still counts together.
        at = BEGIN + timedelta(minutes=30)
        for second in range(5):
            body = requested(at + timedelta(seconds=second))
            assert not (await shop.judged(body, who="boss"))["isFraud"]
        await shop.caught_up()
        body = requested(at + timedelta(seconds=5))
        assert (await shop.judged(body, who="boss"))["isFraud"]

    with_police(databases, story, rule_set, now=clock)


def test_nothing_is_judged_as_of_the_future(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        await shop.judged(requested(BEGIN + timedelta(days=365)), who="boss")
        await shop.caught_up()

    with_police(databases, story)
    with databases.as_owner() as log:
        query = "SELECT data ->> 'as_of' FROM event WHERE category = 'card_check'"
        [(as_of,)] = log.execute(query).fetchall()
    assert datetime.fromisoformat(as_of) - BEGIN < timedelta(seconds=1)


def test_only_administrators_say_when_it_was_requested(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        assert (await shop.send("POST", PATH, requested(BEGIN))).status_code == 403
        for nonsense in ("yesterday", "2026-11-28T12:00:00", 1764331200):
            body = documented(requested_at=nonsense)
            answer = await shop.send("POST", PATH, body, who="boss")
            assert (answer.status_code, list(answer.json()["errors"])) == (422, ["requested_at"])

    with_police(databases, story)
    assert decisions(databases) == 0


def test_a_reduced_card_is_the_card_that_it_was_made_of(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        for _ in range(5):
            await shop.judged(documented(card=LUHN_RIGHT))
        await shop.caught_up()
        with databases.as_read_model_owner() as store:
            row = store.execute("SELECT payment -> 'card' FROM fraud_decision LIMIT 1").fetchone()
        assert row is not None
        assert (await shop.judged(documented(card=row[0])))["isFraud"]

    with_police(databases, story, FIVE_A_MINUTE)


def test_tables_equal_the_log_and_a_decision_is_small(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        for number in range(8):
            await shop.judged(documented(amount=f"{number + 1}.10", card=LUHN_RIGHT))
        await shop.caught_up()

    with_police(databases, story)
    assert verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=print) == []
    with databases.as_owner() as log:
        row = log.execute(
            "SELECT max(octet_length(data::text)) FROM event WHERE category = 'card_check'"
        ).fetchone()
    assert row is not None
    assert 0 < row[0] <= DECISION_MAX_BYTES


def test_a_decision_in_which_all_rules_hit_takes_two_kilobytes_where_it_is_stored(
    databases: Databases,
) -> None:
    """All that can hit together of the rules that the service comes with, with numbers as long as
    they become: a text of nearly 4 KB, which Postgres compresses.
    """
    settings, much = databases.settings, Decimal("999999999.99")
    payment = Payment(
        client="shop",
        method="amazonpay",
        kind="wallet",
        card=card_reducer(settings).reduce(CardNumber.read("1234567887654321")),
        amount=much,
        currency="INR",
        cost=Decimal("0.01"),
        cost_currency="INR",
    )
    all_of_it = Window(
        client_payments=HISTORY_MAX,
        client_in_currency=HISTORY_MAX,
        client_sum=Decimal("49999999000.01"),
        client_cards=HISTORY_MAX,
        card_payments=HISTORY_MAX,
        card_sum=Decimal("49999999000.01"),
        card_clients=HISTORY_MAX,
        card_same_amount=HISTORY_MAX,
    )
    features = Features(windows=dict.fromkeys(DEFAULT_RULES.windows, all_of_it))
    [strict] = [rule.parameters.limit for rule in DEFAULT_RULES.live if rule.is_strict]

    async def judge_in_turn() -> TransactionAssessed:
        async with CommandBus.open(settings) as bus:
            for number in range(strict + 1):
                assess = Assess(
                    transaction_id=str(uuid4()),
                    payment=payment,
                    as_of=BEGIN + timedelta(microseconds=number),
                    features=features,
                    positions={0: 10**9},
                    rules=DEFAULT_RULES,
                )
                outcome = await bus.execute(
                    Submission(
                        aggregate=CARD_CHECK,
                        stream_id=id_of_card(payment.card),
                        command=assess,
                        idempotence_key=assess.transaction_id,
                        content=Content.of("assess", {}, {}),
                        actor=Actor("shop"),
                        command_id=assess.transaction_id,
                    )
                )
        last: TransactionAssessed = outcome.state.last
        return last

    decided = asyncio.run(judge_in_turn())
    # A currency that is not the order's has amounts that do not compare; who has much of a past
    # has not little.
    cannot = {"currency_mismatch", "little_history"}
    hits = {each.rule for each in decided.findings if each.kind is FindingKind.HIT}
    assert hits == {rule.id for rule in DEFAULT_RULES.live} - cannot
    with databases.as_owner() as log:
        query = "SELECT max(pg_column_size(data)) FROM event WHERE category = 'card_check'"
        row = log.execute(query).fetchone()
    assert row is not None
    assert 0 < row[0] <= DECISION_MAX_BYTES


def test_other_ids_are_other_transactions(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        for _ in range(2):
            await shop.judged(documented(transactionID=str(uuid4())))

    with_police(databases, story)
    assert decisions(databases) == 2
