"""Fingerprints: the same command for ever, whatever becomes of the code, and a secret of ours."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import DEVELOPMENT_KEY, Content, Fingerprints
from codebase.engine.messages.command_message import CommandMessage
from codebase.foundation.errors import ConfigurationError, ServiceUnavailable
from codebase.foundation.keys import keys_of, new_key
from codebase.foundation.settings import Settings
from codebase.services.block_agent.messages import READERS
from codebase.services.create_buy_order.service import PutBuyOrder
from codebase.views.buy_orders.placing import content_of

FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))
BEFORE, NOW = Fingerprints({"k1": FIRST}), Fingerprints({"k2": SECOND, "k1": FIRST})
AGENT_ID = UUID("c2b1b076-ed26-5c6d-a436-5799a3bffb0f")
PATH = {"agent_id": AGENT_ID}


class Colour(StrEnum):
    """Some colour."""

    RED = "red"


class Paint(BaseModel):
    """A body with a field of every kind."""

    colour: Colour
    area: Decimal
    coats: int = 1
    note: str | None = None
    password: str = ""


PAINT = Paint(colour=Colour.RED, area=Decimal("1.50"), note="é\n")


def content(body: object = PAINT, name: str = "paint", **more: Any) -> Content:  # noqa: ANN401
    return Content.of(name, body, PATH, **more)


def test_what_is_stored_stays_what_it_is() -> None:
    """Golden values: whatever changes one of them makes other commands of all repeats."""
    told = content()
    assert told.text.decode() == (
        '["paint",{"agent_id":"c2b1b076-ed26-5c6d-a436-5799a3bffb0f"},'
        '{"area":"1.50","colour":"red","note":"é\\n"}]'
    )
    assert BEFORE.of(told) == "1:k1:886258659a3665a44231d9d07bdf31e7"
    assert NOW.of(told) == "1:k2:89055f5c4c7c09bcac865ab43164a46a"
    assert NOW.of(Content.of("close", None, {})) == "1:k2:5f69a6eaf10389df05837dc61514d432"
    assert told.unkeyed is not None
    assert told.unkeyed() == "58403ea94d8e45e8f717a72c2891b419"


def test_orders_and_messages_ask_for_what_they_always_did() -> None:
    """By names of their own, which are not those of functions."""

    def order(key: UUID | None) -> Content:
        body = PutBuyOrder(currency="USD", amount="123.45", idempotence_key=key)  # type: ignore[arg-type]
        return content_of(body.currency, body.amount)

    text = '["put_buy_order",{},{"amount":"123.45","currency":"USD"}]'
    assert order(AGENT_ID).text.decode() == order(None).text.decode() == text
    assert NOW.is_of("USD 123.45", order(None))
    for key, name in (("agent.block", "block_agent"), ("agent.unblock", "unblock_agent")):
        told = READERS[key](CommandMessage(str(AGENT_ID).encode(), None)).content
        assert told.text.decode() == f'["{name}",{{"agent_id":"{AGENT_ID}"}},{{}}]'


def test_it_is_the_first_half_of_hmac_sha_256() -> None:
    code = hmac.digest(FIRST, content().text, "sha256").hex()
    assert BEFORE.of(content()) == f"1:k1:{code[:32]}"


WORDS = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


class Details(BaseModel):
    """A body of any shape."""

    details: dict[str, Any]


@settings(deadline=None, max_examples=50)
@given(details=st.dictionaries(WORDS, JSON, max_size=5))
def test_its_text_is_canonical_json(details: dict[str, Any]) -> None:
    """Members in the order of their names, no spaces: also what the standard library writes."""
    expected = ["paint", {"agent_id": str(AGENT_ID)}, {"details": details}]
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert content(Details(details=details)).text == text.encode()


def test_the_order_of_fields_and_new_ones_with_a_default_make_no_difference() -> None:
    turned = create_model(
        "Turned",
        doors=(int, 0),
        note=(str | None, None),
        area=(Decimal, ...),
        colour=(Colour, ...),
    )
    assert content(turned(**PAINT.model_dump())).text == content().text


@pytest.mark.parametrize(
    "other",
    [
        content(name="unpaint"),
        content(PAINT.model_copy(update={"area": Decimal("1.51")})),
        content(PAINT.model_copy(update={"note": None})),
        content(None),
        Content.of("paint", PAINT, {"agent_id": UUID(int=1)}),
        Content.of("paint", PAINT, {}),
    ],
    ids=["name", "number", "text", "no body", "path", "no path"],
)
def test_other_commands_are_told_apart(other: Content) -> None:
    assert BEFORE.is_of(BEFORE.of(content()), content())
    assert not BEFORE.is_of(BEFORE.of(content()), other)


def test_a_field_can_be_left_out() -> None:
    secret = PAINT.model_copy(update={"password": "hunter2"})
    assert b"hunter2" in content(secret).text
    assert content(secret, left_out={"password"}).text == content().text


def test_with_another_key_it_is_another_fingerprint() -> None:
    assert BEFORE.of(content()) != Fingerprints({"k1": SECOND}).of(content())


def test_every_key_compares_and_the_first_one_signs() -> None:
    stored = BEFORE.of(content())
    assert NOW.is_of(stored, content())
    assert not NOW.is_of(stored, content(None))
    assert NOW.of(content()).startswith("1:k2:")
    assert not NOW.is_of(stored.replace("k1", "k2"), content())


def test_a_key_that_is_missing_is_said_and_neither_a_repeat_nor_another_command() -> None:
    with pytest.raises(ServiceUnavailable, match="has no key k2 any more"):
        BEFORE.is_of(NOW.of(content()), content())


def test_fingerprints_without_a_key_still_compare() -> None:
    text = PAINT.model_dump_json(exclude_defaults=True) + f"\nagent_id={AGENT_ID}"
    stored = hashlib.blake2b(b"paint" + text.encode(), digest_size=16).hexdigest()
    assert NOW.is_of(stored, content())
    assert not NOW.is_of(stored, content(None))
    order = content(unkeyed=lambda: "USD 123.45")
    assert NOW.is_of("USD 123.45", order)
    assert not NOW.is_of("USD 123.46", order)
    assert not NOW.is_of("USD 123.45", Content(order.text))
    assert not NOW.is_of(None, order)


def entry(key_id: str, size: int = 32) -> str:
    return f"{key_id}:{b64encode(bytes(size)).decode()}"


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPRINT_KEYS", f"{entry('new')}, {entry('old', 64)}")
    configured = Fingerprints.configured(Settings())
    assert configured.of(content()).startswith("1:new:")
    assert configured.is_of(Fingerprints({"old": bytes(64)}).of(content()), content())


def test_without_a_key_nothing_starts_outside_development() -> None:
    with pytest.raises(ConfigurationError, match="FINGERPRINT_KEYS is not set"):
        Fingerprints.configured(Settings())
    assert (
        Fingerprints.configured(Settings(development=True))
        .of(content())
        .startswith("1:development:")
    )
    with pytest.raises(ConfigurationError, match="FINGERPRINT_KEYS is not set"):
        CommandBus(Settings(write_model_url="host=127.0.0.1"))
    [secret] = keys_of("X", [DEVELOPMENT_KEY]).values()
    assert secret == bytes(32)


def test_in_development_what_was_signed_without_a_key_compares_once_there_is_one() -> None:
    stored = Fingerprints.configured(Settings(development=True)).of(content())
    configured = Settings(development=True, fingerprint_keys=(new_key("k1"),))
    assert Fingerprints.configured(configured).of(content()).startswith("1:k1:")
    assert Fingerprints.configured(configured).is_of(stored, content())


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (["c2VjcmV0"], "an id of at most 32"),
        ([f":{entry('x')[2:]}"], "an id of at most 32"),
        ([entry("a b")], "an id of at most 32"),
        ([entry("x" * 33)], "an id of at most 32"),
        ([entry("k1", 31)], "k1 has fewer than 32 bytes"),
        (["k1:"], "k1 has fewer than 32 bytes"),
        (["k1:c2Vjcm V0"], "k1 is not in base64"),
        ([f"{entry('k1')[:-2]}"], "k1 is not in base64"),
        ([entry("k1"), new_key("k1")], "k1 stands for two keys"),
    ],
)
def test_malformed_keys_are_refused_and_not_repeated(entries: list[str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        keys_of("FINGERPRINT_KEYS", entries)
    assert str(refused.value).startswith("FINGERPRINT_KEYS: ")
    for each in entries:
        assert each.rpartition(":")[2][:8] not in {*str(refused.value).split()} - {""}


def test_new_keys_are_random_and_long_enough() -> None:
    made = keys_of("X", [new_key("a"), new_key("b")])
    assert len({*made.values()}) == 2
    assert all(len(key) == 32 for key in made.values())
