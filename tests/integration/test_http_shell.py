"""The shell over real sockets: what is answered, what is refused, and that nothing is echoed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from codebase.foundation.background import in_background
from codebase.foundation.errors import ConfigurationError, ServiceUnavailable
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.model.buy_orders.buy_order import order_book_limit
from codebase.model.refusals import KeyReused
from codebase.web.openapi import ONLY_READS
from codebase.web.problems import Behind
from codebase.web.shell import Answer, Command, command
from tests.integration.shell import (
    KEY,
    ORDER,
    Reply,
    Server,
    in_time,
    request,
    running,
    small_service,
)
from tests.logs import ANOTHER, OURS, of_ours

Ports = Callable[[], int]
SECRET = "4111111111111111"  # noqa: S105 - a card number that must not come back
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_command_gets_everything_the_shell_knows_and_answers_with_every_header(
    free_port: Ports,
) -> None:
    async def scenario() -> None:
        log = of_ours({0: 5, 1: 9, 2: 4})
        async with running([small_service(log=log)], free_port()) as server:
            headers = {
                "Idempotency-Key": '"abc"',
                "Consistency-Token": f"{OURS}_0.3-1.9",
                "Cookie": f"Consistency-Token={OURS}_2.4",
                "traceparent": TRACE,
            }
            reply = await server.ask("PUT", "/order", ORDER, headers)
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["consistency-token"] == f"{OURS}_0.7-1.9-2.4"
        cookie = f"Consistency-Token={OURS}_0.7-1.9-2.4; HttpOnly; SameSite=Lax; Path=/"
        assert reply.headers["set-cookie"] == cookie
        assert reply.headers["idempotent-replayed"] == "true"
        assert reply.headers["location"] == "/orders/1"
        assert "server" not in reply.headers
        told = reply.json
        assert told["request_id"] == reply.headers["x-request-id"]
        assert (told["caller"], told["amount"]) == ("local", "1.50")
        assert (told["idempotence_key"], told["traceparent"]) == ("abc", TRACE)
        assert told["seen"] == {"0": 3, "1": 9, "2": 4}

    in_time(scenario)


FOREIGN = {
    "of another log": f"{ANOTHER}_0.5-1.9",
    "without a name": "0.5-1.9",
    "beyond the end": f"{OURS}_0.6-1.10",
}


@pytest.mark.parametrize("token", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("form", ["{}", "Consistency-Token={}"], ids=["header", "cookie"])
def test_a_token_that_is_not_of_this_log_is_not_given_back(
    free_port: Ports, token: str, form: str
) -> None:
    async def scenario() -> None:
        log = of_ours({0: 5, 1: 9})
        async with running([small_service(log=log)], free_port()) as server:
            name = "Consistency-Token" if form == "{}" else "Cookie"
            reply = await server.ask("PUT", "/order", ORDER, {name: form.format(token)})
        assert reply.status == 200
        assert reply.headers["consistency-token"] == f"{OURS}_0.7"
        assert reply.json["seen"] == {}

    in_time(scenario)


def test_a_partition_that_this_log_does_not_have_is_refused_in_a_header_only(
    free_port: Ports,
) -> None:
    async def scenario() -> None:
        token = f"{OURS}_0.3-7.1"
        async with running([small_service(log=of_ours({0: 5}))], free_port()) as server:
            refused = await server.ask("PUT", "/order", ORDER, {"Consistency-Token": token})
            taken = await server.ask(
                "PUT", "/order", ORDER, {"Cookie": f"Consistency-Token={token}"}
            )
        assert_problem(refused, 422, "invalid-input")
        assert list(refused.json["errors"]) == ["Consistency-Token"]
        assert taken.headers["consistency-token"] == f"{OURS}_0.7"

    in_time(scenario)


def test_a_malformed_cookie_is_taken_back_with_whatever_is_answered(free_port: Ports) -> None:
    async def scenario() -> None:
        malformed = {"Cookie": f"Consistency-Token={SECRET}"}
        async with running([small_service(log=of_ours({0: 5}))], free_port()) as server:
            done = await server.ask("PUT", "/order", ORDER, malformed)
            refused = await server.ask("PUT", "/order", {}, malformed)
        assert done.status == 200
        assert done.headers["set-cookie"].startswith(f"Consistency-Token={OURS}_0.7;")
        assert_problem(refused, 422, "invalid-input")
        assert SECRET not in refused.body.decode()
        assert refused.headers["set-cookie"].startswith("Consistency-Token=;")
        assert refused.headers["set-cookie"].endswith("; Max-Age=0")

    in_time(scenario)


def test_the_content_tells_commands_apart_and_not_their_spelling(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:

            async def content(body: str) -> str:
                reply = await server.ask("PUT", "/order", body.encode())
                return str(reply.json["content"])

            one = await content(json.dumps(ORDER))
            other_spelling = f'{{ "key":"{KEY.upper()}", "amount":1.5, "currency":"USD" }}'
            assert await content(other_spelling) == one
            assert await content(json.dumps({**ORDER, "amount": "1.51"})) != one

    in_time(scenario)


BAD_HEADERS = {
    "an idempotence key with a blank": ("Idempotency-Key", "a b"),
    "an empty idempotence key": ("Idempotency-Key", '""'),
    "an endless idempotence key": ("Idempotency-Key", "k" * 256),
    "a malformed consistency token": ("Consistency-Token", SECRET),
}


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_bad_header_is_named_and_not_repeated(free_port: Ports, name: str, value: str) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("PUT", "/order", ORDER, {name: value})
        assert_problem(reply, 422, "invalid-input")
        assert list(reply.json["errors"]) == [name]
        assert SECRET not in reply.body.decode()

    in_time(scenario)


ONCE = [
    ("Host", "127.0.0.1"),
    ("Authorization", "Bearer boss"),
    ("X-Token", "shop"),
    ("TWO-FA", "x"),
    ("Idempotency-Key", "a"),
    ("Content-Type", "application/json"),
    ("Content-Length", "84"),
    ("Content-Encoding", "identity"),
    ("Consistency-Token", "0.1"),
    ("If-Match", "*"),
    ("Origin", "http://127.0.0.1"),
    ("Sec-Fetch-Site", "none"),
    ("traceparent", TRACE),
    ("Last-Event-ID", "1"),
    ("X-User-Id", "shop"),
]


@pytest.mark.parametrize(("name", "value"), ONCE, ids=[name for name, _ in ONCE])
@pytest.mark.parametrize("tokens", [(), ("shop", "boss")])
def test_a_header_that_is_given_twice_is_named(
    free_port: Ports, name: str, value: str, tokens: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        known = tuple(one for one in TOKENS if one.split(":")[0] in tokens)
        sent = request("PUT", "/order", ORDER)
        given = f"{name}: {value}\r\n".encode()
        twice = sent.replace(given, b"").replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n" + 2 * given, 1)
        async with (
            running([small_service()], free_port(), api_tokens=known) as server,
            server.client() as client,
        ):
            client.send(twice)
            reply = await client.reply()
        assert reply.status == 400
        assert reply.headers["content-type"] == "application/problem+json"
        assert list(reply.json["errors"]) == [name]

    in_time(scenario)


def test_a_token_is_given_in_one_header(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port(), api_tokens=tuple(TOKENS)) as server:
            both = {"Authorization": "Bearer shop", "X-Token": "shop"}
            reply = await server.ask("GET", "/orders", headers=both)
        assert_problem(reply, 400, "bad-header")
        assert list(reply.json["errors"]) == ["X-Token"]

    in_time(scenario)


@pytest.mark.parametrize(("version", "status"), [("1.1", 400), ("1.0", 200)])
def test_whoever_speaks_http_1_1_names_the_host(
    free_port: Ports, version: str, status: int
) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(f"GET /orders HTTP/{version}\r\n\r\n".encode())
            reply = await client.reply()
        assert reply.status == status
        assert status == 200 or list(reply.json["errors"]) == ["Host"]

    in_time(scenario)


def test_a_malformed_traceparent_is_ignored(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("PUT", "/order", ORDER, {"traceparent": "00-zz"})
        assert reply.json["traceparent"] is None

    in_time(scenario)


BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 422, "body"),
    "an amount that is NaN": (b'{"amount":NaN}', 422, "amount"),
    "an amount beyond every double": (b'{"amount":1e999}', 422, "amount"),
    "an amount in full-width digits": ('{"amount":"１２"}'.encode(), 422, "amount"),
    "a repeated name": (b'{"amount":"1","amount":"2"}', 422, "amount"),
    "a NUL": (rb'{"currency":"\u0000"}', 422, "currency"),
    "a lone surrogate": (rb'{"currency":"\ud800"}', 422, "currency"),
    "an unknown field": (json.dumps({**ORDER, "colour": SECRET}).encode(), 422, "colour"),
    "10,000 levels": (b"[" * 10_000, 422, "body"),
    "50 MB": (b'{"amount":"' + b"1" * 50_000_000 + b'"}', 413, "body"),
}


@pytest.mark.parametrize(("body", "status", "field"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_a_problem_that_names_the_field(
    free_port: Ports, body: bytes, status: int, field: str
) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("PUT", "/order", body)
        assert_problem(reply, status)
        assert field in reply.json["errors"]
        assert SECRET not in reply.body.decode()

    in_time(scenario)


def test_a_chunked_body_is_counted_while_it_comes(free_port: Ports) -> None:
    async def scenario() -> None:
        chunked = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        head = request("PUT", "/order", headers=chunked)
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
            server.client() as endless,
        ):
            body = json.dumps(ORDER).encode()
            client.send(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            assert (await client.reply()).status == 200
            endless.send(head + b"100000\r\n" + b"x" * 70_000)
            assert_problem(await endless.reply(), 413, "body-too-large")

    in_time(scenario)


def test_a_client_that_asks_before_it_sends_too_much_is_told_not_to(free_port: Ports) -> None:
    async def scenario() -> None:
        headers = {
            "Expect": "100-continue",
            "Content-Length": "50000000",
            "Content-Type": "application/json",
        }
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(request("PUT", "/order", headers=headers))
            reply = await client.reply()
            assert_problem(reply, 413)
            assert reply.headers["connection"] == "close"
            assert await client.ends() == b""

    in_time(scenario)


def test_after_a_body_that_was_too_large_the_connection_ends(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(request("PUT", "/order", b"x" * 1_000_000) + request("GET", "/orders"))
            reply = await client.reply()
            assert_problem(reply, 413)
            assert reply.headers["connection"] == "close"
            assert await client.ends() == b""

    in_time(scenario)


@pytest.mark.parametrize(
    ("headers", "connection"),
    [
        ({"Content-Length": "1000"}, None),
        ({"Content-Length": "50000000"}, "close"),
        ({"Transfer-Encoding": "chunked"}, "close"),
        ({"Content-Length": "1000", "Expect": "100-continue"}, "close"),
    ],
)
def test_a_refusal_before_the_body_ends_the_connection_unless_little_is_to_come(
    free_port: Ports, headers: dict[str, str], connection: str | None
) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port(), api_tokens=tuple(TOKENS)) as server,
            server.client() as client,
        ):
            client.send(request("PUT", "/order", headers=headers))
            reply = await client.reply()
            assert_problem(reply, 401)
            assert reply.headers.get("connection") == connection
            client.send(b"x" * 1000 + request("GET", "/healthz"))
            if connection:
                assert await client.ends() == b""
            else:
                assert (await client.reply()).status == 200

    in_time(scenario)


JSON_IN_WORDS = [
    "application/json; charset=utf-8",
    "application/json; charset=utf8",
    'APPLICATION/JSON;CHARSET="UTF-8"',
    "application/json; version=1",
    "application/json; charset=utf8; version=1",
]


@pytest.mark.parametrize("content_type", JSON_IN_WORDS)
def test_json_is_json_whatever_else_is_said_of_it(free_port: Ports, content_type: str) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("PUT", "/order", ORDER, {"Content-Type": content_type})
        assert reply.status == 200

    in_time(scenario)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
def test_a_body_in_a_coding_is_415(free_port: Ports, coding: str) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("PUT", "/order", ORDER, {"Content-Encoding": coding})
            assert_problem(reply, 415, "unsupported-media-type")
            assert list(reply.json["errors"]) == ["Content-Encoding"]
            reply = await server.ask("PUT", "/order", ORDER, {"Content-Encoding": "Identity"})
            assert reply.status == 200

    in_time(scenario)


NOT_JSON = [
    "text/plain",
    "",
    "application/x-www-form-urlencoded",
    "application/jsonx",
    "application/json; charset=latin-1",
    "application/json; version=1; charset=utf-16",
    "application/json; charset=utf-8; charset=utf-7",
    "application/json; charset=",
]


@pytest.mark.parametrize("content_type", NOT_JSON)
def test_what_is_not_json_is_415(free_port: Ports, content_type: str) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("PUT", "/order", ORDER, {"Content-Type": content_type})
        assert_problem(reply, 415, "unsupported-media-type")

    in_time(scenario)


FAILURES: dict[str, tuple[Exception, int, str]] = {
    "a refusal": (order_book_limit("0.5"), 409, "order-book-limit"),
    "a reused key": (KeyReused("another one"), 422, "idempotence-key-reused"),
    "a database that is away": (ServiceUnavailable("db", "away"), 503, "service-unavailable"),
    "a read model that is behind": (Behind(), 503, "read-model-behind"),
    "a bug": (KeyError(SECRET), 500, "internal-error"),
}


@pytest.mark.parametrize(("failure", "status", "kind"), FAILURES.values(), ids=FAILURES.keys())
def test_what_a_command_raises_is_a_problem(
    free_port: Ports, failure: Exception, status: int, kind: str
) -> None:
    async def scenario() -> None:
        async with running([small_service(failure=failure)], free_port()) as server:
            reply = await server.ask("PUT", "/order", ORDER)
        assert_problem(reply, status, kind)
        assert ("retry-after" in reply.headers) == (status == 503)
        assert SECRET not in reply.body.decode()

    in_time(scenario)


def test_a_bug_is_logged_under_the_instance_that_the_client_is_told(free_port: Ports) -> None:
    lines = io.StringIO()

    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            for path in ("/bug", "/orders"):
                reply = await server.ask("GET", path)
                replies.append(reply)

    replies: list[Reply] = []
    with logs.configured(Settings(), service="test", stream=lines):
        in_time(scenario)
    assert_problem(replies[0], 500, "internal-error")
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    failed = next(line for line in found if line["event"] == "request_failed")
    assert failed["request_id"] == replies[0].json["instance"]
    assert failed["errors"][0]["type"] == "builtins.ValueError"
    assert SECRET not in lines.getvalue()
    answered = [line for line in found if line["event"] == "request_answered"]
    assert [line["route"] for line in answered] == ["/bug"]


def test_every_request_is_logged_when_that_is_asked_for(free_port: Ports) -> None:
    lines = io.StringIO()

    async def scenario() -> None:
        async with running([small_service()], free_port(), access_log=True) as server:
            await server.ask("GET", "/orders")

    with logs.configured(Settings(), service="test", stream=lines):
        in_time(scenario)
    answered = next(line for line in lines.getvalue().splitlines() if "request_answered" in line)
    assert json.loads(answered)["status"] == 200


QUERIES = {
    "not a number": ("GET", "/orders?size=x", 422, "invalid-input"),
    "full-width digits": ("GET", "/orders?size=%EF%BC%95", 422, "invalid-input"),
    "an unknown path": ("GET", "/nowhere", 404, "not-found"),
    "another method on a command": ("GET", "/order", 405, "method-not-allowed"),
    "another method on a query": ("PUT", "/orders", 405, "method-not-allowed"),
    "a slash too many": ("GET", "/orders/", 404, "not-found"),
    "a path that is no UUID": ("DELETE", "/orders/7", 422, "invalid-input"),
    "a path with a NUL": ("DELETE", "/orders/%00", 422, "invalid-input"),
}


@pytest.mark.parametrize(("method", "path", "status", "kind"), QUERIES.values(), ids=QUERIES.keys())
def test_routes_refuse_in_the_same_form(
    free_port: Ports, method: str, path: str, status: int, kind: str
) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            assert_problem(await server.ask(method, path), status, kind)

    in_time(scenario)


@pytest.mark.parametrize(("method", "path", "status", "kind"), QUERIES.values(), ids=QUERIES.keys())
def test_a_browser_is_shown_a_page_and_everybody_else_gets_what_they_always_got(
    free_port: Ports, method: str, path: str, status: int, kind: str
) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            plain = await server.ask(method, path)
            assert_problem(plain, status, kind)
            for accept in ("*/*", "application/json", "application/json, text/plain, */*"):
                reply = await server.ask(method, path, headers={"Accept": accept})
                assert without_id(reply) == without_id(plain)
            shown = await server.ask(method, path, b"", browser | form)
            assert shown.status == status
            assert shown.headers["content-type"] == "text/html; charset=utf-8"
            assert shown.headers["x-request-id"] in shown.body.decode()
            assert shown.headers.get("allow") == plain.headers.get("allow")
            assert shown.headers["cache-control"] == "no-store"

    in_time(scenario)


def without_id(reply: Reply) -> tuple[int, list[tuple[str, str]], bytes]:
    """An answer, bytes and order of headers, but for what names the request, and the time."""
    own = reply.headers["x-request-id"]
    headers = [
        (name, value.replace(own, "")) for name, value in reply.headers.items() if name != "date"
    ]
    return reply.status, headers, reply.body.replace(own.encode(), b"")


def test_a_program_that_would_take_html_as_well_gets_problems_of_its_commands(
    free_port: Ports,
) -> None:
    java = {"Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}

    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            assert_problem(await server.ask("PUT", "/order", {}, java), 422, "invalid-input")

    in_time(scenario)


@pytest.mark.parametrize("path", ["/orders", "/orders?size=x", "/nowhere", "/metrics", "/docs"])
def test_head_is_answered_as_get_is_without_the_body(free_port: Ports, path: str) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            got = await server.ask("GET", path)
            client.send(request("HEAD", path, headers={"Connection": "close"}))
            head, _, body = (await client.ends()).partition(b"\r\n\r\n")
        assert int(head.split()[1]) == got.status
        assert f"content-type: {got.headers['content-type']}".encode() in head
        assert body == b""

    in_time(scenario)


def test_a_405_names_every_method_of_the_path(free_port: Ports) -> None:
    async def scenario() -> None:
        app = small_service()

        @app.post("/orders")
        async def post_orders() -> None:
            """Another route of the same path."""

        async with running([app], free_port()) as server:
            allowed = {
                path: (await server.ask("PATCH", path)).headers["allow"]
                for path in ("/orders", "/order", f"/orders/{KEY}", "/docs")
            }
        assert allowed == {
            "/orders": "GET, HEAD, POST",
            "/order": "PUT",
            f"/orders/{KEY}": "DELETE",
            "/docs": "GET, HEAD",
        }

    in_time(scenario)


def test_a_command_with_a_path_and_no_body_needs_no_content_type(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("DELETE", f"/orders/{KEY}")
        assert (reply.status, reply.json) == (202, {"id": KEY})

    in_time(scenario)


TOKENS = [
    f"{name}:{role}:{hashlib.sha256(name.encode()).hexdigest()}"
    for name, role in (("shop", "client"), ("watch", "operator"), ("boss", "admin"))
]


def test_with_tokens_every_request_needs_one_but_health_does_not(free_port: Ports) -> None:
    async def scenario() -> None:
        tokens = {"api_tokens": tuple(TOKENS), "two_fa": "42 and some more"}
        async with running([small_service()], free_port(), **tokens) as server:
            for path in ("/healthz", "/healthcheck", "/readyz"):
                assert (await server.ask("GET", path)).status == 200
            for path in ("/orders", "/metrics", "/docs", "/openapi.json", "/nowhere"):
                reply = await server.ask("GET", path)
                assert_problem(reply, 401, "unauthorized")
                assert reply.headers["www-authenticate"].startswith("Bearer")
            wrong = await server.ask("PUT", "/order", ORDER, {"X-Token": "wrong"})
            assert_problem(wrong, 401)
            reply = await server.ask("PUT", "/order", ORDER, {"Authorization": "Bearer shop"})
            assert reply.json["caller"] == "shop"
            reply = await server.ask("GET", "/orders", headers={"X-Token": "boss"})
            assert reply.json["caller"] == "boss"
            path = f"/orders/{KEY}"
            assert_problem(await server.ask("DELETE", path, headers={"X-Token": "shop"}), 403)
            assert (await server.ask("DELETE", path, headers={"X-Token": "boss"})).status == 202
            await second_factor(server)

    in_time(scenario)


async def second_factor(server: Server) -> None:
    cases: list[tuple[dict[str, str], int]] = [
        ({"X-Token": "shop", "TWO-FA": "42 and some more"}, 403),
        ({"X-Token": "boss"}, 403),
        ({"X-Token": "boss", "TWO-FA": "41"}, 403),
        ({"X-Token": "boss", "TWO-FA": "42 and some more"}, 200),
    ]
    for headers, status in cases:
        assert (await server.ask("POST", "/erase", headers=headers)).status == status


def test_metrics_are_for_those_who_watch_over_the_system_and_change_nothing(
    free_port: Ports,
) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port(), api_tokens=tuple(TOKENS)) as server:

            async def status(method: str, path: str, token: str) -> int:
                return (await server.ask(method, path, headers={"X-Token": token})).status

            statuses = [await status("GET", "/metrics", who) for who in ("shop", "watch", "boss")]
            assert statuses == [403, 200, 200]
            assert await status("GET", "/orders", "watch") == 200
            assert await status("POST", "/erase", "watch") == 403
            assert_problem(await server.ask("PUT", "/order", ORDER, {"X-Token": "watch"}), 403)

    in_time(scenario)


def test_who_only_looks_may_post_what_only_reads_and_nothing_else_that_its_path_may_be(
    free_port: Ports,
) -> None:
    """The command comes first, so that it is what is taken."""
    service = small_service()

    @command(service, "POST", "/reports/{order_id}", name="command")
    async def change(_request: Command[None]) -> Answer:
        return Answer(b"{}")

    @service.post("/{kind}/{word}", openapi_extra=ONLY_READS)
    async def read(kind: str, word: str) -> dict[str, str]:
        return {kind: word}

    async def scenario() -> None:
        async with running([service], free_port(), api_tokens=tuple(TOKENS)) as server:
            watch = {"X-Token": "watch"}
            reply = await server.ask("POST", "/words/x", headers=watch)
            assert (reply.status, reply.json) == (200, {"words": "x"})
            for path in (f"/reports/{KEY}", "/reports/x", "/orders", "/nowhere"):
                assert_problem(await server.ask("POST", path, headers=watch), 403, "forbidden")

    in_time(scenario)


@pytest.mark.parametrize("path", ["/orders", "/nowhere", "/healthz", "/openapi.json", "/docs"])
def test_no_answer_is_kept_or_taken_for_what_it_is_not(free_port: Ports, path: str) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            told = [await server.ask("GET", path), await server.ask("PUT", "/order", ORDER)]
        for reply in told:
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["cache-control"] == "no-store"

    in_time(scenario)


@pytest.mark.parametrize("path", ["/docs", "/_swagger"])
def test_the_documentation_has_a_language_and_is_read_without_a_script(
    free_port: Ports, path: str
) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            page = (await server.ask("GET", path)).body.decode()
            document = (await server.ask("GET", "/openapi.json")).json
        assert page.startswith('<!doctype html>\n<html lang="en">')
        assert '<a href="/openapi.json">' in page
        told = page.partition("<script>")[0]
        for place, methods in document["paths"].items():
            for method, operation in methods.items():
                summary = f'<b>{method.upper()}</b> <span class="free">{place}</span>'
                assert f'id="{operation["operationId"]}">\n<summary>{summary}' in told
        assert document["components"]["schemas"]
        for model in document["components"]["schemas"]:
            assert f'<h3 id="model-{model}">' in told

    in_time(scenario)


@pytest.mark.parametrize("path", ["/docs", "/_swagger"])
def test_the_documentation_runs_its_own_script_and_stands_in_no_frame(
    free_port: Ports, path: str
) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            reply = await server.ask("GET", path)
        script = reply.body.partition(b"<script>")[2].partition(b"</script>")[0]
        style = reply.body.partition(b"<style>")[2].partition(b"</style>")[0]
        script_digest, style_digest = (
            base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (script, style)
        )
        assert script
        assert set(reply.headers["content-security-policy"].split("; ")) == {
            "default-src 'none'",
            f"script-src 'sha256-{script_digest}'",
            f"style-src 'sha256-{style_digest}'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        }

    in_time(scenario)


def test_a_malformed_token_entry_refuses_to_start(free_port: Ports) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="API_TOKENS"):
            async with running([small_service()], free_port(), api_tokens=("shop",)):
                pytest.fail("it must not start")

    in_time(scenario)


def test_a_port_that_somebody_has_is_a_sentence_for_the_operator(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            with pytest.raises(ConfigurationError, match=str(server.port)):
                async with running([small_service()], server.port):
                    pytest.fail("it must not start")

    in_time(scenario)


def test_readiness_names_what_is_wrong_and_waits_for_nobody_for_ever(free_port: Ports) -> None:
    state: dict[str, str | None] = {"database": None}

    async def database() -> str | None:
        return state["database"]

    async def fine() -> str | None:
        return None

    async def hangs() -> str | None:
        await asyncio.Event().wait()
        return None

    async def fails() -> str | None:
        raise OSError(SECRET)

    async def scenario() -> None:
        app = small_service(checks={"database": database, "fine": fine})
        async with running([app], free_port()) as server:
            assert (await server.ask("GET", "/readyz")).status == 200
            state["database"] = "no answer"
            reply = await server.ask("GET", "/readyz")
            assert_problem(reply, 503, "not-ready")
            assert reply.json["errors"] == {"database": ["no answer"]}
            assert (await server.ask("GET", "/healthz")).status == 200
        broken = small_service(checks={"hangs": hangs, "fails": fails, "fine": fine})
        async with running([broken], free_port()) as server:
            reply = await server.ask("GET", "/readyz")
            assert set(reply.json["errors"]) == {"hangs", "fails"}
            assert SECRET not in reply.body.decode()

    in_time(scenario)


def test_who_has_lost_a_task_is_not_ready_and_answers_all_the_same(free_port: Ports) -> None:
    async def fails() -> None:
        raise OSError(SECRET)

    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            async with in_background(fails(), "figures"):
                reply = await server.ask("GET", "/readyz")
                assert_problem(reply, 503, "not-ready")
                sentence = "ended by a failure, see the log: figures"
                assert reply.json["errors"] == {"background": [sentence]}
                assert (await server.ask("GET", "/healthz")).status == 200
            assert (await server.ask("GET", "/readyz")).status == 200

    in_time(scenario)


def test_services_of_one_process_share_one_door(free_port: Ports) -> None:
    async def no() -> str | None:
        return "no"

    async def yes() -> str | None:
        return None

    async def scenario() -> None:
        other = small_service(title="other", checks={"database": no, "price": yes})
        other.router.routes[:] = [route for route in other.routes if route.path == "/large"]  # type: ignore[attr-defined]
        one = small_service(checks={"database": yes})
        one.router.routes[:] = [route for route in one.routes if route.path != "/large"]  # type: ignore[attr-defined]
        async with running([one, other], free_port()) as server:
            assert (await server.ask("GET", "/orders")).status == 200
            reply = await server.ask("GET", "/readyz")
            assert reply.json["errors"] == {"other.database": ["no"]}
            document = (await server.ask("GET", "/openapi.json")).json
            assert {"/order", "/orders", "/large"} <= set(document["paths"])
            assert document["info"]["title"] == "small + other"
            assert (await server.ask("GET", "/docs")).status == 200

    in_time(scenario)


def test_a_command_is_documented_with_its_body_its_answers_and_its_problems(
    free_port: Ports,
) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            document = (await server.ask("GET", "/openapi.json")).json
        put = document["paths"]["/order"]["put"]
        schema = put["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/PutOrder"}
        amount = document["components"]["schemas"]["PutOrder"]["properties"]["amount"]
        assert amount["type"] == "string"
        assert "Consistency-Token" in put["responses"]["200"]["headers"]
        every = {"400", "401", "403", "408", "413", "415", "422", "429", "431", "500", "503"}
        assert {"200", "409", *every} == set(put["responses"])
        for status, response in put["responses"].items():
            if status != "200":
                assert list(response["content"]) == ["application/problem+json"]
        assert {"name": "order_id", "in": "path"}.items() <= (
            document["paths"]["/orders/{order_id}"]["delete"]["parameters"][0].items()
        )
        assert "HTTPValidationError" not in json.dumps(document)

    in_time(scenario)


def test_requests_are_counted_by_service_route_method_and_status(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            for _ in range(3):
                await server.ask("PUT", "/order", ORDER)
            await server.ask("PUT", "/order", b"{")
            await server.ask("GET", f"/orders/{KEY}")
            await server.ask("DELETE", f"/orders/{KEY}")
            await server.ask("GET", "/orders")
            await server.ask("GET", f"/{SECRET}")
            metrics = (await server.ask("GET", "/metrics")).body.decode()

        def count(route: str, method: str, status: int, service: str = "small") -> float:
            labels = f'method="{method}",route="{route}",service="{service}",status="{status}"'
            line = next(
                one
                for one in metrics.splitlines()
                if one.startswith(f"orderly_http_requests_total{{{labels}}}")
            )
            return float(line.split()[-1])

        assert count("/order", "PUT", 200) == 3
        assert count("/order", "PUT", 422) == 1
        assert count("/orders/{order_id}", "DELETE", 202) == 1
        assert count("/orders", "GET", 200) == 1
        assert count("unknown", "GET", 404, "none") == 1
        assert "orderly_http_request_seconds_bucket" in metrics
        assert SECRET not in metrics

    in_time(scenario)


def test_answers_come_in_order_on_a_connection_that_is_used_again(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(request("PUT", "/order", ORDER) + request("GET", "/orders?size=3"))
            assert (await client.reply()).json["amount"] == "1.50"
            assert (await client.reply()).json["size"] == 3

    in_time(scenario)


def assert_problem(reply: Reply, status: int, kind: str | None = None) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = reply.json
    assert told["status"] == status
    assert told["instance"] == reply.headers["x-request-id"]
    assert told["type"].startswith("/problems/")
    assert kind is None or told["type"] == f"/problems/{kind}"
