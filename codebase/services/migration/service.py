"""Migrates both stores once, then says so: the gate that everything with a schema waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from fastapi import FastAPI
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from codebase.infra.http import service_app
from codebase.infra.migrate import migrate
from codebase.infra.runtime import Runtime

PORT = 8782
PATIENCE_SECONDS = 60

# A store that is still starting refuses connections for a while.
patiently = retry(
    retry=retry_if_exception_type(psycopg.OperationalError),
    wait=wait_exponential_jitter(initial=0.1, max=2),
    stop=stop_after_delay(PATIENCE_SECONDS),
    reraise=True,
)


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Nothing answers on this service's port before both stores are migrated."""
    await asyncio.to_thread(patiently(migrate), runtime.settings)
    yield service_app("migration", checks={})
