"""Mails that are files: the newest are shown, and old ones go."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from codebase.services.alertman import mailbox
from codebase.services.alertman.mailbox import Mailbox
from tests.unit.test_alert_rules import ABOUT, NOW, sent_of

ALERTS = [replace(ABOUT, transaction_id=uuid4()) for _ in range(20)]


class Clock:
    """Stands still until it is moved."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


def write(box: Mailbox, folder: Path, nth: int, at: datetime) -> UUID:
    """A mail of that moment."""
    alert = ALERTS[nth]
    asyncio.run(box.deliver(sent_of(alert), [alert]))
    touch(folder / f"{alert.transaction_id}.email.eml", at)
    return alert.transaction_id


def touch(file: Path, at: datetime) -> None:
    os.utime(file, (at.timestamp(), at.timestamp()))


def shown(box: Mailbox, count: int) -> list[UUID]:
    return [mail.name for mail in asyncio.run(box.newest(count))]


def test_a_folder_that_is_not_there_yet_has_no_mails(tmp_path: Path) -> None:
    assert shown(Mailbox(tmp_path / "none", keep_days=1), 5) == []


def test_only_the_newest_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Mailbox(tmp_path, keep_days=1, now=lambda: NOW)
    made = [write(box, tmp_path, nth, NOW + timedelta(seconds=nth)) for nth in range(10)]
    read: list[str] = []
    described = mailbox.described

    def counted(file: Path, written_at: float) -> mailbox.Mail:
        read.append(file.name)
        return described(file, written_at)

    monkeypatch.setattr(mailbox, "described", counted)
    assert shown(box, 3) == made[:-4:-1]
    assert len(read) == 3
    [mail] = asyncio.run(box.newest(1))
    assert mail.subject == "Fraud: 1 transaction of shop"
    assert mail.written_at == (NOW + timedelta(seconds=9)).astimezone(UTC)


def test_a_mail_is_shown_by_its_head_however_long_it_is(tmp_path: Path) -> None:
    file = tmp_path / f"{uuid4()}.email.eml"
    with file.open("wb") as writing:
        writing.write(b"Subject: long\n\n")
        writing.truncate(2**40)
    assert mailbox.described(file, 0.0).subject == "long"


def test_a_silenced_alert_s_retry_is_a_file_of_its_own(tmp_path: Path) -> None:
    box = Mailbox(tmp_path, keep_days=1, now=lambda: NOW)
    asyncio.run(box.deliver(sent_of(*ALERTS[:3]), ALERTS[1:3]))
    asyncio.run(box.deliver(sent_of(ALERTS[0]), ALERTS[:1]))
    assert set(shown(box, 5)) == {each.transaction_id for each in ALERTS[:2]}


def test_a_mail_is_on_the_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []
    folder, mail = tmp_path / "mails", f"{ALERTS[0].transaction_id}.email.eml"
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, (folder / mail).exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    write(Mailbox(folder, keep_days=1, now=lambda: NOW), folder, 0, NOW)
    assert synced == [(False, False), (True, True)], "the text, then the name that it is found by"


def test_files_of_others_are_no_mails(tmp_path: Path) -> None:
    box = Mailbox(tmp_path, keep_days=1, now=lambda: NOW)
    mail = write(box, tmp_path, 0, NOW)
    (tmp_path / "notes.eml").touch()
    (tmp_path / f"{uuid4()}.email.eml").mkdir()
    assert shown(box, 5) == [mail]


def test_what_is_old_goes_when_something_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    box = Mailbox(tmp_path, keep_days=2, now=clock)
    old = [write(box, tmp_path, nth, NOW - timedelta(days=2, seconds=1)) for nth in range(5)]
    young = write(box, tmp_path, 5, NOW - timedelta(days=2))
    unfinished = tmp_path / f"{uuid4()}.email.part"
    others = [tmp_path / name for name in ("of somebody else", "his mail.eml", f"{uuid4()}.eml")]
    for file in (unfinished, *others):
        file.touch()
        touch(file, NOW - timedelta(days=3))
    assert set(shown(box, 9)) == {*old, young}, "it was looked for a moment ago"

    monkeypatch.setattr(mailbox, "FORGOTTEN_MAX", 4)
    clock.now += mailbox.FORGET_EVERY - timedelta(seconds=1)
    last = write(box, tmp_path, 6, clock.now)
    assert len(shown(box, 9)) == 7
    touch(tmp_path / f"{young}.email.eml", NOW)
    clock.now += timedelta(seconds=1)
    write(box, tmp_path, 6, clock.now)
    assert len(list(tmp_path.iterdir())) == 4 + len(others), "so many at a time"
    write(box, tmp_path, 6, clock.now)
    assert set(shown(box, 9)) == {young, last}
    assert len(list(tmp_path.iterdir())) == 2 + len(others), "those of others are left alone"
