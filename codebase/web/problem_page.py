"""What goes wrong, as a page: for people, who ask with a browser. Programs get problem details."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from fastapi.responses import HTMLResponse

from codebase.web.auth import SAFE_METHODS
from codebase.web.problems import MEDIA_TYPE, HttpProblem
from codebase.web.request_body import FORM_TYPE

if TYPE_CHECKING:
    from codebase.web.html import Pages

HTML = "text/html"
JSON = ("application/json", MEDIA_TYPE)
QUALITY = re.compile(r";\s*q=(0(?:\.\d*)?)\s*(?:;|$)", re.IGNORECASE)
"""Less than one; of anything else RFC 9110 (12.4.2) makes one."""


def prefers_page(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether this is a browser that opened an address or sent a form.

    It names HTML in `Accept`, and names JSON less or not at all. Programs say `*/*`, or nothing;
    some say by themselves that they would take HTML as well, and yet send JSON.

    Args:
        method: of the request.
        headers: of the request, names in lower case.
    """
    if method not in SAFE_METHODS and not headers.get(b"content-type", b"").startswith(
        FORM_TYPE.encode()
    ):
        return False
    weights = _weights(headers.get(b"accept", b"").decode("latin-1"))
    return weights.get(HTML, 0) > max(weights.get(kind, 0) for kind in JSON)


def problem_page(
    problem: HttpProblem, request_id: str, *, is_repeatable: bool, has_front_page: bool
) -> HTMLResponse:
    """The page; its status is the problem's.

    Args:
        problem: what went wrong.
        request_id: under which the logs know it.
        is_repeatable: whether the same can be asked again by opening the address.
        has_front_page: whether the service has a page at `/`.
    """
    text = _pages().render(
        "problem.html",
        links=[],
        problem=problem,
        request_id=request_id,
        retry_after=problem.headers.get("Retry-After") if is_repeatable else None,
        has_front_page=has_front_page,
    )
    return HTMLResponse(text, problem.status, {**_pages().headers, **problem.headers})


@cache
def _pages() -> Pages:
    # Most services never have to show a page, and do without templates.
    from codebase.web.html import Pages  # noqa: PLC0415

    return Pages("codebase.web")


def _weights(accept: str) -> dict[str, float]:
    """What an `Accept` header names, and how much each is wanted, from 0 to 1."""
    weights = {}
    for one in accept.split(","):
        found = QUALITY.search(one)
        weights[one.partition(";")[0].strip().lower()] = float(found[1]) if found else 1.0
    return weights
