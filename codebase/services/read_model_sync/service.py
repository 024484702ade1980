"""Keeps the read model equal to the fold of the log, one worker per partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from codebase.infra.broker import READ_MODEL_SYNC
from codebase.infra.http import service_app
from codebase.infra.projection import Projector
from codebase.infra.projector import projector_team
from codebase.infra.runtime import Runtime
from codebase.services.read_model_sync.accounts import ACCOUNTS, AGENTS
from codebase.services.read_model_sync.buy_orders import BUY_ORDERS

PORT = 8781

PROJECTOR = Projector(name=READ_MODEL_SYNC.name, projections=(BUY_ORDERS, ACCOUNTS, AGENTS))


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Project while the app lives: told by the broker when there is one, else by the log."""
    team = projector_team(runtime.settings, PROJECTOR, READ_MODEL_SYNC)
    async with team.at_work(runtime.seconds_to_stop):
        yield service_app("read_model_sync", checks={"projector": team.problem})
