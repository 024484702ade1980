"""What a body may look like, and what is said of one that does not."""

from __future__ import annotations

import json
from decimal import Decimal
from unicodedata import bidirectional
from uuid import UUID

import pytest
from pydantic import Field

from codebase.foundation.errors import InvalidInputError
from codebase.foundation.validation import validate
from codebase.model.money import Currency
from codebase.web.fields import Amount, Boolean, Email, FromText, Text
from codebase.web.problems import HttpProblem, problem_of
from codebase.web.request_body import RequestBody, require_json

KEY = "0b0b7e0a-97c0-4f0b-8b0e-1a6a3d0b6b7c"
SECRET = "4111111111111111"  # noqa: S105 - a card number that must not come back


class Item(RequestBody):
    """A nested object."""

    count: int = Field(ge=1, le=5)


class Order(RequestBody):
    """A body with one field of every kind."""

    currency: FromText[Currency] = Currency.USD
    amount: Amount = Decimal(1)
    key: FromText[UUID] | None = None
    name: str = Field("x", max_length=20)
    vip: Boolean = False
    item: Item | None = None
    items: list[Item] = Field(default_factory=list)


AMOUNTS_TAKEN = ['"123.45"', "123.45", '"0.01"', "0.01", "7", '"999999999.99"', "1.5", '"1.50"']
AMOUNTS_REFUSED = {
    "zero": '"0"',
    "minus zero": "-0",
    "negative": '"-1"',
    "too many decimals": '"0.001"',
    "too many decimals that are zero": '"1.000"',
    "a number with too many decimals": "0.001",
    "too large": '"1000000000"',
    "a number that is too large": "1000000000",
    "an exponent": '"1e5"',
    "a number with an exponent": "1e5",
    "beyond every double": "1e999",
    "an exponent that comes out even": "10.0E-1",
    "NaN": "NaN",
    "NaN as text": '"NaN"',
    "Infinity": "Infinity",
    "Infinity as text": '"-Infinity"',
    "full-width digits": '"１２"',
    "Arabic-Indic digits": '"١٢"',
    "a separator": '"1_000"',
    "a comma": '"1,5"',
    "blanks": '" 1"',
    "a newline": '"1\\n"',
    "a plus": '"+1"',
    "no digits": '"."',
    "empty": '""',
    "true": "true",
    "null": "null",
    "a list": "[1]",
    "an object": '{"amount":1}',
    "a NUL": '"1\\u0000"',
    "very long": '"' + "1" * 10_000 + '"',
}


@pytest.mark.parametrize("text", AMOUNTS_TAKEN)
def test_an_amount_is_taken_exactly(text: str) -> None:
    order = validate(Order, f'{{"amount":{text}}}'.encode())
    assert order.amount == Decimal(text.strip('"'))
    assert order.amount.as_tuple().exponent == -2


@pytest.mark.parametrize("text", AMOUNTS_REFUSED.values(), ids=AMOUNTS_REFUSED.keys())
def test_an_amount_is_refused_by_name(text: str) -> None:
    problem = refused(f'{{"amount":{text}}}')
    assert list(problem.errors or ()) == ["amount"]


class Person(RequestBody):
    """Texts for people."""

    name: Text = "x"
    email: Email = "x@example.org"


NAMES_TAKEN = [
    "x",
    "Jo O'Neill",
    "Łukasz Ångström",
    "李",
    "a" * 200,
    " x ",
    "👩\u200d🚒",
    '\\ " <b>',
]
NAMES_TAKEN += ["می\u200cخواهم", "🇦", "٣", "\u200eשלום"]


@pytest.mark.parametrize("name", NAMES_TAKEN)
def test_a_name_is_taken_as_it_was_sent(name: str) -> None:
    assert validate(Person, json.dumps({"name": name}).encode()).name == name


# One of each kind: format characters, fillers that are letters, a blank pattern, marks, variation
# selectors, tags, private use.
INVISIBLE = (
    "\u00ad\u200b\u200d\u200e\u2060\ufeff\u115f\u1160\u3164\uffa0\u2800\u0301\u034f\u17b4\u180b\u3000"
    "\ufe0f\U000e0020\U000e0100\ue000\U0001d159\U0001d173"
)
DIRECTIONS = [
    one
    for one in map(chr, range(0x110000))
    if bidirectional(one) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
]
NAMES_REFUSED = {
    "empty": "",
    "blank": "   ",
    "blank in another way": "\u2003",
    "too long": "a" * 201,
    "a newline": f"{SECRET}\n",
    "a NUL": f"{SECRET}\0",
    "an escape": f"{SECRET}\x1b[31m",
    "a control character of the second row": f"{SECRET}\x85",
    "a line separator": f"{SECRET}\u2028",
    "a lone surrogate": f"{SECRET}\ud800",
    **{f"nothing but {hex(ord(one))}": 2 * one for one in INVISIBLE},
    "nothing but several of them": f" {INVISIBLE} ",
    **{f"a direction, {hex(ord(one))}": f"{SECRET}{one}" for one in DIRECTIONS},
    "a number": 5,
    "null": None,
    "a list": ["x"],
}


@pytest.mark.parametrize("name", NAMES_REFUSED.values(), ids=NAMES_REFUSED.keys())
def test_a_name_is_refused_without_being_repeated(name: object) -> None:
    problem = refused(json.dumps({"name": name}), Person)
    assert list(problem.errors or ()) == ["name"]
    assert SECRET not in problem.body("1").decode()


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("jo.doe+x@example.org", "jo.doe+x@example.org"),
        ("Jo.Doe@Example.ORG", "Jo.Doe@example.org"),
        ("a@x.test", "a@x.test"),
        ("o'neill@example.com", "o'neill@example.com"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ],
)
def test_an_email_address_is_taken_with_its_domain_in_lower_case(sent: str, taken: str) -> None:
    assert validate(Person, json.dumps({"email": sent}).encode()).email == taken


EMAILS_REFUSED = {
    "empty": "",
    "no at sign": SECRET,
    "two at signs": f"{SECRET}@a@example.org",
    "no domain": f"{SECRET}@",
    "a domain without a dot": f"{SECRET}@example",
    "an address": f"{SECRET}@[127.0.0.1]",
    "a display name": f"Jo <{SECRET}@example.org>",
    "a header": f"{SECRET}@example.org\r\nBcc: x@example.org",
    "a blank": f" {SECRET}@example.org",
    "a NUL": f"{SECRET}\0@example.org",
    "two dots": f"{SECRET}..x@example.org",
    "letters that look alike": f"{SECRET}@ех\u0430mple.org",
    "full-width": f"{SECRET}＠example.org",
    "a local part that is too long": f"{SECRET * 5}@example.org",
    "too long": f"{SECRET}@{'a.' * 150}org",
    "enormous": f"{SECRET}@{'a' * 50_000}.org",
    "a number": 5,
    "null": None,
}


@pytest.mark.parametrize("email", EMAILS_REFUSED.values(), ids=EMAILS_REFUSED.keys())
def test_an_email_address_is_refused_without_being_repeated(email: object) -> None:
    problem = refused(json.dumps({"email": email}), Person)
    assert list(problem.errors or ()) == ["email"]
    assert SECRET not in problem.body("1").decode()


REFUSED = {
    "a list instead of an object": ("[]", "body"),
    "a text instead of an object": (f'"{SECRET}"', "body"),
    "an unknown field": ('{"colour":1}', "colour"),
    "an unknown field that is no name": (f'{{"{SECRET}":1}}', "?"),
    "a text for a whole number": ('{"item":{"count":"3"}}', "item.count"),
    "a decimal for a whole number": ('{"item":{"count":3.0}}', "item.count"),
    "true for a whole number": ('{"item":{"count":true}}', "item.count"),
    "a whole number that is too large": ('{"items":[{"count":1},{"count":6}]}', "items.1.count"),
    "a missing field": ('{"item":{}}', "item.count"),
    "yes for true": ('{"vip":"yes"}', "vip"),
    "1 for true": ('{"vip":1}', "vip"),
    "the text 1 for true": ('{"vip":"1"}', "vip"),
    "an empty text for false": ('{"vip":""}', "vip"),
    "null for false": ('{"vip":null}', "vip"),
    "a list for true": ('{"vip":[true]}', "vip"),
    "a number for a text": (f'{{"name":{SECRET}}}', "name"),
    "a text that is too long": (f'{{"name":"{SECRET * 2}"}}', "name"),
    "an unknown currency": (f'{{"currency":"{SECRET}"}}', "currency"),
    "a currency in lower case": ('{"currency":"usd"}', "currency"),
    "a key that is no UUID": (f'{{"key":"{SECRET}"}}', "key"),
    "a key that is a number": (f'{{"key":{SECRET}}}', "key"),
    "an object for a list": ('{"items":{}}', "items"),
}


@pytest.mark.parametrize(("text", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_a_field_is_refused_by_name_and_its_value_is_not_repeated(text: str, field: str) -> None:
    problem = refused(text)
    assert list(problem.errors or ()) == [field]
    assert SECRET not in problem.body("1").decode()


def refused(text: str, model: type[RequestBody] = Order) -> HttpProblem:
    with pytest.raises(InvalidInputError) as refusal:
        validate(model, text.encode())
    problem = problem_of(refusal.value)
    assert problem.status == 422
    return problem


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("true", True),
        ('"true"', True),
        ('"True"', True),
        ('"TRUE"', True),
        ("false", False),
        ('"false"', False),
        ('"False"', False),
    ],
)
def test_true_and_false_are_taken_as_words_of_json_and_as_texts_in_any_case(
    text: str, *, meant: bool
) -> None:
    assert validate(Order, f'{{"vip":{text}}}'.encode()).vip is meant


def test_what_fits_is_taken_as_it_was_meant() -> None:
    order = validate(Order, f'{{"currency":"EUR","key":"{KEY}","item":{{"count":5}}}}'.encode())
    assert (order.currency, order.key, order.item) == (Currency.EUR, UUID(KEY), Item(count=5))


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/json; charset=utf8; version=1",
        b'Application/JSON;charset="UTF-8"',
    ],
)
def test_json_is_taken(content_type: bytes) -> None:
    require_json({b"content-type": content_type})


@pytest.mark.parametrize(
    "content_type",
    [b"", b"text/plain", b"application/jsonp", b"application/json; charset=latin-1", b"\xff"],
)
def test_what_is_not_said_to_be_json_is_refused(content_type: bytes) -> None:
    with pytest.raises(HttpProblem) as refusal:
        require_json({b"content-type": content_type})
    assert refusal.value.status == 415
