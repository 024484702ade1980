"""Headers that must not be taken in two ways: given twice, or at odds with each other.

What reads one value of two and what guards the other would disagree about what was asked: a proxy
and this service, or two places in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from codebase.web.problems import HttpProblem

GIVEN_ONCE: Mapping[bytes, str] = {
    name.lower().encode(): name
    for name in (
        "Host",
        "Authorization",
        "X-Token",
        "TWO-FA",
        "Idempotency-Key",
        "Content-Type",
        "Content-Length",
        "Content-Encoding",
        "Consistency-Token",
        "If-Match",
        "Origin",
        "Sec-Fetch-Site",
        "traceparent",
        "Last-Event-ID",
        "X-User-Id",
    )
}


def require_unambiguous(
    version: str, sent: Sequence[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]
) -> None:
    """Go on only with headers that everybody reads in the same way.

    Args:
        version: of HTTP.
        sent: every header, names in lower case.
        headers: the last value of each name.

    Raises:
        HttpProblem: 400, naming the header.
    """
    if len(headers) != len(sent):
        _require_given_once(sent)
    if b"x-token" in headers and b"authorization" in headers:
        raise bad_header("X-Token", "must not be given beside Authorization")
    # RFC 9112, 3.2. Older versions know no such header.
    if b"host" not in headers and version == "1.1":
        raise bad_header("Host", "must be given")


def bad_header(name: str, what: str) -> HttpProblem:
    """The answer to a header that cannot be read in one way only."""
    return HttpProblem(
        HTTPStatus.BAD_REQUEST, "bad-header", f"header {name} {what}", errors={name: [what]}
    )


def _require_given_once(sent: Sequence[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in sent:
        if name in seen and name in GIVEN_ONCE:
            raise bad_header(GIVEN_ONCE[name], "may be given once")
        seen.add(name)
