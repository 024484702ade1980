"""What requests for transactions have in common."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from codebase.views.payments.fields import ShownStatus

OnlyStatus = Annotated[ShownStatus | None, Query(description="Only those that stand so.")]
