"""Card numbers at the edge: what is taken for one, what is kept of it, and what nobody finds."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.keys import keys_of, new_key
from codebase.foundation.settings import Settings
from codebase.model.payments.cards import (
    CardNumber,
    CardReducer,
    digits_in,
    holds_card_number,
)
from codebase.views.payments.fields import ReducedCard
from codebase.views.payments.settings import card_reducer

NUMBERS = st.from_regex(r"[0-9]{12,19}", fullmatch=True)
OLD, NEW = new_key("old"), new_key("new")


def reducer(*entries: str) -> CardReducer:
    return CardReducer(keys_of("CARD_KEYS", entries))


@given(NUMBERS)
def test_a_number_is_read_from_a_text_and_from_a_whole_number(number: str) -> None:
    assert CardNumber.read(number).digits == number
    if not number.startswith("0"):
        assert CardNumber.read(int(number)) == CardNumber.read(number)


@pytest.mark.parametrize(
    "wrong",
    [
        "12345678765",
        "12345678876543212345",
        12_345_678_765,
        -1_234_567_887_654_321,
        True,
        None,
        Decimal("1234567887654321.0"),
        1234567887654321.0,
        ["1234567887654321"],
        "1234 5678 8765 4321",
        "1234-5678-8765-4321",
        "1234567887654321\n",
        "１２３４５６７８８７６５４３２１",
        "",
    ],
    ids=repr,
)
def test_what_is_no_number_is_refused_without_repeating_it(wrong: object) -> None:
    with pytest.raises(ValueError, match="must have 12 to 19 digits") as refused:
        CardNumber.read(wrong)
    assert str(refused.value) == "must have 12 to 19 digits, best as a text"


@given(NUMBERS)
def test_a_number_is_never_shown(number: str) -> None:
    read = CardNumber.read(number)
    assert number not in f"{read} {read!r} {[read]}"


@given(NUMBERS)
def test_of_each_number_exactly_one_last_digit_is_luhns(number: str) -> None:
    others = [CardNumber.read(number[:-1] + digit) for digit in "0123456789"]
    assert sum(other.has_luhn_digit for other in others) == 1


@pytest.mark.parametrize(
    ("number", "brand", "luhn"),
    [
        ("4111111111111111", "visa", True),
        ("4111111111111112", "visa", False),
        ("5555555555554444", "mastercard", True),
        ("2221000000000009", "mastercard", True),
        ("378282246310005", "amex", True),
        ("6011111111111117", "discover", True),
        ("6521111111111117", "rupay", False),
        ("30569309025904", "diners", True),
        ("3530111333300000", "jcb", True),
        ("6240008631401148", "unionpay", True),
        ("1234567887654321", "unknown", False),
    ],
)
def test_brand_and_luhn_digit_are_told(number: str, brand: str, *, luhn: bool) -> None:
    card = reducer(NEW).reduce(CardNumber.read(number))
    assert (card.brand, card.last_four, card.luhn) == (brand, number[-4:], luhn)


@given(NUMBERS)
def test_a_fingerprint_is_128_bits_of_a_keyed_hash_of_the_whole_number(number: str) -> None:
    key = keys_of("CARD_KEYS", [NEW])["new"]
    [fingerprint] = reducer(NEW).reduce(CardNumber.read(number)).fingerprints
    key_id, _, kept = fingerprint.partition(":")
    whole = hmac.new(key, number.encode(), hashlib.sha256).digest()
    assert (key_id, urlsafe_b64decode(f"{kept}==")) == ("new", whole[:16])


@given(NUMBERS, NUMBERS)
def test_a_card_is_known_across_a_change_of_keys(number: str, another: str) -> None:
    before, after = reducer(OLD), reducer(NEW, OLD)
    card = after.reduce(CardNumber.read(number))
    assert [each.partition(":")[0] for each in card.fingerprints] == ["new", "old"]
    assert card.is_same_as(before.reduce(CardNumber.read(number)))
    assert card.is_same_as(before.reduce(CardNumber.read(another))) == (number == another)
    assert not card.is_same_as(reducer(new_key("other")).reduce(CardNumber.read(number)))


@given(NUMBERS)
def test_a_reduced_card_travels_as_json(number: str) -> None:
    card = reducer(NEW, OLD).reduce(CardNumber.read(number))
    sent = ReducedCard.of(card).model_dump_json()
    assert number not in sent
    assert ReducedCard.model_validate_json(sent).card() == card


@given(NUMBERS, st.text(max_size=20), st.text(max_size=20))
def test_a_text_with_a_number_is_known_for_it(number: str, before: str, after: str) -> None:
    assert holds_card_number(f"{before}{number}{after}")
    spaced = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    assert holds_card_number(f"{before}{spaced}{after}")
    assert number in digits_in(f"{before}{spaced}{after}")


@pytest.mark.parametrize(
    "text",
    [
        "1234567887654321",
        "stolen: 4111 1111 1111 1111!",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111  1111  1111  1111",
        "4111\u00a01111\u00a01111\u00a01111",
        "4111\u200b1111\u200b1111\u200b1111",
        "٤١١١١١١١١١١١١١١١",
        "０３７８２８２２４６３１０００５",
        "order 6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11 by 378282246310005",
    ],
)
def test_a_number_is_seen_however_people_write_it(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a lamp, 2 of them, 123.00 INR each",
        "the client called on 2026-11-29 at 17:30",
        "12345678765",
        "as in 00000000-0000-4000-8000-000000000000",
        "visa ending in 4321",
    ],
)
def test_other_texts_are_taken(text: str) -> None:
    assert not holds_card_number(text)


def test_without_a_key_no_number_is_taken_not_even_in_development() -> None:
    for development in (False, True):
        with pytest.raises(ConfigurationError, match="CARD_KEYS is not set"):
            card_reducer(Settings(development=development))
    with pytest.raises(ConfigurationError, match=r"CARD_KEYS: .* fewer than 32 bytes"):
        card_reducer(Settings(card_keys=("c1:c2VjcmV0",)))
