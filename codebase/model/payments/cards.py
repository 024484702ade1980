"""Payment cards, reduced at the edge: nothing else is told a card's number, or could guess it."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

DIGITS = re.compile(r"[0-9]{12,19}", re.ASCII)
"""What a card's number is: ISO/IEC 7812 has 19 digits at most, no card in use fewer than 12."""
FINGERPRINT_BYTES = 16
"""What is kept of HMAC-SHA-256: 128 bits, as PCI DSS wants of a keyed hash at least."""

# Whose network it is of, by how the number begins: the longest prefix that is listed counts.
BRANDS: Mapping[str, tuple[str, ...]] = {
    "visa": ("4",),
    "mastercard": (*map(str, range(51, 56)), *map(str, range(2221, 2721))),
    "amex": ("34", "37"),
    "discover": ("6011", "65", *map(str, range(644, 650))),
    "diners": ("36", "38", "39", *map(str, range(300, 306))),
    "jcb": tuple(map(str, range(3528, 3590))),
    "unionpay": ("62", "81"),
    "rupay": ("508", "60", "652", "82"),
    "maestro": ("50", "56", "57", "58", "6"),
}
UNKNOWN_BRAND = "unknown"
BRAND_NAMES = (*BRANDS, UNKNOWN_BRAND)
_BY_PREFIX = {prefix: brand for brand, prefixes in BRANDS.items() for prefix in prefixes}
_PREFIX_MAX = max(map(len, _BY_PREFIX))


@dataclass(frozen=True, slots=True)
class CardNumber:
    """A card's number, on its way from the edge to its reduction and nowhere else.

    Args:
        digits: all of them; never shown.
    """

    digits: str = field(repr=False)

    @classmethod
    def read(cls, value: object) -> CardNumber:
        """The number that was sent: 12 to 19 digits, as a text or as a whole number.

        Raises:
            ValueError: it is none; the text never repeats it.
        """
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        digits = str(value) if is_whole else value
        if not isinstance(digits, str) or not DIGITS.fullmatch(digits):
            raise ValueError("must have 12 to 19 digits, best as a text")
        return cls(digits)

    @property
    def brand(self) -> str:
        """Whose card it is, as far as its beginning tells: one of `BRAND_NAMES`."""
        for length in range(_PREFIX_MAX, 0, -1):
            if (brand := _BY_PREFIX.get(self.digits[:length])) is not None:
                return brand
        return UNKNOWN_BRAND

    @property
    def has_luhn_digit(self) -> bool:
        """Whether the last digit is the one that Luhn's formula asks for (ISO/IEC 7812-1)."""
        digits = [int(digit) for digit in reversed(self.digits)]
        doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
        return (sum(digits[::2]) + sum(doubled)) % 10 == 0


# Digits of any script, with what people put between four and four of them.
RUN_OF_DIGITS = re.compile(
    r"\d(?:[\s.\-_\u00ad\u200b-\u200f\u2010-\u2015\u2060\ufeff]{0,2}\d){11,}"
)
IDENTIFIER = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.ASCII | re.IGNORECASE
)


def holds_card_number(text: str) -> bool:
    """Whether a text may have a card's number in it: 12 digits or more in a row, spaced or not.

    Whatever its last digit is: a number with a wrong one is a card's here too, and a text that is
    refused always is better than one that is refused for one number in ten. UUIDs are no numbers.
    """
    found = RUN_OF_DIGITS.search(text)
    return found is not None and RUN_OF_DIGITS.search(IDENTIFIER.sub("", text)) is not None


NO_DIGIT = re.compile("[^0-9]", re.ASCII)


def digits_in(text: str) -> str:
    """All digits of a text, of any script in those of ASCII, whatever stands between them."""
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(each, "")) for each in text)
    return NO_DIGIT.sub("", text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What is known of a card once its number has been left at the edge.

    Args:
        brand: one of `BRAND_NAMES`.
        last_four: its last four digits.
        luhn: whether its last digit is the one that Luhn's formula asks for.
        fingerprints: `key id:base64url` for every key that was known, the signing one first.
    """

    brand: str
    last_four: str
    luhn: bool
    fingerprints: tuple[str, ...]

    def is_same_as(self, other: Card) -> bool:
        """Whether both are one card, as far as they have been made with a common key."""
        return not set(self.fingerprints).isdisjoint(other.fingerprints)


class CardReducer:
    """Reduces numbers to what may be kept.

    A fingerprint is HMAC-SHA-256 of the whole number. Without a secret key whoever reads one could
    try out the six digits between what everybody knows of the issuer and the last four.

    Args:
        keys: id -> key, of 32 bytes or more. The first one signs, all of them compare.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ValueError("a card is reduced with a key")
        self._keys = {
            key_id: hmac.new(key, digestmod=hashlib.sha256) for key_id, key in keys.items()
        }

    def reduce(self, number: CardNumber) -> Card:
        """What is kept of a card."""
        return Card(
            brand=number.brand,
            last_four=number.digits[-4:],
            luhn=number.has_luhn_digit,
            fingerprints=tuple(self._fingerprint(key_id, number) for key_id in self._keys),
        )

    def _fingerprint(self, key_id: str, number: CardNumber) -> str:
        code = self._keys[key_id].copy()
        code.update(number.digits.encode())
        kept = urlsafe_b64encode(code.digest()[:FINGERPRINT_BYTES])
        return f"{key_id}:{kept.decode().rstrip('=')}"
