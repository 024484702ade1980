"""Opens and closes accounts; closing one removes its agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI

from codebase.engine.commands.bus import CommandBus
from codebase.foundation import needs
from codebase.model.accounts.account import ACCOUNT, OpenAccount, Region
from codebase.services.create_account.closing import close_all, closing
from codebase.views.accounts.accounts import Account
from codebase.web.fields import Boolean, Email, FromText, Text
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import (
    LOCATION,
    Answer,
    Command,
    command,
    require_admin,
    require_two_fa,
    service_app,
)

PORT = 9091
NEEDS = (*needs.COMMANDS, *needs.SECOND_FACTOR)
SEVERAL_PROCESSES = True


class PostAccount(RequestBody):
    """An account to open; its e-mail address must not be another's."""

    model_config = example(name="Blue", email="office@blue.example", region="emea", vip=True)

    name: Text
    email: Email
    region: FromText[Region]
    vip: Boolean


def create_app(bus: CommandBus) -> FastAPI:
    """The service, given a running command bus."""
    app = service_app("create_account", checks={"write_model": bus.ready}, log=bus)

    @command(
        app,
        "POST",
        "/accounts",
        name="open_account",
        body=PostAccount,
        answer=Account,
        status=HTTPStatus.CREATED,
        summary="Open an account",
        headers=LOCATION,
        problems={409: "Another account has this e-mail address."},
    )
    async def open_account(request: Command[PostAccount]) -> Answer:
        """The account belongs to the client that opens it."""
        body, account_id = request.body, request.id_of_creation(ACCOUNT.category)
        opening = OpenAccount(
            account_id=account_id,
            actor=request.actor,
            name=body.name,
            email=body.email,
            region=body.region,
            vip=body.vip,
        )
        outcome = await bus.execute(request.submission(ACCOUNT, account_id, opening, creates=True))
        return Answer.to(outcome, Account.of(outcome.state), Location=f"/accounts/{account_id}")

    @command(
        app,
        "DELETE",
        "/accounts/{account_id}",
        name="close_account",
        status=HTTPStatus.ACCEPTED,
        summary="Close an account",
        problems={204: "There is no such account."},
    )
    async def close_account(request: Command[None]) -> Answer:
        """Its agents go with it, and its e-mail address is free again."""
        outcome = await bus.execute(closing(request, request.path["account_id"]))
        return Answer.to(outcome, status=None if outcome.changed else HTTPStatus.NO_CONTENT)

    @command(
        app,
        "POST",
        "/dev/erase_db",
        name="erase_db",
        status=HTTPStatus.ACCEPTED,
        summary="Close every account",
        requires=[require_admin, require_two_fa],
    )
    async def erase_db(request: Command[None]) -> Answer:
        """Answered when all are closed; sent again, it closes what has been opened since."""
        return Answer(positions=await close_all(bus, request))

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with what it needs."""
    yield create_app(await runtime.command_bus())
