"""Wherever a text is kept, a card's number in it is refused by the name of the field."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.integration.flow import query
from tests.integration.payments import (
    POLICE_PATH,
    Outside,
    Payer,
    paying,
    payment,
    settings_of,
)
from tests.integration.police import documented

if TYPE_CHECKING:
    from tests.databases import Databases

NUMBER = "1234567887654321"
SPACED = "1234 5678 8765 4321"
NAMED = f"{NUMBER[:8]}-{NUMBER[8:12]}-{NUMBER[12:]}-8000-000000000000"
LISTING = {"list": "block", "client": "shop", "ends_at": "2999-01-01T00:00:00Z", "reason": "tests"}
SILENCE = {"matcher": {"client": "shop"}, "ends_at": "2999-01-01T00:00:00Z", "reason": "tests"}
LABEL = {"label": "confirmed", "reason": "they said so"}
SETTLED = {"outcome": "PAYMENT_FAILED", "reason": "the bank says so"}
KEY = {"Idempotency-Key": f"about-{NUMBER}"}
TRANSACTION = f"/transactions/{uuid4()}/settle"
DECISION = f"/decisions/{uuid4()}/label"

Edge = tuple[str, dict[str, Any], dict[str, str], str]
"""(path, body, headers, the field that is named)."""

EDGES: dict[str, Edge] = {
    "order's id": ("/transact", payment(id=NUMBER), {}, "order.id"),
    "order's id, spaced": ("/transact", payment(id=SPACED), {}, "order.id"),
    "order's id, a number": ("/transact", payment(id=int(NUMBER)), {}, "order.id"),
    "order's name": ("/transact", payment(name=f"for {SPACED}"), {}, "order.name"),
    "another card's": ("/transact", payment(name="for 4111111111111112"), {}, "order.name"),
    "key": ("/transact", payment(), KEY, "Idempotency-Key"),
    "police, order's name": (POLICE_PATH, documented(name=NUMBER), {}, "order.name"),
    "police, client": (POLICE_PATH, documented(userID=SPACED), {}, "userID"),
    "police, method": (POLICE_PATH, documented(paymentMethod=f"x{NUMBER}"), {}, "paymentMethod"),
    "police, type": (POLICE_PATH, documented(type=f"x-{NUMBER}"), {}, "payment.type"),
    "police, id": (POLICE_PATH, documented(transactionID=NAMED), {}, "transactionID"),
    "police, header": (POLICE_PATH, documented(), {"X-User-Id": NUMBER}, "X-User-Id"),
    "listing, reason": ("/listings", {**LISTING, "reason": SPACED}, {}, "reason"),
    "listing, client": ("/listings", {**LISTING, "client": NUMBER}, {}, "client"),
    "listing, key": ("/listings", LISTING, KEY, "Idempotency-Key"),
    "label, reason": (DECISION, {**LABEL, "reason": NUMBER}, {}, "reason"),
    "label, key": (DECISION, LABEL, KEY, "Idempotency-Key"),
    "settlement, reason": (TRANSACTION, {**SETTLED, "reason": NUMBER}, {}, "reason"),
    "settlement, key": (TRANSACTION, SETTLED, KEY, "Idempotency-Key"),
    "silence, reason": ("/silences", {**SILENCE, "reason": SPACED}, {}, "reason"),
    "silence, client": ("/silences", {**SILENCE, "matcher": {"client": NUMBER}}, {}, "client"),
    "silence, rule": ("/silences", {**SILENCE, "matcher": {"rule": NUMBER}}, {}, "rule"),
    "silence, key": ("/silences", SILENCE, KEY, "Idempotency-Key"),
    "retry, key": (f"/alerts/{uuid4()}/retry", {}, KEY, "Idempotency-Key"),
}
SERVICES = ("read_model_sync", "transact", "fraud_police", "alertman")


def test_a_number_is_refused_by_field_at_every_edge_and_nothing_is_kept(
    databases: Databases, outside: Outside
) -> None:
    async def story(payer: Payer) -> None:
        for name, (path, body, headers, field) in EDGES.items():
            sent: dict[str, Any] = {"json": body} if body else {}
            answer = await payer.client.post(path, headers=headers, **sent)
            assert answer.status_code == 422, (name, answer.text)
            assert any(each.endswith(field) for each in answer.json()["errors"]), (
                name,
                answer.text,
            )
            assert NUMBER[6:] not in answer.text, name

    async def told() -> None:
        async with paying(settings_of(databases, outside), *SERVICES) as payer:
            await story(payer)

    asyncio.run(told())
    assert query(databases.as_owner(), "SELECT count(*) FROM event") == [(0,)]


def test_what_only_looks_long_is_taken(databases: Databases, outside: Outside) -> None:
    """Identifiers are a client's own, and many of them are long numbers."""

    async def told() -> None:
        async with paying(settings_of(databases, outside), *SERVICES) as payer:
            await payer.pay_until(200, payment(id=5123456789012), key="1732886064123456")
            named = payment(id=str(uuid4()), name=f"as in {uuid4()}, 2 lamps at 61.50")
            await payer.pay_until(200, named, key=str(uuid4()))
            silence = {**SILENCE, "reason": f"see {uuid4()} of 2026-11-29 at 17:30"}
            answer = await payer.client.post("/silences", json=silence)
            assert answer.status_code == 201, answer.text

    asyncio.run(told())
