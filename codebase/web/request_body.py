"""The bodies of requests: how they are received, what they may look like, what is said of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    ValidationError,
    WithJsonSchema,
)
from starlette.types import Message, Receive

from codebase.model.money import parse_amount
from codebase.web.problems import HttpProblem, invalid, invalid_fields
from codebase.web.strict_json import WHOLE_BODY, InvalidJsonError, decode, tellable

Body = TypeVar("Body", bound=BaseModel)
Value = TypeVar("Value")

FromText = Annotated[Value, Strict(strict=False)]
"""A type that JSON has no word for and writes as text: `FromText[UUID]`, or an enumeration."""

JSON_TYPE = re.compile(
    r"application/json\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.ASCII | re.IGNORECASE
)


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class RequestBody(BaseModel):
    """Base of the bodies that clients send: unknown fields and wrong JSON types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_amount(value: object) -> Decimal:
    """An amount of money from JSON: a text, or a number, which is taken digit by digit.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    match value:
        case str():
            return parse_amount(value)
        case bool():
            raise ValueError("must be a decimal number, best as a text such as '123.45'")
        case int():
            return parse_amount(str(value))
        case Decimal():
            return parse_amount(format(value, "f"))
        case _:
            raise ValueError("must be a decimal number, best as a text such as '123.45'")


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
# Also U+2028 and U+2029, which some readers take for the end of a line.
CONTROL_CHARACTERS = "\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029"
PLAIN_TEXT = f"^[^{CONTROL_CHARACTERS}]*[^{CONTROL_CHARACTERS}\\s][^{CONTROL_CHARACTERS}]*$"
IS_PLAIN_TEXT = re.compile(PLAIN_TEXT)


def read_text(value: object) -> str:
    """A line of text for people.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - pydantic wants this one
    if not 1 <= len(value) <= TEXT_MAX:
        raise ValueError(f"must have 1 to {TEXT_MAX} characters")
    if not IS_PLAIN_TEXT.fullmatch(value):
        raise ValueError("must not be blank, and have no control characters")
    return value


Text = Annotated[
    str,
    BeforeValidator(read_text),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": TEXT_MAX, "pattern": PLAIN_TEXT}
    ),
]
"""A line of text: 1 to 200 characters, not blank, without control characters."""

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


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Take nothing but JSON in UTF-8.

    Raises:
        HttpProblem: 415, another or no content type.
    """
    sent = headers.get(b"content-type", b"")
    if sent != b"application/json" and not JSON_TYPE.fullmatch(sent.decode("latin-1")):
        raise HttpProblem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "the body must be application/json",
            errors={"Content-Type": ["must be application/json"]},
        )


async def read_body(receive: Receive) -> bytes:
    """The whole body; the shell bounds its size, the server its time.

    Raises:
        ClientGoneError: the rest will not come.
    """
    message = await receive()
    if not message.get("more_body"):
        return _part(message)
    parts = bytearray(_part(message))
    while message.get("more_body"):
        message = await receive()
        parts += _part(message)
    return bytes(parts)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    part: bytes = message.get("body", b"")
    return part


def validate(model: type[Body], body: bytes) -> Body:
    """The body as `model` describes it.

    Raises:
        HttpProblem: 422 naming each field; nothing of the input is repeated.
    """
    try:
        return model.model_validate(decode(body))
    except InvalidJsonError as error:
        raise invalid(error.field, error.reason) from None
    except ValidationError as error:
        raise explain(error.errors(include_url=False, include_input=False)) from None


# pydantic's own sentences may quote the input; these say the same without it.
SENTENCES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a text",
    "string_unicode": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of ordinary size",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "datetime_parsing": "must be a time in ISO 8601",
    "datetime_from_date_parsing": "must be a time in ISO 8601",
    "date_parsing": "must be a date in ISO 8601",
    "string_pattern_mismatch": "does not have the right form",
    "json_invalid": "must be JSON in UTF-8",
}

# Rules with a limit: the limit is ours and may be told.
LIMITS: Mapping[str, str] = {
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_max_digits": "must have at most {max_digits} digits",
    "value_error": "{error}",
}

# Where FastAPI says a field comes from; the field's own name is enough.
PLACES = frozenset({"body", "query", "path", "header", "cookie"})


def explain(details: Sequence[Mapping[str, Any]]) -> HttpProblem:
    """The answer to what pydantic or FastAPI found: 422, field by field, without the input.

    Args:
        details: as `ValidationError.errors()` lists them, with their context.
    """
    errors: dict[str, list[str]] = {}
    for detail in details:
        errors.setdefault(_field(detail["loc"]), []).append(_sentence(detail))
    return invalid_fields(errors)


def _field(location: Sequence[int | str]) -> str:
    path = location[1:] if location and location[0] in PLACES else location
    return ".".join(map(tellable, path)) or WHOLE_BODY


def _sentence(detail: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind in LIMITS:
        return LIMITS[kind].format_map(detail.get("ctx", {}))
    return SENTENCES.get(kind, "is not valid")
