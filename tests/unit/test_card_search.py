"""The search for card numbers finds what there is; else that it finds nothing would say nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

import pytest

from tests.card_search import beginnings, digested, guessed, held
from tests.integration.payments import payment

NUMBER = "4539578763621486"
OTHERS = ("4716059379832109", "4929718053142237")


@pytest.mark.parametrize(
    "written",
    [
        NUMBER,
        f'{{"card":{NUMBER}}}',
        f"card{NUMBER}paid",
        f"0x00{NUMBER}ff",
        "4539 5787 6362 1486",
        "4539-5787-6362-1486",
        "4.539578763621486e+15",
        "******8763621486",
        "453957******8763621486",
        "the end of it is 8763621486",
        f"99{NUMBER}1732886064",
    ],
)
def test_a_number_is_found_however_it_is_written(written: str) -> None:
    assert held(written.encode(), [NUMBER, *OTHERS]) == {NUMBER}


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-29 13:14:24.123456",
        "0b3a1f0e-7a5e-4c53-8f0e-3a8f8f3f2c11",
        # What a random identifier may hold by chance.
        "a8763621486b",
        "453957 and 1486",
        "538763621486537",
    ],
)
def test_nothing_else_is_taken_for_a_number(written: str) -> None:
    assert held(written.encode(), [NUMBER, *OTHERS]) == set()


def hexadecimal(kept: bytes) -> str:
    return kept.hex()


def bytea(kept: bytes) -> str:
    return f"\\x{kept.hex()}"


def standard(kept: bytes) -> str:
    return base64.b64encode(kept).decode()


def url_safe(kept: bytes) -> str:
    return base64.urlsafe_b64encode(kept).decode().rstrip("=")


def in_a_path(kept: bytes) -> str:
    return f"/cards/{kept.hex()}/payments"


@pytest.mark.parametrize("written", [hexadecimal, bytea, standard, url_safe, in_a_path])
@pytest.mark.parametrize("length", [8, 16, 20])
@pytest.mark.parametrize("digest", [hashlib.md5, hashlib.sha256, hashlib.blake2b])
def test_a_digest_without_a_key_is_found(written: Any, length: int, digest: Any) -> None:  # noqa: ANN401 - functions
    found = written(digest(NUMBER.encode()).digest()[:length])
    known = beginnings([f'{{"card": "{found}"}}'.encode()])
    assert digested(known, NUMBER, {})
    assert not any(digested(known, other, {}) for other in OTHERS)


def test_a_digest_of_the_whole_request_is_found() -> None:
    body = payment(card=NUMBER)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    known = beginnings([hashlib.sha256(text.encode()).hexdigest().encode()])
    assert digested(known, NUMBER, body)
    assert not digested(known, OTHERS[0], payment(card=OTHERS[0]))


def test_whoever_tries_out_all_middles_finds_what_was_hashed_and_not_what_was_signed() -> None:
    hashed = hashlib.sha256(b"4539570006661486").hexdigest()
    signed = hashlib.blake2b(b"4539570007771486", key=secrets.token_bytes(32)).hexdigest()
    known = beginnings([f'["{hashed}", "{signed}"]'.encode()])
    assert guessed(known, "453957", "1486", middles=1_000) == {"4539570006661486"}
