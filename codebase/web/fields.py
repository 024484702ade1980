"""What a field of a body or a query may be: yes or no, money, text for people, e-mail addresses."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Annotated, TypeVar

from email_validator import EmailNotValidError, validate_email
from pydantic import BeforeValidator, Strict, WithJsonSchema

from codebase.model.money import parse_amount

Value = TypeVar("Value")

FromText = Annotated[Value, Strict(strict=False)]
"""A type that JSON has no word for and writes as text: `FromText[UUID]`, or an enumeration."""


ABSENT_IF_EMPTY = BeforeValidator(lambda value: value or None)
"""For what a page's form asks for: who chooses nothing in it sends an empty text."""

BOOLEANS = {"true": True, "false": False}


def read_boolean(value: object) -> bool:
    """True or false from JSON: one of its own words, or a text of it in any case.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    meant = BOOLEANS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(meant, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - pydantic wants this one
    return meant


Boolean = Annotated[
    bool,
    BeforeValidator(read_boolean),
    WithJsonSchema(
        {"type": "boolean", "description": "The texts true and false are taken too, in any case."}
    ),
]
"""True or false. Older clients send texts such as "True"."""


def digits_of(value: object) -> str:
    """What was written for a decimal number in JSON: a text, or a number, digit by digit.

    Raises:
        ValueError: neither.
    """
    match value:
        case str():
            return value
        case bool():
            raise ValueError("must be a decimal number, best as a text such as '123.45'")
        case int():
            return str(value)
        case Decimal():
            return format(value, "f")
        case _:
            raise ValueError("must be a decimal number, best as a text such as '123.45'")


def read_amount(value: object) -> Decimal:
    """An amount of money from JSON.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    return parse_amount(digits_of(value))


Amount = Annotated[
    Decimal,
    BeforeValidator(read_amount),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,2})?$",
            "description": "Above 0, below 1000000000, at most 2 decimals. "
            "A JSON number is taken too, if it has no exponent.",
            "examples": ["123.45"],
        }
    ),
]
"""An amount of money, above 0, below 1,000,000,000, with at most two decimals."""


TEXT_MAX = 200
# Also U+2028 and U+2029, which some readers take for the end of a line, and what has text shown in
# another order than it is written in: embeddings, overrides and isolates of direction.
CONTROL_CHARACTERS = "\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069"
PLAIN_TEXT = f"^[^{CONTROL_CHARACTERS}]*[^{CONTROL_CHARACTERS}\\s][^{CONTROL_CHARACTERS}]*$"
IS_PLAIN_TEXT = re.compile(PLAIN_TEXT)


VISIBLE = frozenset("LNPS")
"""The first letters of the categories of characters that ink is used for."""
BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159")
"""The exceptions: fillers of Hangul, the only letters that are Default_Ignorable_Code_Point in
Unicode's DerivedCoreProperties, an empty pattern of Braille, and a note without a head."""


def is_visible(text: str) -> bool:
    """Whether anything is seen of a text: not only space, marks, and what has no width."""
    return any(unicodedata.category(one)[0] in VISIBLE and one not in BLANK for one in text)


def read_text(value: object) -> str:
    """A line of text for people.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - pydantic wants this one
    if not 1 <= len(value) <= TEXT_MAX:
        raise ValueError(f"must have 1 to {TEXT_MAX} characters")
    if not IS_PLAIN_TEXT.fullmatch(value) or not is_visible(value):
        raise ValueError("must not be blank, and have no control characters")
    return value


Text = Annotated[
    str,
    BeforeValidator(read_text),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": TEXT_MAX,
            "pattern": PLAIN_TEXT,
            "description": "A line of text of which something is to be seen.",
        }
    ),
]
"""A line of text: 1 to 200 characters, not blank, without control characters or directions."""

EMAIL_MAX = 254
"""RFC 5321, 4.5.3.1.3: a path has 256 octets, two of them its brackets."""


def read_email(value: object) -> str:
    """An e-mail address in ASCII, its domain in lower case.

    Whether anybody gets mail there is not asked. Names that are reserved for tests will do.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - pydantic wants this one
    if len(value) > EMAIL_MAX:
        raise ValueError(f"must have at most {EMAIL_MAX} characters")
    if not value.isascii():
        raise ValueError("must be in ASCII; a domain can be written with xn--")
    try:
        address = validate_email(
            value,
            allow_smtputf8=False,
            check_deliverability=False,
            strict=True,
            test_environment=True,
        ).ascii_email
    except EmailNotValidError:
        # Its own sentence may repeat what was sent.
        address = None
    if address is None:
        raise ValueError("must be an e-mail address such as name@example.org") from None
    return address


Email = Annotated[
    str,
    BeforeValidator(read_email),
    WithJsonSchema(
        {"type": "string", "format": "email", "maxLength": EMAIL_MAX, "examples": ["a@example.org"]}
    ),
]
"""An e-mail address, in ASCII."""
