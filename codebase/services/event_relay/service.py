"""Publishes the event log to the broker, in order, one relay per partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from codebase.engine.messages.relay import relay_team
from codebase.foundation import needs
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app

PORT = 8780
NEEDS = (*needs.RELAY, *needs.BROKER)


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Relay while the app lives; without a broker there is nothing to do, and that is fine."""
    team = relay_team(runtime.settings)
    async with team.at_work(runtime.seconds_to_stop):
        yield service_app("event_relay", checks={"relay": team.problem})
