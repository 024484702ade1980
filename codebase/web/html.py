"""HTML pages: templates, headers, and the one style that they share; nothing foreign.

A service keeps its templates beside its service.py and extends `base.html` (see
templates/base.html for what a page may fill in, templates/parts.html for tables' and charts'
macros):

    PAGES = Pages("codebase.services.billing")
    ...
    links = links_to(TEAMS, settings, "Billing")
    return PAGES.answer("page.html", caller_of(request), links=links, invoices=invoices)

A table of class `rows` turns its rows into cards where columns do not fit. There a cell says by
`data-label` what its column is called; one of class `wide` has a line for itself, and so has one of
class `free`, for texts that people wrote, which may be broken anywhere.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from codebase.foundation.settings import Settings
from codebase.web.auth import Caller
from codebase.web.personal import shown_to

EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link in a page's header; `is_here` marks the page that is shown."""

    title: str
    address: str
    is_here: bool


class Pages:
    """The templates of one service, and of everybody.

    Args:
        package: of the service; its templates lie beside its modules.
    """

    def __init__(self, package: str) -> None:
        shared = PackageLoader("codebase.web")
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader(package, ""), shared]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.style = shared.get_source(self._environment, "style.css")[0].strip()
        """The text of every page's one `<style>`."""
        self._environment.globals["style"] = Markup(self.style)  # noqa: S704 - a file of ours
        self._environment.filters |= {"moment": moment, "grouped": grouped, "money": money}
        self.headers = security_headers(self.style)
        """Of every page."""

    def render(self, template: str, **values: object) -> str:
        """The text of a page; `values` are escaped, and one that is missing is an error."""
        return self._environment.get_template(template).render(**values)

    def answer(
        self, template: str, caller: Caller, *, status: int = 200, **values: object
    ) -> HTMLResponse:
        """A page, with what its caller may see, that no cache keeps and that loads nothing."""
        shown = {name: shown_to(caller, value) for name, value in values.items()}
        return HTMLResponse(self.render(template, **shown), status, self.headers)


def security_headers(style: str, script: str | None = None) -> dict[str, str]:
    """Nothing but this very style sheet is let in, whatever a page is made to contain.

    Args:
        style: the text of the page's one `<style>`.
        script: the text of its one `<script>`, if any, which may ask the page's own service.
    """
    asking = [f"script-src {_source(script)}", "connect-src 'self'"] if script else []
    policy = (
        "default-src 'none'",
        f"style-src {_source(style)}",
        *asking,
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        # With no-referrer a browser would not say either where a form comes from: see
        # web/auth.py's require_same_origin.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def links_to(pages: Iterable[tuple[str, int]], settings: Settings, title: str) -> list[Link]:
    """Pages that belong together, as far as their addresses are known: in the embedded run.

    Args:
        pages: titles, and ports in the embedded run.
        settings: whether this is one, and what its ports are shifted by.
        title: of the page that is shown.
    """
    if not settings.development:
        return []
    host = "127.0.0.1" if settings.listen_address in EVERYWHERE else settings.listen_address
    host = f"[{host}]" if ":" in host else host
    return [
        Link(
            title=page,
            address=f"http://{host}:{port + settings.port_offset}/",
            is_here=page == title,
        )
        for page, port in pages
    ]


def moment(value: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC"


def grouped(value: Decimal | int) -> str:
    """A number with its digits in groups of three, with the decimals that it has."""
    return f"{value:,}"


def money(value: Decimal | int) -> str:
    """An amount with its digits in groups of three, and two decimals."""
    return f"{value:,.2f}"
