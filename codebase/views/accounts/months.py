"""The month that a page or a list of use is asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query

from codebase.model.accounts.usage import MONTH, Month

ChosenMonth = Annotated[
    str | None,
    Query(
        alias="month",
        pattern=f"^{MONTH.pattern}$",
        description="YYYY-MM, else the running one",
        examples=["2026-11"],
    ),
]


def chosen_month(text: str | None, now: datetime) -> Month:
    """The month that `text` names, else the one that is running at the moment `now`."""
    return Month.parse(text) if text else Month.of(now)
