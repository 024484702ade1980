"""A RabbitMQ node of our own: found on the machine, configured, started, stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from codebase.embedded.errors import ServerError
from codebase.embedded.home import write_private
from codebase.embedded.keeper import FOUNDATION_STAGE, SERVER_STAGE, Program

USER = "orderly"
NO_SERVER = "none"
START_DEADLINE_SECONDS = 90.0
_PORT_MAPPER_SECONDS = 10.0
_POLL_SECONDS = 0.01
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
default_vhost = /
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
default_user_tags.administrator = true
log.console = true
log.console.level = info
log.file = false
# Quorum queues hold this much of their log in memory before they write it out.
raft.wal_max_size_bytes = 67108864
"""

_MANAGEMENT_CONFIGURATION = """\
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
"""


@dataclass(frozen=True)
class RabbitBinaries:
    """The server's start script and Erlang's port mapper."""

    server: Path
    port_mapper: Path


def find_rabbitmq(environment: Mapping[str, str]) -> RabbitBinaries | None:
    """An installed RabbitMQ server, or None.

    Args:
        environment: `RABBITMQ_SERVER`, when set, is the only start script looked at; `none` asks
            to do without a broker.

    Raises:
        ServerError: `RABBITMQ_SERVER` is not a program.
    """
    chosen = environment.get("RABBITMQ_SERVER")
    if chosen == NO_SERVER:
        return None
    if chosen and not os.access(chosen, os.X_OK):
        raise ServerError(f"RABBITMQ_SERVER={chosen} is not a program")
    candidates = iter([Path(chosen)]) if chosen else _likely_servers(environment)
    server = next((path for path in candidates if os.access(path, os.X_OK)), None)
    port_mapper = shutil.which("epmd", path=_search_path(environment))
    return RabbitBinaries(server, Path(port_mapper)) if server and port_mapper else None


def _likely_servers(environment: Mapping[str, str]) -> Iterator[Path]:
    # Before PATH: on Debian the program on PATH switches to another user.
    yield Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    yield Path("/opt/homebrew/sbin/rabbitmq-server")
    yield Path("/usr/local/sbin/rabbitmq-server")
    on_path = shutil.which("rabbitmq-server", path=environment.get("PATH"))
    if on_path and os.geteuid() != 0:
        yield Path(on_path)


def _search_path(environment: Mapping[str, str]) -> str:
    path = environment.get("PATH", os.defpath)
    return os.pathsep.join([path, "/opt/homebrew/bin", "/usr/local/bin", "/usr/lib/erlang/bin"])


@dataclass(frozen=True, kw_only=True)
class RabbitServer:
    """One private node with everything it writes under `folder`, listening on loopback only.

    `port` serves AMQP; the node also needs a port for Erlang's distribution and one for the port
    mapper. `management_port` None leaves the management plugin out.
    """

    name: str
    folder: Path
    port: int
    distribution_port: int
    port_mapper_port: int
    binaries: RabbitBinaries
    management_port: int | None = None

    @property
    def password(self) -> str:
        """The password of the user `orderly`, generated when the node was prepared."""
        return (self.folder / "password").read_text(encoding="ascii")

    def url(self, vhost: str = "/") -> str:
        """The node's amqp:// URL."""
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def prepare(self) -> None:
        """Write the node's configuration; passwords stay what they were."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("password", ".erlang.cookie"):
            path = self.folder / name
            if not path.exists():
                write_private(path, secrets.token_hex(24))
        text = _CONFIGURATION.format(port=self.port, user=USER, password=self.password)
        plugins = ""
        if self.management_port is not None:
            text += _MANAGEMENT_CONFIGURATION.format(management_port=self.management_port)
            plugins = "rabbitmq_management"
        write_private(self.folder / "rabbitmq.conf", text)
        (self.folder / "enabled_plugins").write_text(f"[{plugins}].\n", encoding="ascii")

    def port_mapper_program(self) -> Program:
        """Erlang's port mapper; start it and wait for it before the node, and end it after."""
        port = str(self.port_mapper_port)
        return Program(
            name=f"{self.name}_port_mapper",
            command=[self.binaries.port_mapper, "-address", "127.0.0.1", "-port", port],
            environment={"PATH": _search_path(os.environ)},
            patience_seconds=1,
            stage=FOUNDATION_STAGE,
        )

    def program(self) -> Program:
        """The node itself."""
        return Program(
            name=self.name,
            command=[self.binaries.server],
            environment=self._environment(),
            directory=self.folder,
            # A node that is still booting does not listen to SIGTERM. Killing it costs nothing:
            # what it holds is in the log, and its queues survive as they survive a crash.
            patience_seconds=3,
            stage=SERVER_STAGE,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": _search_path(os.environ),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.port_mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "orderly@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            # The machine's own node may have settings; ours must not read them.
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            # The node would start a port mapper that nobody ends.
            "ERL_FLAGS": "-start_epmd false",
            # With input allowed the script becomes the node instead of waiting for it, so that the
            # process we start is the one we signal; there is no input, and -noinput says so. The
            # kernel option keeps the distribution port off the other interfaces.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-noinput -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def wait_for_port_mapper(self) -> None:
        """Return when the port mapper listens, which takes it some milliseconds.

        Raises:
            ServerError: it does not.
        """
        deadline = time.monotonic() + _PORT_MAPPER_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port_mapper_port), timeout=1).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ServerError(f"{self.name}'s port mapper does not start") from error
                time.sleep(_POLL_SECONDS)
            else:
                return

    def wait_until_ready(
        self,
        is_alive: Callable[[], bool] = lambda: True,
        timeout_seconds: float = START_DEADLINE_SECONDS,
    ) -> None:
        """Return when the node greets an AMQP client.

        Raises:
            ServerError: the deadline passed, or `is_alive` said that there is nothing to wait for.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._greets():
            if not is_alive() or time.monotonic() > deadline:
                raise ServerError(f"{self.name} does not answer on port {self.port}")
            # A node that boots refuses connections: there is no signal to wait for.
            time.sleep(_POLL_SECONDS)

    def _greets(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(_PROTOCOL_HEADER)
            return connection.recv(1) == _METHOD_FRAME
        return False
