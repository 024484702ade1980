"""Short messages by a webhook: a POST to whoever passes them on."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.model.payments.alert import Alert, Channel
from codebase.services.alertman.alerting import alerts_of
from codebase.services.alertman.mail import short_text
from codebase.services.alertman.sending import without_addresses

DEADLINE_SECONDS = 5.0


class SmsSender:
    """Asks a webhook to pass on a text; it is told an `Idempotency-Key`, and the message's id.

    Args:
        session: of this process.
        url: whom to ask; the path is `/`, below this.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        """Have it passed on.

        Raises:
            NotSentError, FailedError, InDoubtError: it is to be tried again.
        """
        name = f"{alerts_of(sent)[0].transaction_id}.{Channel.SMS}"
        body = {"id": name, "text": short_text(alerts)}
        target = HttpTarget(
            self._session,
            self._url,
            lambda _: Call(method="POST", path="", body=body),
        )
        answer = await target.send(sent)
        if answer.refused is None:
            return Answer()
        return Answer(refused=without_addresses(answer.refused))
