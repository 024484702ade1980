"""Payments through the service: answered as they end, once for each key, and never forgotten."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from prometheus_client import REGISTRY

from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.keys import new_key
from codebase.foundation.tokens import new_token
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.transact import at_work, figures, taking
from codebase.services.transact.driver import TRANSACTION_AGES, TRANSACTIONS
from codebase.views.payments.settings import PaymentSettings
from tests.integration.alerts import event_of
from tests.integration.flow import ROOT, query, write
from tests.integration.payments import (
    CARD,
    COMPLETE,
    FAILED_RULE,
    MOMENT_SECONDS,
    REASON,
    Outside,
    Payer,
    comes_to,
    paying,
    payment,
    settings_of,
    until,
)
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS
from tests.unit.test_transaction import FLAGGED, FOUND, REQUESTED

if TYPE_CHECKING:
    from tests.databases import Databases

Story = Callable[[Payer], Awaitable[None]]
FAILED = [*COMPLETE[:-1], "PAYMENT_FAILED"]


@pytest.fixture
def settings(databases: Databases, outside: Outside) -> PaymentSettings:
    return settings_of(databases, outside)


@pytest.fixture(autouse=True)
def deadlines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers is waited for; who hangs is given up as soon as he ever is."""
    call = getattr(request.node, "callspec", None)
    if call is None or call.params.get("manner") != "hang":
        monkeypatch.setattr(at_work, "POLICE_DEADLINE_SECONDS", PATIENCE_SECONDS)
        monkeypatch.setattr(at_work, "PROVIDER_DEADLINE_SECONDS", PATIENCE_SECONDS)


def tell(settings: PaymentSettings, story: Story) -> None:
    """Have the story happen; whatever it was, the log and all that follows from it agree."""

    async def told() -> None:
        async with paying(settings) as payer:
            await story(payer)

    asyncio.run(told())
    reactions = [TRANSACTIONS, TRANSACTION_AGES]
    found = verify(
        settings, SYSTEM.aggregates, [SYSTEM.read_model], reactions=reactions, say=lambda _: None
    )
    assert found == []


def test_the_documented_request_is_paid(settings: PaymentSettings, outside: Outside) -> None:
    async def story(payer: Payer) -> None:
        answer = await payer.pay_until(200)
        said = answer.json()
        transaction_id = said["transactionID"]
        assert said == {
            "message": "Transaction Successful",
            "transactionID": transaction_id,
            "status": "PAYMENT_COMPLETE",
        }
        assert answer.headers["Location"] == f"/transactions/{transaction_id}"
        shown = await payer.details(transaction_id)
        assert [step["status"] for step in shown["transitions"]] == COMPLETE
        assert shown["payment"]["card"] == {"brand": "unknown", "last_four": "4321"}
        assert shown["order"] == {
            "id": "1234",
            "name": "A lamp",
            "cost": "123.00",
            "currency": "INR",
        }
        assert outside.charges == {transaction_id: 1}

    tell(settings, story)


NUMBERS = (
    '{"order":{"id":1234,"name":"…","cost":123.00,"currency":"INR"},"paymentMethod":"amazonpay",'
    '"payment":{"card":1234567887654321,"type":"wallet","amount":123.00,"currency":"INR"}}'
)
"""The request as it was agreed on, where README has texts."""


def printed() -> list[str]:
    """The requests of README, as they are printed there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"/transact .*?-d '(.*?)'", text, re.DOTALL)


def test_the_request_is_paid_as_it_is_printed_and_shown_by_its_id(
    settings: PaymentSettings, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "WAIT_SECONDS", NEVER_SECONDS)
    in_readme = printed()
    assert in_readme

    async def story(payer: Payer) -> None:
        for body in (NUMBERS, *in_readme):
            answer = await payer.client.post(
                "/transact",
                content=body.encode(),
                headers={"Content-Type": "application/json"},
                timeout=PATIENCE_SECONDS,
            )
            assert (answer.status_code, answer.json()["status"]) == (200, "PAYMENT_COMPLETE")
            transaction_id = answer.json()["transactionID"]
            shown = await payer.details(transaction_id)
            assert (shown["transactionID"], shown["status"]) == (transaction_id, COMPLETE[-1])
            assert shown["order"] == {
                "id": "1234",
                "name": json.loads(body)["order"]["name"],
                "cost": "123.00",
                "currency": "INR",
            }
            assert shown["paymentMethod"] == "amazonpay"
            assert shown["payment"] == {
                "card": {"brand": "unknown", "last_four": "4321"},
                "type": "wallet",
                "amount": "123.00",
                "currency": "INR",
            }
            assert outside.charges[transaction_id] == 1

    tell(settings, story)


def test_whoever_waits_is_woken_when_it_has_ended(
    settings: PaymentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "WAIT_SECONDS", NEVER_SECONDS)

    async def story(payer: Payer) -> None:
        key = uuid4().hex
        # Repeats wait with the first one.
        answers = await asyncio.gather(*(payer.pay(key=key) for _ in range(8)), payer.pay())
        assert [answer.status_code for answer in answers] == [200] * 9

    tell(settings, story)


def test_what_was_stored_is_never_answered_as_if_it_were_not(
    settings: PaymentSettings, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has no key and is answered 503 asks again, and pays twice."""
    outside.police = lambda _body, _nth: "fail"
    monkeypatch.setattr(taking, "WAIT_SECONDS", 0)

    async def no_second_look(_bus: object, _transaction_id: object) -> None:
        raise ServiceUnavailable("the log did not answer in time")

    monkeypatch.setattr(taking, "look_at", no_second_look)

    async def story(payer: Payer) -> None:
        answer = await payer.pay()
        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
        outside.police = lambda _body, _nth: "clear"
        await comes_to(payer, answer.json()["transactionID"], COMPLETE)

    tell(settings, story)


def test_an_answer_covers_its_end_for_whoever_reads_next(settings: PaymentSettings) -> None:
    async def story(payer: Payer) -> None:
        said = (await payer.pay_until(200)).json()
        # Without a token: what this process has written for the same caller counts.
        [shown] = (await payer.client.get("/transactions")).json()["items"]
        assert (shown["transactionID"], shown["status"]) == (
            said["transactionID"],
            "PAYMENT_COMPLETE",
        )

    tell(settings, story)


def test_the_police_is_shown_the_transaction_and_of_the_card_what_it_was_reduced_to(
    settings: PaymentSettings, outside: Outside
) -> None:
    async def story(payer: Payer) -> None:
        said = (await payer.pay_until(200)).json()
        [(headers, body)] = outside.asked
        assert headers["X-User-Id"] == "local"
        assert body["transactionID"] == said["transactionID"]
        assert body["userID"] == "local"
        card = body["payment"].pop("card")
        assert (card["brand"], card["last_four"], card["luhn"]) == ("unknown", "4321", False)
        [fingerprint] = card["fingerprints"]
        assert fingerprint.startswith("c1:")
        assert body["payment"] == {"type": "wallet", "amount": "123.00", "currency": "INR"}
        assert body["order"]["cost"] == "123.00"
        assert CARD not in json.dumps([*outside.asked, *outside.bodies])

    tell(settings, story)


def test_fraud_is_a_business_answer_and_is_never_charged(
    settings: PaymentSettings, outside: Outside
) -> None:
    outside.police = lambda _body, _nth: "fraud"

    async def story(payer: Payer) -> None:
        key = uuid4().hex
        answer = await payer.pay_until(402, key=key)
        problem = answer.json()
        transaction_id = problem["transactionID"]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Consistency-Token"]
        assert problem["type"] == "/problems/fraudulent-transaction"
        assert (problem["status"], problem["fraudStatus"]) == (402, True)
        assert problem["transactionStatus"] == "FRAUDULENT"
        assert problem["instance"] == answer.headers["X-Request-Id"]
        again = await payer.pay(key=key)
        assert (again.status_code, again.json()["transactionID"]) == (402, transaction_id)
        assert again.headers["Idempotent-Replayed"] == "true"
        shown = await payer.details(transaction_id)
        flagged = shown["transitions"][-1]
        assert (flagged["status"], flagged["score"]) == ("FRAUDULENT", "60")
        assert flagged["findings"] == [
            {name: str(value) for name, value in each.items()} for each in (REASON, FAILED_RULE)
        ]
        assert not outside.calls[transaction_id]

    tell(settings, story)


def test_what_was_found_before_its_kind_was_kept_is_shown_as_it_was_found(
    databases: Databases, settings: PaymentSettings
) -> None:
    found = asdict(FOUND)
    del found["kind"]
    before = json.dumps({"score": "40", "reasons": [found]})
    made = uuid4()
    steps = [event_of(settings, made, 1, REQUESTED), event_of(settings, made, 2, FLAGGED)]
    write(databases, [steps[0], replace(steps[1], data=before)])

    async def story(payer: Payer) -> None:
        shown = await payer.details(str(made))
        assert shown["transitions"][-1]["findings"] == [found]

    tell(settings, story)


def test_a_payment_that_is_refused_has_failed(settings: PaymentSettings, outside: Outside) -> None:
    outside.provider = lambda _body, _nth: "refuse"

    async def story(payer: Payer) -> None:
        problem = (await payer.pay_until(402)).json()
        assert problem["type"] == "/problems/payment-failed"
        assert "fraudStatus" not in problem
        shown = await payer.details(problem["transactionID"])
        assert [step["status"] for step in shown["transitions"]] == FAILED
        assert shown["transitions"][-1]["reason"] == "no money there"

    tell(settings, story)


def test_one_key_is_one_transaction_and_one_charge(
    settings: PaymentSettings, outside: Outside
) -> None:
    async def story(payer: Payer) -> None:
        key = uuid4().hex
        answers = await asyncio.gather(*(payer.pay(key=key) for _ in range(100)))
        assert {answer.status_code for answer in answers} <= {200, 202}
        last = await payer.pay_until(200, key=key)
        assert last.headers["Idempotent-Replayed"] == "true"
        ids = {answer.json()["transactionID"] for answer in [*answers, last]}
        assert len(ids) == 1
        assert Counter(outside.charges) == {ids.pop(): 1}

    tell(settings, story)


def test_without_a_key_each_request_is_a_payment_of_its_own(
    settings: PaymentSettings, outside: Outside
) -> None:
    async def story(payer: Payer) -> None:
        answers = [await payer.pay() for _ in range(3)]
        ids = [answer.json()["transactionID"] for answer in answers]
        assert len(set(ids)) == 3
        for each in ids:
            await comes_to(payer, each, COMPLETE)
        assert outside.charges == dict.fromkeys(ids, 1)

    tell(settings, story)


@pytest.mark.parametrize(
    "other",
    [payment("124.00"), payment(card="1234567887654322"), payment(method="paytm"), payment(id=1)],
    ids=["amount", "card", "method", "order"],
)
def test_a_key_stands_for_one_content(settings: PaymentSettings, other: Mapping[str, Any]) -> None:
    async def story(payer: Payer) -> None:
        key = uuid4().hex
        await payer.pay(key=key)
        refused = await payer.pay(other, key=key)
        assert (refused.status_code, refused.json()["type"]) == (
            422,
            "/problems/idempotence-key-reused",
        )
        # The same number, written otherwise, is the same.
        assert (await payer.pay(payment(card=int(CARD)), key=key)).status_code in {200, 202}

    tell(settings, story)


def test_a_repeat_is_known_while_keys_of_cards_change(
    databases: Databases, outside: Outside
) -> None:
    settings, key = settings_of(databases, outside), uuid4().hex
    old, new = settings.card_keys[0], new_key("c2")
    ids = set()

    async def story(payer: Payer) -> None:
        ids.add((await payer.pay_until(200, key=key)).json()["transactionID"])
        # Alike, but for digits that are kept nowhere.
        other = await payer.pay(payment(card="1234560000654321"), key=key)
        assert other.json()["type"] == "/problems/idempotence-key-reused"

    for keys in ((old,), (old, new), (new, old)):
        tell(settings.model_copy(update={"card_keys": keys}), story)
    assert len(ids) == 1
    assert outside.charges == {ids.pop(): 1}


@pytest.mark.parametrize("manner", ["fail", "hang"])
def test_while_the_police_is_away_it_is_pending_and_then_completed_without_the_client(
    settings: PaymentSettings, outside: Outside, manner: str
) -> None:
    away = [True]
    outside.police = lambda _body, _nth: manner if away[0] else "clear"

    async def story(payer: Payer) -> None:
        keys = [uuid4().hex for _ in range(8)]
        answers = [await payer.pay(key=key) for key in keys]
        for answer in answers:
            said = answer.json()
            assert (answer.status_code, said["status"]) == (202, "PENDING")
            assert answer.headers["Location"] == f"/transactions/{said['transactionID']}"
        away[0] = False
        for answer in answers:
            await comes_to(payer, answer.json()["transactionID"], COMPLETE)
        for key, answer in zip(keys, answers, strict=True):
            again = await payer.pay(key=key)
            assert again.status_code == 200
            assert again.json()["transactionID"] == answer.json()["transactionID"]
        assert set(outside.charges.values()) == {1}

    tell(settings, story)


def test_what_has_not_ended_is_counted_and_how_old_it_is(
    settings: PaymentSettings, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "COUNT_INTERVAL_SECONDS", MOMENT_SECONDS)
    outside.police = lambda _body, _nth: "fail"

    def told(name: str) -> float:
        found = REGISTRY.get_sample_value(f"orderly_transactions_{name}", {"status": "PENDING"})
        return found or 0.0

    async def are(open_ones: int) -> None:
        async def counted() -> bool:
            return told("open") == open_ones and (told("oldest_seconds") > 0) is (open_ones > 0)

        await until(counted)

    async def story(payer: Payer) -> None:
        made = [(await payer.pay()).json()["transactionID"] for _ in range(2)]
        await are(2)
        outside.police = lambda _body, _nth: "clear"
        for each in made:
            await comes_to(payer, each, COMPLETE)
        await are(0)

    tell(settings, story)


def ended_so() -> dict[str, float]:
    """How many transactions this process has ended, by how."""
    name = "orderly_transactions_ended_total"
    endings = ["FRAUDULENT", "PAYMENT_COMPLETE", "PAYMENT_FAILED"]
    return {each: REGISTRY.get_sample_value(name, {"status": each}) or 0.0 for each in endings}


def test_how_transactions_end_is_counted_once(settings: PaymentSettings, outside: Outside) -> None:
    manners = {"1": "fraud", "2": "clear", "3": "clear"}
    outside.police = lambda body, _nth: manners[body["order"]["id"]]
    before = ended_so()

    async def are(**ended: int) -> None:
        async def counted() -> bool:
            return ended_so() == {each: before[each] + ended.get(each, 0) for each in before}

        await until(counted)

    async def story(payer: Payer) -> None:
        flagged, paid, settled = uuid4().hex, uuid4().hex, uuid4().hex
        await payer.pay(key=flagged, body=payment(id="1"))
        await are(FRAUDULENT=1)
        await payer.pay(key=paid, body=payment(id="2"))
        await are(FRAUDULENT=1, PAYMENT_COMPLETE=1)
        outside.provider = lambda _body, _nth: "fail"
        outside.inquiry = lambda _nth: "fail"
        made = (await payer.pay(key=settled, body=payment(id="3"))).json()["transactionID"]
        await comes_to(payer, made, COMPLETE[:-1])
        for _ in range(2):
            assert (await settle(payer, made, "PAYMENT_FAILED")).status_code == 200
        for key, order_id in ((flagged, "1"), (paid, "2"), (settled, "3")):
            await payer.pay(key=key, body=payment(id=order_id))
        await are(FRAUDULENT=1, PAYMENT_COMPLETE=1, PAYMENT_FAILED=1)

    tell(settings, story)


def test_a_charge_whose_answer_was_lost_is_found_by_asking_and_not_made_again(
    settings: PaymentSettings, outside: Outside
) -> None:
    outside.provider = lambda _body, _nth: "lose"

    async def story(payer: Payer) -> None:
        transaction_id = (await payer.pay_until(200)).json()["transactionID"]
        assert (outside.charges[transaction_id], outside.calls[transaction_id]) == (1, 1)
        assert outside.inquiries[transaction_id] >= 1

    tell(settings, story)


@pytest.mark.parametrize("manner", ["fail", "hang"])
def test_what_may_have_been_paid_is_asked_for_until_there_is_an_answer(
    databases: Databases, outside: Outside, manner: str
) -> None:
    settings = settings_of(databases, outside, reaction_attempts_max=2)
    outside.provider = lambda _body, nth: manner if nth <= 3 else "charge"

    async def story(payer: Payer) -> None:
        first = await payer.pay()
        assert (first.status_code, first.json()["status"]) == (202, "PENDING")
        transaction_id = first.json()["transactionID"]
        await comes_to(payer, transaction_id, COMPLETE)
        assert outside.calls[transaction_id] == 4
        assert outside.inquiries[transaction_id] >= 3
        assert outside.charges == {transaction_id: 1}

    tell(settings, story)


async def settle(payer: Payer, transaction_id: str, outcome: str, **headers: str) -> Any:  # noqa: ANN401 - an answer
    return await payer.client.post(
        f"/transactions/{transaction_id}/settle",
        json={"outcome": outcome, "reason": "seen at the bank"},
        headers=headers,
    )


@pytest.mark.parametrize(
    ("manner", "inquiry"),
    [("fail", "tell"), ("fail", "fail"), ("hang", "hang")],
    ids=["knows of nothing", "fails", "black hole"],
)
def test_what_only_a_person_can_know_is_settled_and_not_asked_for_after_that(
    settings: PaymentSettings, outside: Outside, manner: str, inquiry: str
) -> None:
    outside.provider = lambda _body, _nth: manner
    outside.inquiry = lambda _nth: inquiry

    async def story(payer: Payer) -> None:
        key = uuid4().hex
        transaction_id = (await payer.pay(key=key)).json()["transactionID"]
        await comes_to(payer, transaction_id, COMPLETE[:-1])
        settled = await settle(payer, transaction_id, "PAYMENT_FAILED")
        assert (settled.status_code, settled.json()["status"]) == (200, "PAYMENT_FAILED")
        called = outside.calls[transaction_id]
        last = (await payer.details(transaction_id))["transitions"][-1]
        assert (last["status"], last["reason"]) == ("PAYMENT_FAILED", "seen at the bank")
        assert last["settled_by"] == "local"
        assert (await payer.pay(key=key)).json()["type"] == "/problems/payment-failed"
        assert (await settle(payer, transaction_id, "PAYMENT_FAILED")).status_code == 200
        assert (await settle(payer, transaction_id, "PAYMENT_COMPLETE")).status_code == 409

        async def nobody_asks_any_more() -> bool:
            return query(databases_of(settings), OPEN) == [(0,)]

        await until(nobody_asks_any_more)
        # One attempt may have been on its way.
        assert outside.calls[transaction_id] <= called + 1

    tell(settings, story)


OPEN = "SELECT count(*) FROM reaction.intent WHERE ended_at IS NULL"
REMINDERS = "SELECT count(*) FROM reaction.reminder"


def databases_of(settings: PaymentSettings) -> Any:  # noqa: ANN401 - a connection
    return psycopg.connect(settings.required("write_model_owner_url"))


def test_only_what_was_initiated_is_settled_and_only_by_administrators(
    databases: Databases, outside: Outside
) -> None:
    secrets, entries = zip(*(new_token(*each) for each in TOKENS), strict=True)
    shop, root, watch = secrets
    settings = settings_of(databases, outside, api_tokens=entries, service_token=root)

    async def story(payer: Payer) -> None:
        answer = await payer.pay_until_with(shop)
        transaction_id = answer.json()["transactionID"]
        for token, status in ((shop, 403), (watch, 403), (root, 409)):
            answer = await settle(payer, transaction_id, "PAYMENT_FAILED", **{"X-Token": token})
            assert answer.status_code == status
        unknown = await settle(payer, str(uuid4()), "PAYMENT_FAILED", **{"X-Token": root})
        assert unknown.status_code == 404

    tell(settings, story)


TOKENS = (("shop", "client"), ("root", "admin"), ("watch", "operator"))


def test_rows_belong_to_their_client(databases: Databases, outside: Outside) -> None:
    tokens = (*TOKENS, ("other", "client"))
    secrets, entries = zip(*(new_token(*each) for each in tokens), strict=True)
    shop, root, watch, other = secrets
    settings = settings_of(databases, outside, api_tokens=entries, service_token=root)

    async def story(payer: Payer) -> None:
        transaction_id = (await payer.pay_until_with(shop)).json()["transactionID"]
        [(headers, body)] = outside.asked
        assert (headers["X-User-Id"], headers["X-Token"]) == ("shop", root)
        assert body["userID"] == "shop"
        for token, sees in ((shop, True), (root, True), (watch, True), (other, False)):
            latest = {"X-Token": token, "Consistency-Token": "latest"}
            page = (await payer.client.get("/transactions", headers=latest)).json()
            assert [each["transactionID"] for each in page["items"]] == [transaction_id] * sees
            one = await payer.client.get(f"/transactions/{transaction_id}", headers=latest)
            assert one.status_code == (200 if sees else 404)
        assert (await payer.client.get("/transactions")).status_code == 401
        refused = await payer.pay(**{"X-Token": watch})
        assert refused.status_code == 403

    tell(settings, story)


def test_a_transaction_that_waits_for_too_long_fails_and_stays_so(
    databases: Databases, outside: Outside
) -> None:
    settings = settings_of(databases, outside, transaction_max_age_s=0.001)
    outside.police = lambda _body, _nth: "fail"
    before = ended_so()

    async def story(payer: Payer) -> None:
        key = uuid4().hex
        first = (await payer.pay(key=key)).json()
        transaction_id = first["transactionID"]
        await comes_to(payer, transaction_id, ["PENDING", "PAYMENT_FAILED"])
        last = (await payer.details(transaction_id))["transitions"][-1]
        assert last["reason"] == "it was PENDING for more than 0.001 seconds"
        outside.police = lambda _body, _nth: "clear"

        async def everything_is_done() -> bool:
            return query(databases_of(settings), OPEN) == [(0,)]

        await until(everything_is_done)
        assert await payer.history(transaction_id) == ["PENDING", "PAYMENT_FAILED"]
        assert not outside.calls[transaction_id]
        assert (await payer.pay(key=key)).json()["type"] == "/problems/payment-failed"
        assert ended_so() == {**before, "PAYMENT_FAILED": before["PAYMENT_FAILED"] + 1}

    tell(settings, story)


def test_money_that_moved_against_what_was_settled_is_seen_by_operators(
    settings: PaymentSettings, outside: Outside
) -> None:
    """It was on its way when somebody settled it: the log and the provider say different things."""
    outside.provider = lambda _body, _nth: "late"

    async def story(payer: Payer) -> None:
        transaction_id = (await payer.pay()).json()["transactionID"]
        await comes_to(payer, transaction_id, COMPLETE[:-1])

        async def has_been_charged() -> bool:
            return outside.charges[transaction_id] == 1

        await until(has_been_charged)
        assert (await settle(payer, transaction_id, "PAYMENT_FAILED")).status_code == 200
        outside.late.set()

        async def is_parked() -> bool:
            reasons = query(databases_of(settings), PARKED)
            return any("the provider says PAYMENT_COMPLETE" in reason for (reason,) in reasons)

        await until(is_parked)
        assert await payer.history(transaction_id) == FAILED

    tell(settings, story)


PARKED = "SELECT reason FROM reaction.intent WHERE state = 'parked'"


def test_a_word_of_the_police_that_is_none_is_parked_and_can_be_asked_for_again(
    settings: PaymentSettings, outside: Outside
) -> None:
    outside.police = lambda _body, _nth: "nonsense"

    async def story(payer: Payer) -> None:
        answer = await payer.pay()
        assert answer.status_code == 202

        async def is_parked() -> bool:
            return "answered, and not whether it is fraud" in str(
                query(databases_of(settings), PARKED)
            )

        await until(is_parked)
        assert await payer.history(answer.json()["transactionID"]) == ["PENDING"]

    tell(settings, story)


def changed(path: str, value: object) -> dict[str, Any]:
    body = payment()
    *parents, last = path.split(".")
    inner = body
    for name in parents:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return body


NUMBER = "4539578763621486"
WRONG = [
    ("payment.card", 45395787636),
    ("payment.card", "453957876362148612345"),
    ("payment.card", f" {NUMBER}"),
    ("payment.card", [NUMBER]),
    ("payment.card", {"number": NUMBER}),
    ("payment.card", True),
    ("payment.card", None),
    ("payment.cvv", "123"),
    ("payment.cvc", 123),
    ("payment.pin", "1234"),
    ("payment.track2", NUMBER),
    ("cvv", "123"),
    ("order.cvv", "123"),
    ("payment.type", "cash"),
    ("payment.amount", "0"),
    ("payment.amount", "1.234"),
    ("payment.amount", "1000000000"),
    ("payment.amount", NUMBER),
    ("payment.amount", -1),
    ("payment.currency", "XXX"),
    ("payment.currency", "inr"),
    ("payment.currency", NUMBER),
    ("order.currency", 1),
    ("order.cost", "NaN"),
    ("order.id", 1.5),
    ("order.id", ""),
    ("order.id", "x" * 65),
    ("order.id", True),
    ("order.name", ""),
    ("order.name", "a\nb"),
    ("paymentMethod", "bitcoin"),
    ("paymentMethod", NUMBER),
    ("order", None),
    ("payment", NUMBER),
]


def test_bad_input_names_the_field_writes_nothing_and_repeats_no_number(
    settings: PaymentSettings,
) -> None:
    async def story(payer: Payer) -> None:
        for path, value in WRONG:
            answer = await payer.pay(changed(path, value))
            assert answer.status_code == 422, (path, value)
            assert list(answer.json()["errors"]) == [path], (path, value)
            assert NUMBER not in answer.text
            assert NUMBER not in str(answer.headers)
        assert (await payer.client.get("/transactions")).json()["items"] == []

    tell(settings, story)
    assert query(databases_of(settings), "SELECT count(*) FROM event") == [(0,)]


@pytest.mark.parametrize(
    ("field", "body", "key"),
    [
        ("order.id", payment(id=f"x{CARD}"), None),
        ("order.id", payment(id=int(CARD)), None),
        ("order.name", payment(name="card 1234-5678 8765 4321"), None),
        ("Idempotency-Key", payment(), f"try-{CARD}"),
    ],
)
def test_a_cards_number_is_refused_wherever_it_would_be_kept(
    settings: PaymentSettings, field: str, body: Mapping[str, Any], key: str | None
) -> None:
    async def story(payer: Payer) -> None:
        answer = await payer.pay(body, key)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])

    tell(settings, story)


def test_pages_are_newest_first_and_hold_each_transaction_once(
    settings: PaymentSettings, outside: Outside
) -> None:
    outside.police = lambda body, _nth: "fraud" if body["order"]["id"] in "135" else "clear"

    async def story(payer: Payer) -> None:
        made = []
        for number in range(7):
            answer = await payer.pay(payment(id=str(number)))
            while answer.status_code == 202:
                answer = await payer.pay(payment(id=str(number)))
            made.append(answer.json()["transactionID"])
        latest = {"Consistency-Token": "latest"}
        for status, wanted in (
            (None, None),
            ("FRAUDULENT", {"1", "3", "5"}),
            ("PAYMENT_COMPLETE", {"0", "2", "4", "6"}),
            ("PAYMENT_FAILED", set()),
        ):
            found: list[dict[str, Any]] = []
            reference: str | None = None
            while True:
                parameters = {"size": "2", "status": status, "last_reference": reference}
                page = await payer.client.get(
                    "/transactions",
                    params={name: text for name, text in parameters.items() if text},
                    headers=latest,
                )
                items = page.raise_for_status().json()["items"]
                assert page.json()["size"] == 2
                if not items:
                    assert page.json()["last_reference"] is None
                    break
                found += items
                reference = page.json()["last_reference"]
            ids = [each["transactionID"] for each in found]
            assert len(set(ids)) == len(ids)
            times = [each["requested_at"] for each in found]
            assert times == sorted(times, reverse=True)
            if wanted is None:
                assert set(made) <= set(ids)
            else:
                assert {each["order"]["id"] for each in found} == wanted
        for query_string in ("size=0", "size=1001", "status=DONE", "last_reference=x"):
            answer = await payer.client.get(f"/transactions?{query_string}")
            assert answer.status_code == 422
        missing = await payer.client.get(f"/transactions?last_reference={uuid4()}")
        assert missing.status_code == 404
        assert (await payer.client.get(f"/transactions/{uuid4()}")).status_code == 404

    tell(settings, story)


def test_both_views_are_rebuilt_from_the_log(
    databases: Databases, settings: PaymentSettings, outside: Outside
) -> None:
    outside.police = lambda _body, _nth: "fraud"

    async def story(payer: Payer) -> None:
        for _ in range(4):
            await payer.pay_until(402)

        async def nobody_has_to_be_reminded() -> bool:
            return query(databases_of(settings), REMINDERS) == [(0,)]

        # What reads about ages is in no hurry.
        await until(nobody_has_to_be_reminded)

    tell(settings, story)
    with databases.as_read_model_owner() as store:
        store.execute("UPDATE card_transaction SET status = 'PENDING'")
        store.execute("UPDATE card_transition SET findings = '[]'")
    projectors = [SYSTEM.read_model]
    assert verify(settings, SYSTEM.aggregates, projectors, say=lambda _: None) != []
    for view in ("transactions", "transitions"):
        report = rebuild(settings, SYSTEM.read_model, view, say=lambda _: None)
        assert report.differing_rows > 0
    assert verify(settings, SYSTEM.aggregates, projectors, say=lambda _: None) == []
