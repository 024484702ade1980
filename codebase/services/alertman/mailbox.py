"""Mails as files of a folder, where there is no mail server: one file for each."""

from __future__ import annotations

import asyncio
import heapq
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from itertools import islice
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import NotSentError
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.failpoints import failpoint
from codebase.model.payments.alert import Alert, Channel
from codebase.model.refusals import NotFound
from codebase.services.alertman.mail import mail_of

SENDER, RECIPIENT = "orderly@localhost", "alerts@localhost"
SUFFIX, UNFINISHED = ".eml", ".part"
NAME = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    rf"\.{Channel.EMAIL}(?:{SUFFIX}|{UNFINISHED})",
)
"""The folder may have files of others in it, which are neither shown nor removed."""
HEAD_BYTES = 4096
"""Of a mail, which its header fits into."""
FORGET_EVERY = timedelta(hours=1)
FORGOTTEN_MAX = 1000
"""Mails that are removed because of one that is written; the next one removes more."""


class Mail(BaseModel):
    """A mail of the folder; `name` is that of its first transaction."""

    name: UUID
    subject: str
    written_at: datetime


class Mailbox:
    """Writes mails, and reads them.

    Args:
        folder: made when the first one comes.
        keep_days: after which mails are removed, when others are written.
        now: for the date of a mail, and what is old by then.
    """

    def __init__(self, folder: Path, *, keep_days: int, now: Clock = utc_now) -> None:
        self._folder = folder
        self._kept = timedelta(days=keep_days)
        self._now = now
        self._forget_at = now()

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:  # noqa: ARG002 - as every sender
        """Write a mail; what is sent twice is one file.

        Raises:
            NotSentError: it cannot be written.
        """
        mail = mail_of(alerts, SENDER, [RECIPIENT], self._now())
        file = self._file(alerts[0].transaction_id)
        try:
            failpoint("alert_before_mail")
            await asyncio.to_thread(self._write, file, mail.as_bytes())
            failpoint("alert_after_mail")
        except OSError as error:
            raise NotSentError(f"the folder of mails: {error.strerror}") from error
        return Answer()

    def _file(self, transaction_id: UUID) -> Path:
        return self._folder / f"{transaction_id}.{Channel.EMAIL}{SUFFIX}"

    def _write(self, file: Path, text: bytes) -> None:
        """All of it or nothing, and on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._forget()
        unfinished = file.with_suffix(UNFINISHED)
        with unfinished.open("wb") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        unfinished.replace(file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _forget(self) -> None:
        """Remove old mails, and what was never finished: not for each that is written."""
        now = self._now()
        if now < self._forget_at:
            return
        oldest = (now - self._kept).timestamp()
        written = self._written(SUFFIX, UNFINISHED)
        old = list(islice((file for at, file in written if at < oldest), FORGOTTEN_MAX))
        for file in old:
            Path(file).unlink(missing_ok=True)
        if len(old) < FORGOTTEN_MAX:
            self._forget_at = now + FORGET_EVERY

    def _written(self, *suffixes: str) -> Iterator[tuple[float, str]]:
        """(when, path) of each file that there is, one after the other."""
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # Whoever writes beside us may have removed it by now.
                with suppress(FileNotFoundError):
                    is_ours = NAME.fullmatch(entry.name) is not None and entry.is_file()
                    if is_ours and entry.name.endswith(suffixes):
                        yield entry.stat().st_mtime, entry.path

    async def newest(self, count: int) -> list[Mail]:
        """The last mails, newest first; of so many is more than the name read."""
        return await asyncio.to_thread(self._newest, count)

    def _newest(self, count: int) -> list[Mail]:
        found = []
        for written_at, file in heapq.nlargest(count, self._written(SUFFIX)):
            with suppress(FileNotFoundError):
                found.append(described(Path(file), written_at))
        return found

    async def read(self, transaction_id: UUID) -> str:
        """The text of a mail, as it would have gone out.

        Raises:
            NotFound: there is no such file.
        """
        try:
            return await asyncio.to_thread(self._file(transaction_id).read_text, "utf-8")
        except FileNotFoundError:
            raise NotFound("there is no such mail") from None


def described(file: Path, written_at: float) -> Mail:
    """A mail, by its head alone.

    Args:
        file: of the folder.
        written_at: in seconds since 1970.
    """
    with file.open("rb") as reading:
        head = message_from_bytes(reading.read(HEAD_BYTES), policy=policy.default)
    return Mail(
        name=UUID(file.name.partition(".")[0]),
        subject=str(head["Subject"]),
        written_at=datetime.fromtimestamp(written_at, UTC),
    )
