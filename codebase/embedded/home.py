"""The folder of an embedded run: one run at a time, and files that only its owner can read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from codebase.embedded.errors import HomeInUseError, Stopped
from codebase.embedded.guardian import is_zombie

PREVIOUS_RUN_SECONDS = 20.0
"""Longer than a guardian takes with all that a killed run has left: see `Program`s' patience."""
_POLL_SECONDS = 0.02


@contextlib.contextmanager
def locked(home: Path, stopping: threading.Event) -> Iterator[int]:
    """Hold the home's lock; yields its file descriptor, for the guardian to hold as well.

    The lock belongs to the open file, so it is free only when both have closed it: a run that was
    killed keeps the next one out until the guardian has ended what it left.

    Raises:
        HomeInUseError: another run is alive, or its remains do not end.
        Stopped: `stopping` was set while we waited for those remains.
    """
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(lock, home, stopping)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _acquire(lock: int, home: Path, stopping: threading.Event) -> None:
    deadline = time.monotonic() + PREVIOUS_RUN_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = int(os.pread(lock, 20, 0) or b"0")
        if _is_running(holder) or time.monotonic() > deadline:
            raise HomeInUseError(
                f"already running on {home} (process {holder}); stop it, or set ORDERLY_HOME and "
                "PORT_OFFSET to run a second one beside it"
            )
        # A blocking flock has no deadline, and its owner, a guardian, ends in a few seconds.
        if stopping.wait(_POLL_SECONDS):
            raise Stopped


def _is_running(process_id: int) -> bool:
    if process_id <= 0:
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not is_zombie(process_id)


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)


def write_environment(home: Path, values: Mapping[str, str]) -> None:
    """Write the file `environment`, by which the `orderly` command finds a run's databases."""
    write_private(home / "environment", "".join(f"{k}={v}\n" for k, v in values.items()))


def read_environment(home: Path) -> dict[str, str]:
    """What `write_environment` wrote last; empty where there was no embedded run."""
    file = home / "environment"
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def known_passwords(home: Path) -> dict[tuple[str, str], str]:
    """The passwords, by database and role, that an earlier start wrote into `environment`."""
    known = {}
    for value in read_environment(home).values():
        url = urlsplit(value)
        if url.scheme == "postgresql" and url.username and url.password:
            known[url.path.removeprefix("/"), url.username] = url.password
    return known
