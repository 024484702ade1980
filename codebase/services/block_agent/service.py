"""Blocks and unblocks agents, by HTTP and by message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI

from codebase.engine.commands.bus import CommandBus
from codebase.engine.messages.command_message import Became
from codebase.engine.messages.command_taker import CommandTaker
from codebase.foundation import needs
from codebase.model.accounts.agent import AGENT, BlockAgent, UnblockAgent
from codebase.services.block_agent.messages import BODIES, QUEUE, READERS, TOPICS, Reason
from codebase.web.runtime import Runtime
from codebase.web.shell import Answer, Command, command, service_app

PORT = 9093
NEEDS = (*needs.COMMANDS, *needs.BROKER)
SEVERAL_PROCESSES = True
"""Of those that take commands by message one is at it, and another when that has gone."""
MESSAGES = BODIES
OUTCOME = {
    "Outcome": {
        "description": "Whether the agent is now what it was not before.",
        "required": True,
        "schema": {"type": "string", "enum": [Became.DONE.value, Became.UNCHANGED.value]},
    }
}


def create_app(bus: CommandBus) -> FastAPI:
    """The service, given a running command bus."""
    app = service_app("block_agent", checks={"write_model": bus.ready}, log=bus)

    @command(
        app,
        "POST",
        "/agents/block_agent/{agent_id}",
        name="block_agent",
        body=Reason,
        body_is_optional=True,
        status=HTTPStatus.ACCEPTED,
        summary="Block an agent",
        problems={404: "There is no such agent."},
        headers=OUTCOME,
    )
    async def block_agent(request: Command[Reason]) -> Answer:
        """The agent may not work, and costs nothing, until it is unblocked.

        Header `Outcome` says `done`, or `unchanged` when it was blocked already.
        """
        return await change(request, BlockAgent)

    @command(
        app,
        "POST",
        "/agents/unblock_agent/{agent_id}",
        name="unblock_agent",
        body=Reason,
        body_is_optional=True,
        status=HTTPStatus.ACCEPTED,
        summary="Unblock an agent",
        problems={404: "There is no such agent."},
        headers=OUTCOME,
    )
    async def unblock_agent(request: Command[Reason]) -> Answer:
        """The agent works again; header `Outcome` says `done`, or `unchanged` when it did."""
        return await change(request, UnblockAgent)

    async def change(request: Command[Reason], kind: type[BlockAgent | UnblockAgent]) -> Answer:
        agent_id = request.path["agent_id"]
        wanted = kind(agent_id=agent_id, actor=request.actor, reason=request.body.reason)
        outcome = await bus.execute(request.submission(AGENT, agent_id, wanted))
        return Answer.to(outcome, Outcome=Became.DONE if outcome.changed else Became.UNCHANGED)

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service; without a broker it takes commands by HTTP only, and is ready all the same."""
    bus, settings = await runtime.command_bus(), runtime.settings
    app = create_app(bus)
    if settings.broker_url is None:
        yield app
        return
    queue = CommandTaker(QUEUE, TOPICS, READERS, bus, settings)
    async with queue.at_work(runtime.seconds_to_stop):
        yield app
