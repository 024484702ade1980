"""A Postgres server of our own: initialised, started, made ready for its owner."""

from __future__ import annotations

import locale
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from urllib.parse import quote

import psycopg

from codebase.embedded.errors import ServerError
from codebase.embedded.home import write_private
from codebase.embedded.keeper import SERVER_STAGE, Account, Program
from codebase.embedded.postgres_programs import PostgresBinaries, data_version, run_as
from codebase.foundation import rights
from codebase.foundation.rights import Login

SUPERUSER = "postgres"
START_DEADLINE_SECONDS = 60.0
"""Crash recovery after kill -9 may replay a few gigabytes of log."""
_CONNECT_DEADLINE_SECONDS = 3
_POLL_SECONDS = 0.02

SMALLEST_BUFFERS_MB, LARGEST_BUFFERS_MB = 128, 1024


def buffers_megabytes(memory_bytes: int) -> int:
    """How much memory one of our clusters keeps pages in, on a machine with so much: a sixteenth.

    Streams and keys are random, so that an append touches random pages of two indexes: as long as
    these fit, a long log costs what a short one does. What no page is in takes no memory.
    """
    megabytes = memory_bytes // 2**20 // 16
    return min(max(megabytes, SMALLEST_BUFFERS_MB), LARGEST_BUFFERS_MB)


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


_PRIVATE_SERVER: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # A socket's path may not exceed about 100 bytes, and a home may be deeper than that.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": f"{buffers_megabytes(_machine_memory_bytes())}MB",
    "max_connections": "100",
    # Compressing the first image of each page after a checkpoint costs an append more than writing
    # it does: streams have random ids, so that nearly every append is the first to touch its pages.
    "wal_compression": "off",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    # Our queries are short; compiling one costs more than it can win.
    "jit": "off",
    # A server's error messages quote keys, JSON and parameters, which may be somebody's address.
    # Our processes report their own failures, masked; the server reports only its own state.
    # In this list "log" is more severe than "error".
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}

WRITE_MODEL_SETTINGS: Mapping[str, str] = {
    **_PRIVATE_SERVER,
    # An acknowledged command is on the disk: these three are the first promise of the system.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_wal_size": "4GB",
}

READ_MODEL_SETTINGS: Mapping[str, str] = {
    **_PRIVATE_SERVER,
    "fsync": "on",
    "full_page_writes": "on",
    # A crash may lose the last moments of the read model, but never a part of a transaction: rows
    # and checkpoint go back together, and what came after the checkpoint is read again from the
    # log.
    "synchronous_commit": "off",
    "max_wal_size": "2GB",
}

DISPOSABLE_SETTINGS: Mapping[str, str] = {
    **_PRIVATE_SERVER,
    # For tests: the data does not outlive the server, so nothing has to reach the disk.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "1GB",
    "shared_buffers": f"{SMALLEST_BUFFERS_MB}MB",
    "max_connections": "200",
}


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """One private cluster: `folder/data` and the superuser's password beside it.

    It listens on loopback TCP only. `account` must be able to enter `folder`.
    """

    name: str
    folder: Path
    port: int
    binaries: PostgresBinaries
    account: Account | None
    settings: Mapping[str, str] = field(default_factory=lambda: WRITE_MODEL_SETTINGS)

    @property
    def data_folder(self) -> Path:
        """The cluster's PGDATA."""
        return self.folder / "data"

    def prepare(self) -> None:
        """Initialise the cluster when it does not exist yet.

        Raises:
            ServerError: initdb failed, or the data belongs to another major version.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.data_folder.exists():
            self._initialise()
        made_by = data_version(self.folder)
        if made_by != self.binaries.major:
            raise ServerError(
                f"{self.data_folder} was made by PostgreSQL {made_by}, and "
                f"{self.binaries.folder} holds {self.binaries.major}: "
                f"set POSTGRES_BIN to the programs of version {made_by}"
            )

    def _initialise(self) -> None:
        """Run initdb beside the final place and move its result there.

        A run that is killed half-way leaves nothing that looks like a cluster.
        """
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password = secrets.token_hex(24)
        write_private(self.folder / "superuser_password", password)
        with tempfile.NamedTemporaryFile("w", prefix="orderly-", encoding="ascii") as password_file:
            password_file.write(password)
            password_file.flush()
            if self.account is not None:
                os.chown(password_file.name, self.account.user_id, self.account.group_id)
                os.chown(unfinished, self.account.user_id, self.account.group_id)
            command: list[str | Path] = [
                self.binaries.folder / "initdb",
                *("--pgdata", unfinished, "--username", SUPERUSER, "--encoding", "UTF8"),
                *("--pwfile", password_file.name, "--auth", "scram-sha-256"),
                # Bytes order text: the same on every machine, and an index can serve a prefix.
                *("--locale", "C", "--lc-ctype", _character_type()),
            ]
            answer = run_as(self.account, command)
        if answer.returncode != 0:
            raise ServerError(f"initdb failed: {answer.stdout.decode(errors='replace')[-2000:]}")
        unfinished.rename(self.data_folder)

    def program(self) -> Program:
        """The server process, to be started by a `Keeper`."""
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        return Program(
            name=self.name,
            command=[
                self.binaries.folder / "postgres",
                *("-D", self.data_folder, f"--port={self.port}"),
                *options,
            ],
            environment={"PATH": os.defpath, "LC_MESSAGES": "C"},
            account=self.account,
            # Fast shutdown: cuts clients off, writes a checkpoint, ends in well under a second.
            stop_signal=SIGINT,
            patience_seconds=6,
            stage=SERVER_STAGE,
        )

    def wait_until_ready(
        self,
        is_alive: Callable[[], bool] = lambda: True,
        timeout_seconds: float = START_DEADLINE_SECONDS,
    ) -> None:
        """Return when the server accepts connections.

        Raises:
            ServerError: the deadline passed, or `is_alive` said that there is nothing to wait for.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                psycopg.connect(
                    self.superuser_url(), connect_timeout=_CONNECT_DEADLINE_SECONDS
                ).close()
            except psycopg.OperationalError as error:
                # Refused, or starting up: there is no signal to wait for, so ask again soon.
                if not is_alive() or time.monotonic() > deadline:
                    raise ServerError(f"{self.name} on port {self.port}: {error}") from error
                time.sleep(_POLL_SECONDS)
            else:
                return

    def superuser_url(self, database: str = "postgres") -> str:
        """A libpq URL of the cluster's superuser."""
        password = (self.folder / "superuser_password").read_text(encoding="ascii")
        return self.url(SUPERUSER, password, database)

    def url(self, user: str, password: str, database: str) -> str:
        """A libpq URL for a user of this server."""
        return (
            f"postgresql://{quote(user)}:{quote(password)}@127.0.0.1:{self.port}/{quote(database)}"
        )

    def set_up(self, owner: Login, roles: Sequence[Login] = ()) -> list[str]:
        """Make a database, its owner and the roles that use it, as `rights.set_up` does."""
        return rights.set_up(self.superuser_url(), owner, roles)


def _character_type() -> str:
    """The locale that knows upper and lower case beyond ASCII, where the machine has it."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"
