"""The HTTP shell, as services and whoever starts them see it: what is the same for every service.

A service builds its app with `service_app`, adds commands with `command` and queries with FastAPI's
own decorators. `assemble` puts the apps of one process behind one boundary, `serve` runs it.
"""

from __future__ import annotations

from codebase.web.apps import Check, assemble, service_app
from codebase.web.command_routes import command
from codebase.web.commands import Answer, Command
from codebase.web.exchange import caller_of, require_admin, require_operator, require_two_fa
from codebase.web.openapi_headers import LOCATION
from codebase.web.processes import Processes
from codebase.web.server import run, serve, serving
from codebase.web.shared_figures import SharedFigures

__all__ = [
    "LOCATION",
    "Answer",
    "Check",
    "Command",
    "Processes",
    "SharedFigures",
    "assemble",
    "caller_of",
    "command",
    "require_admin",
    "require_operator",
    "require_two_fa",
    "run",
    "serve",
    "service_app",
    "serving",
]
