"""Every aggregate there is."""

from __future__ import annotations

from typing import Any

from codebase.model.accounts.account import ACCOUNT
from codebase.model.accounts.agent import AGENT
from codebase.model.aggregate import Aggregate
from codebase.model.buy_orders.buy_order import BUY_ORDER

AGGREGATES: tuple[Aggregate[Any, Any, Any], ...] = (BUY_ORDER, ACCOUNT, AGENT)
