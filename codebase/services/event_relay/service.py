"""Publishes the event log to the broker, in order, one relay per partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from codebase.engine.messages.broker import READ_MODEL_SYNC
from codebase.engine.messages.relay import relay_team
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app

PORT = 8780

# Their queues are declared before the first event is published, so that none of them misses it.
SUBSCRIPTIONS = (READ_MODEL_SYNC,)


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """Relay while the app lives; without a broker there is nothing to do, and that is fine."""
    team = relay_team(runtime.settings, SUBSCRIPTIONS)
    async with team.at_work(runtime.seconds_to_stop):
        yield service_app("event_relay", checks={"relay": team.problem})
