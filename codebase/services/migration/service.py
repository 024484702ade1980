"""Migrates both stores once, then says so: the gate that everything with a schema waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
from fastapi import FastAPI
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from codebase.engine.context import Context
from codebase.foundation.settings import STORES, Settings
from codebase.operations.migrate import migrate
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app

PORT = 8782
NEEDS = STORES
PATIENCE_SECONDS = 60


# A store that is still starting refuses connections for a while. Between two attempts nothing
# holds up a stop.
@retry(
    retry=retry_if_exception_type(psycopg.OperationalError),
    wait=wait_exponential_jitter(multiplier=0.1, max=2),
    stop=stop_after_delay(PATIENCE_SECONDS),
    reraise=True,
)
async def migrate_patiently(settings: Settings, contexts: Sequence[Context]) -> None:
    """Migrate both stores as soon as they can be reached."""
    await asyncio.to_thread(migrate, settings, contexts)


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Nothing answers on this service's port before both stores are migrated."""
    await migrate_patiently(runtime.settings, runtime.contexts)
    yield service_app("migration", checks={})
