"""Allow and block lists, labels, and what was decided, as administrators and clients see it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.fraud_police import rules as fraud_rules
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.views.payments import fraud_queries
from codebase.views.payments.fraud_replay import replay
from tests.integration.flow import eventually, query
from tests.integration.police import (
    BEGIN,
    LUHN_RIGHT,
    PATH,
    Hand,
    Shop,
    documented,
    rule_names,
    rules,
    with_police,
)

if TYPE_CHECKING:
    from tests.databases import Databases

ALWAYS = rules('[rules.luhn]\nkind = "luhn"\nweight = 100')
TOMORROW = (BEGIN + timedelta(days=1)).isoformat()
CARD = "1234567887654321"


PAID = """
    INSERT INTO card_transaction
    VALUES (%s, 'shop', now(), 'CLEARED', now(), '1', 'a lamp', 1, 'INR', 'paytm', 'wallet', 1,
            'INR', 'unknown', '4321')
"""


def listing(**changed: object) -> dict[str, Any]:
    return {"list": "block", "ends_at": TOMORROW, "reason": "a stolen card", **changed}


async def put(shop: Shop, status: int = 201, **changed: object) -> dict[str, Any]:
    answer = await shop.send("POST", "/listings", listing(**changed), who="boss")
    assert answer.status_code == status, answer.text
    await shop.caught_up()
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize("subject", [{"client": "shop"}, {"card": CARD}], ids=str)
def test_who_is_blocked_is_denied_up_to_the_end_and_no_longer(
    databases: Databases, subject: dict[str, str]
) -> None:
    clock = Hand()

    async def story(shop: Shop) -> None:
        assert not (await shop.judged(documented()))["isFraud"]
        made = await put(shop, **subject)
        denied = await shop.judged(documented())
        assert denied["isFraud"]
        assert "block_list" in rule_names(denied)
        assert CARD[6:12] not in str(made)
        clock.at = BEGIN + timedelta(days=1)
        assert not (await shop.judged(documented()))["isFraud"], "the end has come"
        over = await shop.send("GET", f"/listings/{made['id']}", who="boss")
        assert over.status_code == 404

    with_police(databases, story, now=clock)
    assert verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=print) == []
    assert replay(databases.settings, FRAUD_POLICE.name).differences == []


def test_who_is_allowed_passes_whatever_rules_and_block_list_say(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        assert (await shop.judged(documented()))["isFraud"]
        await put(shop, card=CARD)
        allowed = await put(shop, list="allow", client="shop")
        passed = await shop.judged(documented())
        assert (passed["isFraud"], passed["score"]) == (False, 100)
        assert rule_names(passed) == {"allow_list", "luhn"}
        gone = await shop.send("DELETE", f"/listings/{allowed['id']}", who="boss")
        assert gone.status_code == 202
        await shop.caught_up()
        assert (await shop.judged(documented()))["isFraud"]
        again = await shop.send("DELETE", f"/listings/{allowed['id']}", who="boss")
        assert again.status_code == 204

    with_police(databases, story, ALWAYS)
    assert verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=print) == []
    assert replay(databases.settings, FRAUD_POLICE.name).differences == []


def test_lists_are_administrators_business_and_operators_see_them(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        for who in ("shop", "watcher"):
            answer = await shop.send("POST", "/listings", listing(client="shop"), who=who)
            assert answer.status_code == 403
        made = await put(shop, client="shop")
        assert made == {
            "id": made["id"],
            "list": "block",
            "kind": "client",
            "value": "shop",
            "ends_at": "2026-11-29T12:00:00Z",
            "reason": "a stolen card",
        }
        assert (await shop.send("DELETE", f"/listings/{made['id']}")).status_code == 403
        assert (await shop.send("GET", "/listings")).status_code == 403
        page = await shop.send("GET", "/listings", who="boss")
        assert page.json() == {"items": [made], "last_reference": made["id"], "size": 50}
        seen = await shop.send("GET", "/listings", who="watcher")
        assert seen.json()["items"] == [{**made, "reason": "…"}]
        again = await shop.send("POST", "/listings", listing(client="shop"), who="boss")
        path = again.headers["Location"]
        assert path == f"/listings/{made['id']}"
        assert (await shop.send("GET", path)).status_code == 403
        await shop.caught_up()
        assert (await shop.send("GET", path, who="boss")).json() == made
        assert (await shop.send("GET", path, who="watcher")).json() == {**made, "reason": "…"}
        assert (await shop.send("GET", f"/listings/{uuid4()}", who="boss")).status_code == 404
        unknown = await shop.send("DELETE", f"/listings/{uuid4()}", who="boss")
        assert unknown.status_code == 404

    with_police(databases, story)


def test_lists_come_page_by_page_without_those_that_are_over(databases: Databases) -> None:
    clock = Hand()

    async def story(shop: Shop) -> None:
        ends = [(BEGIN + timedelta(days=days)).isoformat() for days in (3, 1, 5, 2, 4)]
        made = [(await put(shop, client=each, ends_at=each))["id"] for each in ends]
        await put(shop, client="over", ends_at=(BEGIN + timedelta(hours=1)).isoformat())
        clock.move(3600)
        found, last = [], ""
        while True:
            page = (await shop.send("GET", f"/listings?size=2{last}", who="boss")).json()
            found += [one["id"] for one in page["items"]]
            if page["last_reference"] is None:
                break
            last = f"&last_reference={page['last_reference']}"
        assert found == [made[nth] for nth in (2, 4, 0, 3, 1)], "those that hold longest first"
        nobody = await shop.send("GET", f"/listings?last_reference={uuid4()}", who="boss")
        assert nobody.status_code == 404

    with_police(databases, story, now=clock)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 422),
        ({"client": "shop", "card": CARD}, 422),
        ({"client": "shop", "ends_at": "2026-11-28T12:00:00"}, 422),
        ({"client": "shop", "ends_at": 1}, 422),
        ({"client": "shop", "list": "grey"}, 422),
        ({"client": "shop", "reason": " "}, 422),
        ({"fingerprint": CARD}, 422),
        ({"client": "shop", "ends_at": BEGIN.isoformat()}, 409),
    ],
    ids=str,
)
def test_what_cannot_be_listed_is_refused(
    databases: Databases, changed: dict[str, object], status: int
) -> None:
    async def story(shop: Shop) -> None:
        answer = await shop.send("POST", "/listings", listing(**changed), who="boss")
        assert answer.status_code == status
        assert CARD not in answer.text

    with_police(databases, story)


@pytest.mark.parametrize("number", [LUHN_RIGHT, "4111 1111-1111 1111"])
def test_no_text_that_is_kept_holds_the_number_of_a_card(databases: Databases, number: str) -> None:
    async def story(shop: Shop) -> None:
        text = f"card {number}"
        body = documented()
        label = {"label": "confirmed", "reason": text}
        word = "x" + number.replace(" ", "-")
        asked = [
            ("reason", "/listings", listing(client="shop", reason=text), {}),
            ("client", "/listings", listing(client=text), {}),
            ("reason", f"/decisions/{body['transactionID']}/label", label, {}),
            ("userID", PATH, documented(userID=text), {}),
            ("X-User-Id", PATH, body, {"X-User-Id": text}),
            ("paymentMethod", PATH, documented(paymentMethod=word), {}),
            ("payment.type", PATH, documented(type=word), {}),
        ]
        for field, path, sent, headers in asked:
            answer = await shop.send("POST", path, sent, who="boss", headers=headers)
            assert answer.status_code == 422, field
            assert all(name.startswith(field) for name in answer.json()["errors"]), answer.text
            assert number not in answer.text

    with_police(databases, story)
    assert query(databases.as_owner(), "SELECT FROM event") == []


def test_a_listing_with_a_key_is_made_once(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        key = {"Idempotency-Key": "1"}
        first, again = [
            await shop.send("POST", "/listings", listing(card=CARD), who="boss", headers=key)
            for _ in range(2)
        ]
        assert first.json() == again.json()
        assert again.headers["Idempotent-Replayed"] == "true"
        # The same card, said in another way: what was asked for is known without its number.
        by_fingerprint = listing(fingerprint=first.json()["value"])
        same = await shop.send("POST", "/listings", by_fingerprint, who="boss", headers=key)
        assert (same.status_code, same.json()) == (201, first.json())

    with_police(databases, story)
    with databases.as_owner() as log:
        stored = str(log.execute("TABLE event").fetchall())
    assert stored.count("Listed") == 1
    assert CARD not in stored


def test_decisions_are_shown_to_their_client_and_to_operators(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        bodies = [documented(amount=f"{number}.00") for number in (1, 2, 3)]
        for body in bodies:
            await shop.judged(body)
        await shop.judged(documented(userID="other"), who="other")
        await shop.caught_up()
        page = (await shop.send("GET", "/decisions?size=2")).json()
        assert [one["amount"] for one in page["items"]] == ["3.00", "2.00"]
        rest = (
            await shop.send("GET", f"/decisions?last_reference={page['last_reference']}")
        ).json()
        assert [one["amount"] for one in rest["items"]] == ["1.00"]
        assert len((await shop.send("GET", "/decisions", who="watcher")).json()["items"]) == 4
        fraud = (await shop.send("GET", "/decisions?is_fraud=true", who="boss")).json()
        assert fraud == {"items": [], "last_reference": None, "size": 50}
        one = await shop.send("GET", f"/decisions/{bodies[0]['transactionID']}")
        assert (one.json()["card"], one.json()["rules"]) == (
            "unknown 4321",
            ["amount_is_not_cost", "little_history", "luhn"],
        )
        assert [reason["rule"] for reason in one.json()["reasons"]] == one.json()["rules"]
        assert one.json()["features"] is None, "what a card pays elsewhere is nobody's business"
        watched = await shop.send("GET", f"/decisions/{bodies[0]['transactionID']}", who="watcher")
        assert watched.json()["features"]["windows"]["60"][0] == 0
        other = await shop.send("GET", f"/decisions/{bodies[0]['transactionID']}", who="other")
        assert other.status_code == 404

    with_police(databases, story)


def test_pages_show_every_decision_once_however_many_a_transaction_has(
    databases: Databases,
) -> None:
    async def story(shop: Shop) -> None:
        twice = documented()
        for body, who in [
            (twice, "shop"),
            (documented(), "shop"),
            (documented(), "shop"),
            (twice, "boss"),
        ]:
            assert (await shop.send("POST", PATH, body, who=who)).status_code == 200
        await shop.caught_up()
        for who in ("shop", "watcher"):
            [*whole] = (await shop.send("GET", "/decisions", who=who)).json()["items"]
            assert len(whole) == 4
            for size in (1, 2, 3):
                assert await all_decisions(shop, size, who) == whole

    with_police(databases, story)


async def all_decisions(shop: Shop, size: int, who: str) -> list[dict[str, Any]]:
    """The items of every page, as long as they are no more than there can be."""
    found: list[dict[str, Any]] = []
    last = ""
    while len(found) <= 10:
        page = await shop.send("GET", f"/decisions?size={size}{last}", who=who)
        found += page.json()["items"]
        if page.json()["last_reference"] is None:
            break
        last = f"&last_reference={page.json()['last_reference']}"
    return found


def test_of_several_decisions_that_of_the_payment_is_shown(databases: Databases) -> None:
    """Anybody may ask about any id, but not for another client, or as of then."""

    async def story(shop: Shop) -> None:
        body = documented()
        path = f"/decisions/{body['transactionID']}"

        async def shown(who: str) -> tuple[str, str, str]:
            one = (await shop.send("GET", path, who=who)).json()
            return one["client"], one["card"], one["decided_at"]

        await shop.judged(body)
        await shop.caught_up()
        first = await shown("boss")
        await shop.judged(body, who="boss")
        await shop.caught_up()
        with databases.as_read_model_owner() as store:
            asked = {"clients": [None], "ids": [UUID(body["transactionID"])]}
            assert len(store.execute(fraud_queries.DECISION, asked).fetchall()) == 1, "all are read"
        second = await shown("boss")
        assert first < second, "the latest"
        await shop.judged({**body, "userID": "other"}, who="other")
        await shop.judged({**documented(card=LUHN_RIGHT), "transactionID": body["transactionID"]})
        await shop.caught_up()
        assert (await shown("boss"))[:2] == ("shop", "visa 1111"), "the latest"
        with databases.as_read_model_owner() as store:
            store.execute(PAID, [body["transactionID"]])
        assert await shown("boss") == await shown("shop") == second
        with databases.as_read_model_owner() as store:
            store.execute("UPDATE card_transaction SET requested_at = %s", [first[2]])
        assert await shown("boss") == await shown("shop") == first
        assert (await shown("other"))[0] == "other"

    with_police(databases, story)


def test_a_label_is_the_last_word_of_an_administrator(databases: Databases) -> None:
    async def story(shop: Shop) -> None:
        body = documented()
        path = f"/decisions/{body['transactionID']}"
        sent = {"label": "confirmed", "reason": "charged back"}
        assert (await shop.send("POST", f"{path}/label", sent, who="boss")).status_code == 404
        await shop.judged(body)
        await shop.caught_up()
        assert (await shop.send("POST", f"{path}/label", sent)).status_code == 403
        for label in ("confirmed", "false_positive"):
            said = await shop.send("POST", f"{path}/label", {**sent, "label": label}, who="boss")
            assert (said.status_code, said.json()["label"]) == (200, label)
        wrong = await shop.send("POST", f"{path}/label", {**sent, "label": "maybe"}, who="boss")
        assert wrong.status_code == 422
        await shop.caught_up()
        assert (await shop.send("GET", path)).json()["label"] == "false_positive"

    with_police(databases, story)
    assert verify(databases.settings, SYSTEM.aggregates, [FRAUD_POLICE], say=print) == []


def test_rules_are_shown_with_hits_shadow_beside_live_and_measured_by_labels(
    databases: Databases,
) -> None:
    both = rules(
        '[rules.luhn]\nkind = "luhn"\nweight = 100\n'
        '[rules.unmatched]\nkind = "amount_is_not_cost"\nstate = "shadow"\nweight = 7\n'
        '[rules.asleep]\nkind = "luhn"\nstate = "off"\nweight = 7\n'
    )

    async def story(shop: Shop) -> None:
        sent = [documented(cost=cost) for cost in ("123.00", "1.00", "2.00")]
        sent.append(documented(card="4111111111111111", cost="3.00"))
        for body in sent:
            await shop.judged(body)
            # Whoever is asked about it again has not seen another transaction.
            await shop.judged(body, who="boss")
        await shop.caught_up()
        labels = ("false_positive", "confirmed", "confirmed", "confirmed")
        for body, label in zip(sent, labels, strict=True):
            path = f"/decisions/{body['transactionID']}/label"
            said = {"label": label, "reason": "looked at"}
            assert (await shop.send("POST", path, said, who="boss")).status_code == 200
        await shop.caught_up()
        await asyncio.to_thread(eventually, lambda: shadowed(databases) == 6)
        told = (await shop.send("GET", "/rules", who="watcher")).json()
        assert (told["decisions"], told["denied"]) == (8, 6)
        assert (told["caught"], told["missed"], told["false_alarms"]) == (2, 1, 1)
        by_name = {one["rule"]: one for one in told["items"]}
        assert {name: one["hits"] for name, one in by_name.items()} == {
            "luhn": 6,
            "unmatched": 6,
            "asleep": 0,
        }
        measured = {
            name: (one["state"], one["precision"], one["recall"]) for name, one in by_name.items()
        }
        assert measured == {
            "luhn": ("live", "2 of 3", "2 of 3"),
            "unmatched": ("shadow", "3 of 3", "3 of 3"),
            "asleep": ("off", None, None),
        }
        one = (await shop.send("GET", f"/decisions/{sent[1]['transactionID']}")).json()
        assert [reason["rule"] for reason in one["shadow_reasons"]] == ["unmatched"]
        page = await shop.send("GET", "/", who="watcher")
        assert page.status_code == 200
        assert "unmatched" in page.text
        assert (await shop.send("GET", "/")).status_code == 403

    with_police(databases, story, both)


def test_a_rule_is_measured_by_what_it_was_shown_and_by_the_labels_put_last(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = '[rules.luhn]\nkind = "luhn"\nweight = 100\n'
    new = '[rules.unmatched]\nkind = "amount_is_not_cost"\nweight = 7\n'

    async def defrauded(shop: Shop) -> None:
        body = documented(cost="1.00")
        await shop.judged(body)
        await shop.caught_up()
        path, said = f"/decisions/{body['transactionID']}/label", {"label": "confirmed"}
        answer = await shop.send("POST", path, {**said, "reason": "charged back"}, who="boss")
        assert answer.status_code == 200
        await shop.caught_up()

    async def measured(shop: Shop) -> tuple[int, dict[str, str | None]]:
        told = (await shop.send("GET", "/rules", who="watcher")).json()
        return told["caught"], {one["rule"]: one["recall"] for one in told["items"]}

    async def with_both(shop: Shop) -> None:
        assert await measured(shop) == (1, {"luhn": "1 of 1", "unmatched": None})
        await defrauded(shop)
        assert await measured(shop) == (2, {"luhn": "2 of 2", "unmatched": "1 of 1"})
        monkeypatch.setattr(fraud_rules, "LABELS", 1)
        assert await measured(shop) == (1, {"luhn": "1 of 1", "unmatched": "1 of 1"})

    with_police(databases, defrauded, rules(old))
    with_police(databases, with_both, rules(old + new))


def shadowed(databases: Databases) -> int:
    return len(query(databases.as_read_model_owner(), "SELECT FROM fraud_shadow"))
