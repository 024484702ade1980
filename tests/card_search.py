"""Looks for card numbers in whatever was written: whole, the middle of one, or to be guessed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

MIDDLE = slice(6, -4)
"""What nobody knows of a number of whose issuer and last four digits much is printed."""
MIDDLES = 10**6
KEPT_BYTES = 8
"""No digest is shortened further: of 10^6 numbers two would begin alike with less."""
COMMON = (hashlib.md5, hashlib.sha1, hashlib.sha256, hashlib.sha512)
DIGESTS = (
    *COMMON,
    hashlib.sha224,
    hashlib.sha384,
    hashlib.sha3_256,
    hashlib.blake2b,
    hashlib.blake2s,
    lambda text: hashlib.blake2b(text, digest_size=16),
)
# As people write numbers, and as JSON writes one that was read as a number with a point.
RUN = re.compile(rb"[0-9](?:[ ._-]?[0-9]){9,}")
SEPARATORS = b" ._-"
HEX_LETTERS = frozenset(b"abcdefABCDEF")
WORD = re.compile(rb"[A-Za-z0-9+/_-]{11,}")
HEX = re.compile(rb"(?:[0-9a-f]{2}){8,}")
STANDARD = bytes.maketrans(b"-_", b"+/")


def held(content: bytes, numbers: Collection[str]) -> set[str]:
    """Those of the numbers of which the content has all digits, or the middle beside the last four.

    Of the middle nothing else may be said than that it stands there: neither in the middle of more
    digits nor among those of something hexadecimal, where it comes about by chance.
    """
    by_tail = {number[MIDDLE.start :].encode(): number for number in numbers}
    length = len(next(iter(by_tail)))
    found = set()
    for match in RUN.finditer(content):
        digits = match.group().translate(None, SEPARATORS)
        for at in range(len(digits) - length + 1):
            number = by_tail.get(digits[at : at + length])
            if number is None:
                continue
            at_an_end = at in {0, len(digits) - length}
            if number.encode() in digits or (at_an_end and _stands_alone(content, match)):
                found.add(number)
    return found


def _stands_alone(content: bytes, match: re.Match[bytes]) -> bool:
    around = content[max(match.start() - 1, 0) : match.start()], content[match.end() :][:1]
    return not any(HEX_LETTERS.issuperset(each) and each for each in around)


def beginnings(contents: Iterable[bytes]) -> set[bytes]:
    """How whatever may be a digest begins, written in hexadecimal digits or in base64."""
    words = {word for content in contents for word in WORD.findall(content)}
    parts = {part for word in words for part in re.split(rb"[/+_-]", word)}
    found = set()
    for word in words | parts:
        if HEX.match(word.lower().lstrip(b"x")):
            found.add(bytes.fromhex(word.lower().lstrip(b"x")[: 2 * KEPT_BYTES].decode()))
        with suppress(binascii.Error):
            found.add(base64.b64decode(word[:12].translate(STANDARD).ljust(12, b"="))[:KEPT_BYTES])
    return found


def digests(text: bytes) -> Iterator[bytes]:
    """How a text's digests begin that need no key."""
    return (digest(text).digest()[:KEPT_BYTES] for digest in DIGESTS)


def common_digests(text: bytes) -> Iterator[bytes]:
    """The same of those that everybody takes."""
    return (digest(text).digest()[:KEPT_BYTES] for digest in COMMON)


def guessed(known: set[bytes], issuer: str, last_four: str, *, middles: int = MIDDLES) -> set[str]:
    """The numbers that somebody finds who tries out every middle between what is known.

    Args:
        known: what `beginnings` has found.
        issuer: how all of the numbers begin.
        last_four: how they end.
        middles: how many are tried, from 000000 on.
    """
    numbers = (f"{issuer}{middle:06}{last_four}" for middle in range(middles))
    return {number for number in numbers if not known.isdisjoint(common_digests(number.encode()))}


def digested(known: set[bytes], number: str, body: Mapping[str, object]) -> bool:
    """Whether a digest of the number, or of a whole request with it, was kept.

    Whoever has the rest of a request needs no more for trying out than who has a digest of the
    number alone.
    """
    texts = (
        number,
        json.dumps(number),
        json.dumps(body),
        json.dumps(body, sort_keys=True, separators=(",", ":")),
        json.dumps(body, separators=(",", ":")),
    )
    return any(not known.isdisjoint(digests(text.encode())) for text in texts)
