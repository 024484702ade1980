"""Short messages by a webhook: a POST to whoever passes them on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp

from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import InDoubtError
from codebase.foundation.errors import ConfigurationError
from codebase.model.payments.alert import Alert, Channel
from codebase.services.alertman.mail import short_text
from codebase.services.alertman.sending import without_addresses

DEADLINE_SECONDS = 5.0
PRINTABLE = re.compile(r"[!-~]+", re.ASCII)


class SmsSender:
    """Asks a webhook to pass on a text; it is told an `Idempotency-Key`, and the message's id.

    Args:
        session: of this process.
        url: whom to ask.
        deadline_seconds: for the request, all of it.

    Raises:
        ConfigurationError: nobody can be asked there.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._session = session
        self._origin, self._path = parts_of(url)
        self._deadline_seconds = deadline_seconds

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        """Have it passed on.

        Raises:
            NotSentError, FailedError, InDoubtError: it is to be tried again.
        """
        name = f"{alerts[0].transaction_id}.{Channel.SMS}"
        body = {"id": name, "text": short_text(alerts)}
        target = HttpTarget(
            self._session,
            self._origin,
            lambda _: Call(method="POST", path=self._path, body=body),
        )
        try:
            async with asyncio.timeout(self._deadline_seconds):
                answer = await target.send(sent)
        except TimeoutError as error:
            raise InDoubtError(f"no answer in {self._deadline_seconds:g} s") from error
        if answer.refused is None:
            return Answer()
        return Answer(refused=without_addresses(answer.refused))


def parts_of(url: str) -> tuple[str, str]:
    """Where the server of SMS_WEBHOOK_URL is, and the rest of it, with a slash that ends it.

    Raises:
        ConfigurationError: it names none; the URL is not repeated, it may hold a secret.
    """
    try:
        parts = urlsplit(url)
        is_complete = parts.hostname is not None and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or parts.scheme not in {"http", "https"} or not PRINTABLE.fullmatch(url):
        raise ConfigurationError("SMS_WEBHOOK_URL: must be http:// or https://, with a host")
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin, url[len(origin) :].partition("#")[0]
