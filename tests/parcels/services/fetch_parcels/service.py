"""Shows parcels, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request

from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.pages import SIZE_DEFAULT, Size
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app
from tests.parcels.view import PAGE_ARGUMENTS, PAGES

PORT = 8902
NEEDS = needs.QUERIES


def create_app(reads: ConsistentReads) -> FastAPI:
    app = service_app("fetch_parcels", checks={"read_model": reads.ready})
    pages = reads.query(PAGES, PAGE_ARGUMENTS)

    @app.get("/parcels")
    async def get_parcels(
        request: Request, last_reference: UUID | None = None, size: Size = SIZE_DEFAULT
    ) -> dict[str, Any]:
        rows = await reads.fetch(request, pages, last_reference, size)
        items = [
            {"id": str(parcel_id), "locker": locker, "weight_kg": weight, "is_taken": is_taken}
            for parcel_id, locker, weight, is_taken in rows
        ]
        return {"items": items, "last_reference": items[-1]["id"] if items else None, "size": size}

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    async with ConsistentReads.open(runtime.settings, READ_MODEL) as reads:
        yield create_app(reads)
