"""Keeps the read model equal to the fold of the log, one worker per partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from codebase.engine.projections.projector import projector_team
from codebase.engine.projections.read_model import read_model
from codebase.foundation import needs
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app

PORT = 8781
NEEDS = (*needs.PROJECTOR, *needs.BROKER)


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Project while the app lives: told by the broker when there is one, else by the log."""
    views = (each for context in runtime.contexts for each in context.projections)
    team = projector_team(runtime.settings, read_model(views))
    async with team.at_work(runtime.seconds_to_stop):
        yield service_app("read_model_sync", checks={"projector": team.problem})
