"""Every aggregate there is."""

from __future__ import annotations

from typing import Any

from codebase.model.account import ACCOUNT
from codebase.model.agent import AGENT
from codebase.model.aggregate import Aggregate
from codebase.model.buy_order import BUY_ORDER

AGGREGATES: tuple[Aggregate[Any, Any, Any], ...] = (BUY_ORDER, ACCOUNT, AGENT)
