"""The way from a service of ours to another one, for what a reaction sends there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from codebase.engine.reactions.http_target import HttpTarget
from codebase.engine.reactions.posting_target import Hear, PostingTarget
from codebase.engine.reactions.reaction import Sent
from codebase.engine.reactions.service_target import ServiceCommand, ServiceTarget
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.settings import Settings
from codebase.web.auth import Authenticator
from codebase.web.problems import HttpProblem
from codebase.web.runtime import Runtime


def with_token(token: str | None) -> dict[str, str]:
    """The headers that tell who asks."""
    return {"X-Token": token} if token else {}


@asynccontextmanager
async def way_to(
    name: str,
    url: str,
    runtime: Runtime,
    command: Callable[[Sent], ServiceCommand],
    *,
    sender: str,
    hear: Hear,
) -> AsyncIterator[ServiceTarget]:
    """By message where there is a broker, otherwise by HTTP, with the token of SERVICE_TOKEN.

    Args:
        name: of the service.
        url: its address.
        runtime: of the sender's process.
        command: what was sent -> the command that it stands for.
        sender: names the queue of outcomes that come by message.
        hear: what is done with one.
    """
    settings = runtime.settings
    if settings.broker_url:
        posting = PostingTarget(
            settings.broker_url,
            sender,
            lambda sent: command(sent).message,
            hear,
            body_limit_bytes=settings.body_limit_bytes,
        )
        async with posting.at_work(runtime.seconds_to_stop):
            yield ServiceTarget(posting, command)
        return
    session, headers = await runtime.http_session(), with_token(settings.service_token)
    http = HttpTarget(session, url, lambda sent: command(sent).call, headers=headers)
    yield ServiceTarget(http, command, name)


def require_admin_token(settings: Settings, service: str, why: str) -> None:
    """Without a broker and with tokens, a service that commands others for everybody is an admin.

    A client would be told that what is others' does not exist, and so would whoever asked.

    Raises:
        ConfigurationError: SERVICE_TOKEN is not that of an administrator.
    """
    if settings.broker_url or not settings.api_tokens:
        return
    sent = {b"x-token": (settings.service_token or "").encode()}
    try:
        Authenticator(settings.api_tokens).caller(sent, "here").require_admin()
    except HttpProblem:
        raise ConfigurationError(
            f"SERVICE_TOKEN: without BROKER_URL {service} needs the token of an API_TOKENS entry"
            f" with the role admin, {why}"
        ) from None
