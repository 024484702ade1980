"""Keeps the read model equal to the fold of the log, one worker per partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from codebase.engine.messages.broker import READ_MODEL_SYNC
from codebase.engine.projections.projection import Projector
from codebase.engine.projections.projector import projector_team
from codebase.views.accounts.projections import ACCOUNTS, AGENTS
from codebase.views.buy_orders.projections import BUY_ORDERS
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app

PORT = 8781

PROJECTOR = Projector(name=READ_MODEL_SYNC.name, projections=(BUY_ORDERS, ACCOUNTS, AGENTS))


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Project while the app lives: told by the broker when there is one, else by the log."""
    team = projector_team(runtime.settings, PROJECTOR, READ_MODEL_SYNC)
    async with team.at_work(runtime.seconds_to_stop):
        yield service_app("read_model_sync", checks={"projector": team.problem})
