"""Stores parcels in lockers, and hands them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel

from codebase.engine.commands.bus import CommandBus
from codebase.foundation import needs
from codebase.web.fields import Amount, Text
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.shell import Answer, Command, command, service_app
from tests.parcels.parcel import PARCEL, StoreParcel, TakeParcel

PORT = 8901
NEEDS = needs.COMMANDS


class Wanted(RequestBody):
    locker: Text
    weight_kg: Amount


class Stored(BaseModel):
    id: UUID


def create_app(bus: CommandBus) -> FastAPI:
    app = service_app("store_parcel", checks={"write_model": bus.ready}, log=bus)

    @command(
        app,
        "POST",
        "/parcels",
        name="store_parcel",
        body=Wanted,
        answer=Stored,
        status=HTTPStatus.CREATED,
        summary="S",
    )
    async def store_parcel(request: Command[Wanted]) -> Answer:
        parcel_id = request.id_of_creation(PARCEL.category)
        storing = StoreParcel(
            parcel_id=parcel_id,
            client=request.caller.name,
            locker=request.body.locker,
            weight_kg=request.body.weight_kg,
        )
        outcome = await bus.execute(request.submission(PARCEL, parcel_id, storing, creates=True))
        return Answer.to(outcome, Stored(id=parcel_id))

    @command(
        app,
        "DELETE",
        "/parcels/{parcel_id}",
        name="take_parcel",
        status=HTTPStatus.ACCEPTED,
        summary="T",
    )
    async def take_parcel(request: Command[None]) -> Answer:
        parcel_id = request.path["parcel_id"]
        taking = TakeParcel(parcel_id=parcel_id)
        return Answer.to(await bus.execute(request.submission(PARCEL, parcel_id, taking)))

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    yield create_app(await runtime.command_bus())
