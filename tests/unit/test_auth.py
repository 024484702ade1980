"""Who is let in."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from contextlib import suppress

import pytest
from pydantic import ValidationError

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.foundation.tokens import Role, new_token
from codebase.web.attempts import SENDERS_MAX, Attempts
from codebase.web.auth import (
    LOCAL,
    WRONG_FACTORS,
    WRONG_TOKENS,
    Authenticator,
    Caller,
    SecondFactor,
    require_same_origin,
)
from codebase.web.problems import HttpProblem
from tests.clocks import StandingClock

HERE = "127.0.0.1"
SECRET = "a secret"  # noqa: S105 - of a test
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()

MALFORMED = {
    "empty": "",
    "no role": f"shop::{DIGEST}",
    "an unknown role": f"shop:root:{DIGEST}",
    "no name": f":client:{DIGEST}",
    "a name with a blank": f"the shop:client:{DIGEST}",
    "no digest": "shop:client:",
    "the secret instead of its digest": f"shop:client:{SECRET}",
    "a digest that is too short": f"shop:client:{DIGEST[:-1]}",
    "a digest in upper case": f"shop:client:{DIGEST.upper()}",
    "a fourth part": f"shop:client:{DIGEST}:x",
    "full-width digits": f"shop:client:{'０' * 64}",
}


@pytest.mark.parametrize("entry", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_entry_refuses_to_start_and_is_not_repeated(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="API_TOKENS") as refusal:
        Authenticator([entry])
    assert SECRET not in str(refusal.value)


def test_without_tokens_everybody_is_local_and_administers() -> None:
    authenticator = Authenticator([])
    assert authenticator.protected_mode
    assert authenticator.caller({}, HERE) == LOCAL
    assert Caller("local", Role.ADMIN) == LOCAL


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:8777", b"127.0.0.1", b"127.1.2.3:80", b"[::1]:8777"]
)
def test_in_protected_mode_loopback_names_are_served(host: bytes) -> None:
    assert Authenticator([]).caller({b"host": host}, HERE) == LOCAL


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"10.0.0.1", b""],
)
def test_a_web_page_that_calls_loopback_by_its_own_name_is_refused(host: bytes) -> None:
    with pytest.raises(HttpProblem) as refusal:
        Authenticator([]).caller({b"host": host}, HERE)
    assert refusal.value.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + SECRET.encode()},
        {b"authorization": b"bearer  " + SECRET.encode()},
        {b"x-token": SECRET.encode()},
        {b"authorization": b"Basic " + b64encode(b"anybody:" + SECRET.encode())},
    ],
)
def test_a_token_names_its_caller(headers: dict[bytes, bytes]) -> None:
    authenticator = Authenticator([f"other:admin:{'0' * 64}", f"shop:client:{DIGEST}"])
    assert authenticator.caller(headers, HERE) == Caller("shop", Role.CLIENT)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": SECRET.encode()},
        {b"authorization": b"Basic " + b64encode(SECRET.encode() + b":wrong")},
        {b"authorization": b"Basic !"},
        {b"authorization": b"Bearer " + DIGEST.encode()},
        {b"x-token": b"wrong"},
        {b"x-token": b"\xff\x00"},
    ],
)
def test_whoever_has_no_token_is_told_how_to_bring_one(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(HttpProblem) as refusal:
        Authenticator([f"shop:client:{DIGEST}"]).caller(headers, HERE)
    assert refusal.value.status == 401
    assert "Bearer" in refusal.value.headers["WWW-Authenticate"]


def test_a_client_is_no_administrator() -> None:
    Caller("boss", Role.ADMIN).require_admin()
    with pytest.raises(HttpProblem) as refusal:
        Caller("shop", Role.CLIENT).require_admin()
    assert refusal.value.status == 403


@pytest.mark.parametrize(
    ("sent", "expected"), [({}, "42"), ({b"two-fa": b"41"}, "42"), ({b"two-fa": b""}, None)]
)
def test_without_the_second_factor_nothing_is_destroyed(
    sent: dict[bytes, bytes], expected: str | None
) -> None:
    SecondFactor("42").require({b"two-fa": b"42"}, "boss")
    with pytest.raises(HttpProblem) as refusal:
        SecondFactor(expected).require(sent, "boss")
    assert refusal.value.status == 403


def test_guessing_ends_after_a_few_and_holds_up_nobody_else() -> None:
    factor = SecondFactor("42", now=StandingClock())

    def status(guess: bytes, sender: str) -> int:
        try:
            factor.require({b"two-fa": guess}, sender)
        except HttpProblem as problem:
            return problem.status
        return 200

    guessed = [status(b"%d" % number, "thief") for number in range(42 - WRONG_FACTORS, 45)]
    assert guessed == WRONG_FACTORS * [403] + 3 * [429]
    assert status(b"42", "boss") == 200


def test_wrong_tokens_hold_up_no_right_one_from_the_same_address() -> None:
    authenticator = Authenticator([f"shop:client:{DIGEST}"], now=StandingClock())
    seen = []
    for number in range(WRONG_TOKENS + 2):
        with pytest.raises(HttpProblem) as refusal:
            authenticator.caller({b"x-token": b"%d" % number}, "10.0.0.1")
        seen.append(refusal.value.status)
    assert seen == WRONG_TOKENS * [401] + 2 * [429]
    assert authenticator.caller({b"x-token": SECRET.encode()}, "10.0.0.1").name == "shop"


def test_guesses_are_told_of_once_a_minute_and_forgiven_with_time() -> None:
    time = [1000.0]
    attempts = Attempts("a token", burst=10, seconds_each=6, now=lambda: time[0])
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        for number in range(2 * SENDERS_MAX):
            attempts.note_wrong(f"sender {number}")
        for _ in range(10):
            attempts.note_wrong("thief")
        assert lines.getvalue().count("wrong_secret") == 1
        with pytest.raises(HttpProblem, match="too often") as refusal:
            attempts.require_one("thief")
        assert refusal.value.headers == {"Retry-After": "6"}
        time[0] += 60
        attempts.require_one("thief")
        attempts.note_wrong("thief")
        assert lines.getvalue().count("wrong_secret") == 2


@pytest.mark.parametrize(("processes", "at_once"), [(1, 10), (3, 9), (20, 20)])
def test_of_several_processes_a_guesser_has_no_more_than_of_one(
    processes: int, at_once: int
) -> None:
    """Where there are more of them than guesses, each still takes one."""
    time = [1000.0]
    all_of_them = [
        Attempts("a token", burst=10, seconds_each=6, processes=processes, now=lambda: time[0])
        for _ in range(processes)
    ]

    def tried() -> int:
        count = 0
        for attempts in all_of_them:
            with suppress(HttpProblem):
                while True:
                    attempts.require_one("thief")
                    attempts.note_wrong("thief")
                    count += 1
        return count

    assert tried() == at_once
    time[0] += 60
    assert tried() <= 10


REPEATED = {
    "one token with two roles": [f"a:client:{DIGEST}", f"b:admin:{DIGEST}"],
    "an entry twice": [f"a:client:{DIGEST}", f"a:client:{DIGEST}"],
    "a name with two roles": [f"a:client:{DIGEST}", f"a:admin:{'0' * 64}"],
}


@pytest.mark.parametrize("entries", REPEATED.values(), ids=REPEATED.keys())
def test_entries_that_contradict_each_other_refuse_to_start(entries: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="API_TOKENS"):
        Authenticator(entries)


def test_a_name_has_two_tokens_while_one_replaces_the_other() -> None:
    authenticator = Authenticator([f"shop:client:{'0' * 64}", f"shop:client:{DIGEST}"])
    assert authenticator.caller({b"x-token": SECRET.encode()}, HERE).name == "shop"


def test_a_second_factor_has_sixteen_characters() -> None:
    with pytest.raises(ValidationError, match="16"):
        Settings(two_fa="x" * 15)
    assert Settings(two_fa="x" * 16).two_fa == "x" * 16


def test_a_new_token_opens_the_door_that_its_entry_makes() -> None:
    secret, entry = new_token("shop", "client")
    caller = Authenticator([entry]).caller({b"x-token": secret.encode()}, HERE)
    assert caller == Caller("shop", Role.CLIENT)
    assert secret not in entry
    with pytest.raises(ConfigurationError):
        new_token("the shop", "client")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"origin": b"http://127.0.0.1:9090", b"host": b"127.0.0.1:9090"},
        {b"origin": b"http://LocalHost:9090", b"host": b"localhost:9090"},
        {b"sec-fetch-site": b"same-origin", b"origin": b"null", b"host": b"127.0.0.1"},
        {b"sec-fetch-site": b"none", b"host": b"127.0.0.1"},
    ],
    ids=["no browser", "its own page", "letter case", "a page without a referrer", "the user"],
)
def test_what_a_page_of_this_service_sends_is_let_in(headers: dict[bytes, bytes]) -> None:
    require_same_origin("POST", headers)


FOREIGN = {
    "another site": {b"sec-fetch-site": b"cross-site"},
    "another port": {b"sec-fetch-site": b"same-site", b"origin": b"http://127.0.0.1:3000"},
    "something new": {b"sec-fetch-site": b"cross-galaxy"},
    "an old browser on another site": {b"origin": b"https://example.org"},
    "an old browser on another port": {b"origin": b"http://127.0.0.1:3000"},
    "an old browser in a sandbox": {b"origin": b"null"},
    "a longer name": {b"origin": b"http://127.0.0.1:9090.example.org"},
    "no name": {b"origin": b""},
}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "ANY"])
@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_another_page_sends_is_refused(method: str, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(HttpProblem) as refusal:
        require_same_origin(method, {b"host": b"127.0.0.1:9090", **headers})
    assert refusal.value.status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_another_page_may_link_to_what_only_reads(method: str, headers: dict[bytes, bytes]) -> None:
    require_same_origin(method, {b"host": b"127.0.0.1:9090", **headers})
