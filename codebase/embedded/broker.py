"""The broker of an embedded run: whoever finds none installed goes without."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from codebase.embedded.errors import ServerError
from codebase.embedded.private_rabbitmq import RabbitServer, find_rabbitmq
from codebase.embedded.run import Run
from codebase.embedded.supervisor import Supervised

PORTS: Mapping[str, int] = {
    "rabbitmq": 5672,
    "rabbitmq distribution": 5673,
    "rabbitmq port mapper": 5674,
}


def find_broker(run: Run) -> RabbitServer | None:
    """A node that is ready to be started, or None where RabbitMQ is not installed."""
    binaries = find_rabbitmq(os.environ)
    if binaries is None:
        run.terminal.say("without a RabbitMQ server: the log itself feeds the readers")
        return None
    server = RabbitServer(
        name="rabbitmq",
        folder=run.home / "rabbitmq",
        port=run.port(PORTS["rabbitmq"]),
        distribution_port=run.port(PORTS["rabbitmq distribution"]),
        port_mapper_port=run.port(PORTS["rabbitmq port mapper"]),
        binaries=binaries,
    )
    server.prepare()
    return server


def start_broker(run: Run, server: RabbitServer) -> None:
    """Start the node; a thread tells the operator when it is up, nobody waits for it."""
    run.supervisor.start(server.port_mapper_program())
    try:
        server.wait_for_port_mapper()
    except ServerError as error:
        run.terminal.say(f"{error}; the log itself feeds the readers")
        return
    node = run.supervisor.start(server.program())
    threading.Thread(target=_announce, args=(run, server, node), name="broker", daemon=True).start()


def _announce(run: Run, server: RabbitServer, node: Supervised) -> None:
    try:
        server.wait_until_ready(lambda: run.waits_for(node))
    except ServerError as error:
        if not run.stopping.is_set():
            run.terminal.say(f"{error}; the log itself feeds the readers meanwhile")
    else:
        run.terminal.say(f"RabbitMQ is up on port {server.port}")
