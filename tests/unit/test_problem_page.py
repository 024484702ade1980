"""Who is shown a page when something goes wrong, and what it says."""

from __future__ import annotations

import pytest

from codebase.web.problem_page import prefers_page, problem_page
from codebase.web.problems import HttpProblem

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"

PEOPLE = {
    "Chromium": CHROMIUM,
    "Firefox": FIREFOX,
    "a text browser": "text/html, text/*;q=0.5, image/*",
    "someone who would take JSON as well": "application/json;q=0.5, TEXT/HTML ; level=1",
    "someone whose weight is no number": "text/html;q=high",
}
PROGRAMS = {
    "one that says nothing": None,
    "curl": "*/*",
    "one that asks for JSON": "application/json",
    "one that asks for problems": "application/problem+json",
    "axios": "application/json, text/plain, */*",
    "one that takes both alike": "text/html, application/json",
    "one that would rather not": "text/html;q=0.1, application/problem+json;q=0.2",
    "one that takes no HTML": "text/html;q=0, */*",
    "one that takes any text": "text/*",
    "a scraper of metrics": "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
}


def headers(accept: str | None, content_type: str | None = None) -> dict[bytes, bytes]:
    named = {b"accept": accept, b"content-type": content_type}
    return {name: value.encode() for name, value in named.items() if value is not None}


@pytest.mark.parametrize("accept", PEOPLE.values(), ids=PEOPLE.keys())
def test_people_are_shown_a_page(accept: str) -> None:
    assert prefers_page("GET", headers(accept))
    assert prefers_page("HEAD", headers(accept))
    assert prefers_page("POST", headers(accept, FORM))


@pytest.mark.parametrize("accept", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_programs_get_problem_details(accept: str | None) -> None:
    assert not prefers_page("GET", headers(accept))
    assert not prefers_page("POST", headers(accept, FORM))


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_whoever_sends_json_is_a_program_whatever_its_library_says(method: str) -> None:
    java = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
    assert not prefers_page(method, headers(java, "application/json"))
    assert not prefers_page(method, headers(java))


def shown(problem: HttpProblem, *, is_repeatable: bool = True, has_front_page: bool = True) -> str:
    page = problem_page(
        problem, "the-request", is_repeatable=is_repeatable, has_front_page=has_front_page
    )
    assert page.status_code == problem.status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha")
    assert page.headers.get("retry-after") == problem.headers.get("Retry-After")
    return bytes(page.body).decode()


def test_a_page_says_what_a_problem_says() -> None:
    nasty = HttpProblem(422, "invalid-input", "no <b>", errors={"<i>": ["is <u>", "and no more"]})
    text = shown(nasty)
    for part in ("<h1>Invalid input</h1>", "no &lt;b&gt;.", "&lt;i&gt;", "is &lt;u&gt;; and no"):
        assert part in text
    assert "Status 422" in text
    assert "the-request" in text
    assert "trying again" not in text


def test_a_page_leads_to_what_there_is() -> None:
    nothing = HttpProblem(404, "not-found", "Not Found")
    assert "there is nothing at this address." in shown(nothing)
    assert '<a href="/">' in shown(nothing)
    elsewhere = shown(nothing, has_front_page=False)
    assert '<a href="/docs">' in elsewhere
    assert '<a href="/">' not in elsewhere


def test_what_was_sent_is_not_tried_again_by_a_link() -> None:
    away = HttpProblem(503, "unavailable", "away", headers={"Retry-After": "7"})
    assert '<a href="">trying again</a> in 7 s' in shown(away)
    assert "trying again" not in shown(away, is_repeatable=False)
