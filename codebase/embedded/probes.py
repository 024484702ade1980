"""What can be told of a port from outside: whether it is taken, and whether a service is ready."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket

_DETAIL_MAX = 200


def is_occupied(port: int, host: str) -> bool:
    """Whether somebody listens on the port, on the services' address or on loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the servers do, so that connections of an earlier run in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def trouble(host: str, port: int, path: str) -> str | None:
    """None when GET `path` answers 200, otherwise what is in the way."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__} on port {port}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else f"{answer.status} {_detail_of(text)}"


def _detail_of(text: str) -> str:
    """The sentence in a problem document, or the beginning of whatever else it is."""
    with contextlib.suppress(ValueError):
        problem = json.loads(text)
        if isinstance(problem, dict) and "detail" in problem:
            return str(problem["detail"])
    return text[:_DETAIL_MAX]
