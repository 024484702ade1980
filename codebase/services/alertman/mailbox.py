"""Mails as files of a folder, where there is no mail server: one file for each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import NotSentError
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.failpoints import failpoint
from codebase.model.payments.alert import Alert, Channel
from codebase.model.refusals import NotFound
from codebase.services.alertman.alerting import alerts_of
from codebase.services.alertman.mail import mail_of

SENDER, RECIPIENT = "orderly@localhost", "alerts@localhost"


class Mail(BaseModel):
    """A mail of the folder; `name` is that of its first transaction."""

    name: UUID
    subject: str
    written_at: datetime


class Mailbox:
    """Writes mails, and reads them.

    Args:
        folder: made when the first one comes.
        now: for the date of a mail.
    """

    def __init__(self, folder: Path, now: Clock = utc_now) -> None:
        self._folder = folder
        self._now = now

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:
        """Write a mail; what is sent twice is one file.

        Raises:
            NotSentError: it cannot be written.
        """
        first = alerts_of(sent)[0]
        mail = mail_of(alerts, first, SENDER, [RECIPIENT], self._now())
        try:
            failpoint("alert_before_mail")
            await asyncio.to_thread(self._write, self._file(first.transaction_id), mail.as_bytes())
            failpoint("alert_after_mail")
        except OSError as error:
            raise NotSentError(f"the folder of mails: {error.strerror}") from error
        return Answer()

    def _file(self, transaction_id: UUID) -> Path:
        return self._folder / f"{transaction_id}.{Channel.EMAIL}.eml"

    def _write(self, file: Path, text: bytes) -> None:
        """All of it or nothing, and on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        with unfinished.open("wb") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        unfinished.replace(file)

    async def newest(self, count: int) -> list[Mail]:
        """The last mails, newest first."""
        return await asyncio.to_thread(self._newest, count)

    def _newest(self, count: int) -> list[Mail]:
        found = {file: file.stat().st_mtime for file in self._folder.glob("*.eml")}
        return [
            self._described(file, found[file])
            for file in sorted(found, key=lambda each: found[each], reverse=True)[:count]
        ]

    def _described(self, file: Path, written_at: float) -> Mail:
        head = message_from_bytes(file.read_bytes(), policy=policy.default)
        return Mail(
            name=UUID(file.name.partition(".")[0]),
            subject=str(head["Subject"]),
            written_at=datetime.fromtimestamp(written_at, UTC),
        )

    async def read(self, transaction_id: UUID) -> str:
        """The text of a mail, as it would have gone out.

        Raises:
            NotFound: there is no such file.
        """
        try:
            return await asyncio.to_thread(self._file(transaction_id).read_text, "utf-8")
        except FileNotFoundError:
            raise NotFound("there is no such mail") from None
