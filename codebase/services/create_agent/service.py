"""Creates agents for accounts, and removes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Given
from codebase.foundation import needs
from codebase.model.accounts.account import ACCOUNT, Account
from codebase.model.accounts.agent import AGENT, CreateAgent, RemoveAgent
from codebase.views.accounts.agents import Agent
from codebase.web.fields import Email, Text
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import LOCATION, Answer, Command, command, service_app

PORT = 9092
NEEDS = needs.COMMANDS
SEVERAL_PROCESSES = True


class PostAgent(RequestBody):
    """An agent to create; its e-mail address must not be another's."""

    model_config = example(name="Bo Lind", email="bo.lind@blue.example")

    name: Text
    email: Email


def create_app(bus: CommandBus) -> FastAPI:
    """The service, given a running command bus."""
    app = service_app("create_agent", checks={"write_model": bus.ready}, log=bus)

    @command(
        app,
        "POST",
        "/accounts/{account_id}/agents",
        name="create_agent",
        body=PostAgent,
        answer=Agent,
        status=HTTPStatus.CREATED,
        summary="Create an agent",
        headers=LOCATION,
        problems={404: "There is no such account.", 409: "Another agent has this e-mail address."},
    )
    async def create_agent(request: Command[PostAgent]) -> Answer:
        """The agent works for the account at once."""
        account_id, agent_id = request.path["account_id"], request.id_of_creation(AGENT.category)

        def creation(account: Account | None) -> CreateAgent:
            return CreateAgent(
                agent_id=agent_id,
                account_id=account_id,
                account=account,
                actor=request.actor,
                name=request.body.name,
                email=request.body.email,
            )

        given = Given(ACCOUNT, account_id)
        outcome = await bus.execute(
            request.submission(AGENT, agent_id, creation, creates=True, given=given)
        )
        location = f"/accounts/{account_id}/agents/{agent_id}"
        return Answer.to(outcome, Agent.of(outcome.state), Location=location)

    @command(
        app,
        "DELETE",
        "/accounts/{account_id}/agents/{agent_id}",
        name="remove_agent",
        status=HTTPStatus.ACCEPTED,
        summary="Remove an agent",
        problems={204: "There is no such agent.", 409: "The agent works for another account."},
    )
    async def remove_agent(request: Command[None]) -> Answer:
        """Its e-mail address is free again."""
        removal = RemoveAgent(account_id=request.path["account_id"], actor=request.actor)
        outcome = await bus.execute(request.submission(AGENT, request.path["agent_id"], removal))
        return Answer.to(outcome, status=None if outcome.changed else HTTPStatus.NO_CONTENT)

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with what it needs."""
    yield create_app(await runtime.command_bus())
