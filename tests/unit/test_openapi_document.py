"""The document of a process, where services have functions or paths in common."""

from __future__ import annotations

from typing import Any

from codebase.web.apps import service_app
from codebase.web.command_routes import command
from codebase.web.commands import Answer, Command
from codebase.web.exchange import require_admin
from codebase.web.openapi import document
from codebase.web.parked import LISTS, NAMES_ONE


def of(*paths: str, title: str) -> list[Any]:
    """The routes of a service with a function `change` for each path."""
    app = service_app(title, checks={})
    for path in paths:

        @command(app, "POST", path, name="change", requires=[require_admin])
        async def change(_request: Command[None]) -> Answer:
            """Change something."""
            return Answer()

    return list(app.routes)


def test_functions_of_one_name_are_told_apart() -> None:
    made = document("both", [*of("/a", title="one"), *of("/b", title="other")])
    names = [made["paths"][path]["post"]["operationId"] for path in ("/a", "/b")]
    assert names == ["change", "other_change"]


def test_of_two_routes_for_the_same_requests_the_one_that_is_taken_is_described() -> None:
    made = document("both", [*of("/a", title="one"), *of("/a", title="other")])
    assert made["paths"]["/a"]["post"]["tags"] == ["one"]


def test_what_is_true_of_a_kind_is_said_of_each_route_of_it() -> None:
    app = service_app("one", checks={})

    @app.get("/listed", responses=LISTS)
    async def listed() -> str:
        return ""

    @app.get("/named/{word}", responses=NAMES_ONE)
    async def named(word: str) -> str:
        return word

    @app.get("/plain")
    async def plain() -> str:
        return ""

    made = document("one", [*app.routes, *of("/command", title="one")])

    def read(path: str, method: str = "get") -> set[str]:
        operation = made["paths"][path][method]
        return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"}

    def answered(path: str, status: str, method: str = "get") -> set[str]:
        return set(made["paths"][path][method]["responses"][status]["headers"])

    waits = {"Consistency-Token", "traceparent"}
    assert read("/listed") == read("/named/{word}") == waits
    assert read("/plain") == set()
    assert read("/command", "post") == {*waits, "Idempotency-Key"}
    assert answered("/plain", "200") == {"X-Request-Id"}
    assert answered("/listed", "200") == {"X-Request-Id", "Set-Cookie", "Parked-Streams"}
    assert answered("/command", "200", "post") == {
        "X-Request-Id",
        "Set-Cookie",
        "Consistency-Token",
        "Idempotent-Replayed",
    }
    for early in ("408", "431"):
        assert answered("/plain", early) == {"X-Request-Id"}
    assert answered("/plain", "503") == {"X-Request-Id", "Retry-After"}
    assert answered("/plain", "401") == {"X-Request-Id", "WWW-Authenticate"}
    assert "administrator" in made["paths"]["/command"]["post"]["responses"]["403"]["description"]
