"""The `orderly` command: one way to start, look at and repair everything."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import psycopg
from fastapi import FastAPI

from codebase.embedded import local_stack
from codebase.engine.projections.projection import Projector, present
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.observability import logs, telemetry
from codebase.foundation.postgres import connect, trouble
from codebase.foundation.settings import Settings, load_settings
from codebase.operations import asyncapi, migrate, parked, rebuild, tail, verify
from codebase.operations.new_service import Kind, NewServiceError, new_service
from codebase.registry import SYSTEM
from codebase.web import shell
from codebase.web.runtime import Runtime

FAILED = 1
MISUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 differs or failed, 2 misconfigured."""
    chosen = parser().parse_args(arguments)
    try:
        settings = load_settings(*SYSTEM.settings, embedded_home=chosen.run is not run_up)
        status: int = chosen.run(chosen, settings)
    except ConfigurationError as error:
        print(f"orderly: {error}", file=sys.stderr)
        return MISUSED
    except psycopg.Error as error:
        print(f"orderly: Postgres: {trouble(error)}", file=sys.stderr)
        return FAILED
    except (
        parked.NotParkedError,
        parked.RetryFailedError,
        rebuild.RebuildError,
        NewServiceError,
    ) as error:
        print(f"orderly: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return status


def parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    root = argparse.ArgumentParser(prog="orderly", description=__doc__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    whole = command("up", run_up, "Start the whole system on this machine, in the foreground.")
    whole.add_argument(
        "--stores", action="store_true", help="the databases and the broker only, to restore them"
    )
    serve = command("serve", run_serve, "Start services in one process, on one port.")
    known = [*SYSTEM.names(), *SYSTEM.groups]
    serve.add_argument("names", nargs="+", choices=known, metavar="NAME")
    serve.add_argument("--port", type=int, help="default: the first service's own port")
    command("migrate", run_migrate, "Bring both stores to the newest schema.")
    command("verify", run_verify, "Recompute everything from the log and print what differs.")
    rebuilt = command("rebuild", run_rebuild, "Build a view again from the log, then swap it in.")
    rebuilt.add_argument("view", help="such as buy_orders; a wrong name is answered with all")
    held = command("parked", run_parked, "List, retry or discard events that a projector parked.")
    held.add_argument("action", choices=("list", "retry", "discard"))
    held.add_argument("stream", nargs="?", type=UUID, help="the stream to retry or discard from")
    held.add_argument("--projector", help="which one, when several have parked the stream")
    log = command("log", run_log, "Show events of the log, or follow it.")
    log.add_argument("action", choices=("tail", "show"))
    log.add_argument("stream", nargs="?", type=UUID, help="only this stream")
    command("asyncapi", run_asyncapi, "Print the AsyncAPI document of events and commands.")
    token = command("token", run_token, "Make an access token and its API_TOKENS entry.")
    token.add_argument("name")
    token.add_argument("role", choices=("client", "admin"))
    made = command("new-service", run_new_service, "Write a new service into this checkout.")
    made.add_argument("name", help="such as fetch_regions")
    kinds = made.add_mutually_exclusive_group()
    for kind in Kind:
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind)
    made.set_defaults(kind=Kind.QUERY)
    return root


def run_up(chosen: argparse.Namespace, settings: Settings) -> int:
    """The embedded run."""
    return local_stack.up(
        settings, SYSTEM.on_one_machine(), SYSTEM.contexts, stores_only=chosen.stores
    )


def run_serve(chosen: argparse.Namespace, settings: Settings) -> int:
    """Any set of services in one process."""
    port = chosen.port or SYSTEM.port_of(chosen.names[0]) + settings.port_offset
    service = "+".join(chosen.names)
    with (
        logs.configured(settings, service=service),
        telemetry.configured(settings, service=service),
    ):
        shell.run(_serve(chosen.names, settings, port))
    return 0


async def _serve(names: Sequence[str], settings: Settings, port: int) -> None:
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(settings, SYSTEM.contexts))
        members = SYSTEM.in_groups(names)
        apps = [await _open(name, runtime, stack) for name in members]
        app = shell.assemble(apps, settings, title=" + ".join(names))
        # What is there now stays for good; the collector need not go through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        await shell.serve(app, settings, port)


async def _open(name: str, runtime: Runtime, stack: AsyncExitStack) -> FastAPI:
    """One service; whatever it starts logs under its name."""
    with logs.bound(service=name):
        opening = SYSTEM.load(name).open_service(runtime)
        app: FastAPI = await stack.enter_async_context(opening)
    return app


def run_migrate(_chosen: argparse.Namespace, settings: Settings) -> int:
    """Apply missing migrations and say which."""
    applied = migrate.migrate(settings, SYSTEM.contexts)
    print("\n".join(applied) or "nothing to migrate")
    return 0


def run_verify(_chosen: argparse.Namespace, settings: Settings) -> int:
    """Status 1 if anything differs from what the log says."""
    projectors = _projectors(settings)
    differences = verify.verify(settings, SYSTEM.aggregates, projectors)
    if differences:
        return FAILED
    names = ", ".join(projector.name for projector in projectors)
    print(f"everything is as the log says: {names or 'nothing was projected yet'}")
    return 0


def run_rebuild(chosen: argparse.Namespace, settings: Settings) -> int:
    """Build a view again; the old one serves until the new one is in its place."""
    projectors = {
        projection.name: projector
        for projector in _projectors(settings)
        for projection in projector.projections
    }
    if chosen.view not in projectors:
        there = ", ".join(projectors) or "none yet"
        raise ConfigurationError(f"this store has no view {chosen.view}; there is: {there}")
    projector = projectors[chosen.view]
    report = rebuild.rebuild(settings, projector, chosen.view, progress=sys.stderr.isatty())
    print(f"{report.events} events gone through, {report.differing_rows} rows had been different")
    return 0


def run_parked(chosen: argparse.Namespace, settings: Settings) -> int:
    """What projectors could not apply."""
    if chosen.action == "list":
        for stream in parked.list_parked(settings):
            print(
                f"{stream.stream_id} {stream.category}, parked by {stream.projector}:"
                f" {stream.events} events wait from position"
                f" {stream.partition}:{stream.first_position}, since {stream.parked_at}:"
                f" {stream.reason}"
            )
        return 0
    if chosen.stream is None:
        raise ConfigurationError(f"parked {chosen.action} needs a stream; see parked list")
    projector = _projector_that_parked(settings, chosen.stream, chosen.projector)
    if chosen.action == "retry":
        applied = parked.retry(settings, projector, chosen.stream)
        print(f"{applied} events applied; the stream flows again")
    else:
        position = parked.discard(settings, projector, chosen.stream)
        print(f"the event at {position} is left out from now on; retry the stream for the rest")
    return 0


def _projectors(settings: Settings) -> list[Projector]:
    """Those that fill this store."""
    with connect(settings.required("read_model_url"), "orderly") as store:
        return present(store, SYSTEM.projectors())


def _projector_that_parked(settings: Settings, stream_id: UUID, name: str | None) -> Projector:
    """The one that was named, or else the only one that has parked the stream."""
    names = [name] if name else parked.parked_by(settings, stream_id)
    if not names:
        raise parked.NotParkedError(f"stream {stream_id} is not parked")
    if len(names) > 1:
        several = " and ".join(names)
        raise ConfigurationError(f"it is parked by {several}: say which with --projector")
    known = {projector.name: projector for projector in SYSTEM.projectors()}
    if names[0] not in known:
        raise ConfigurationError(f"no projector {names[0]}; there is: {', '.join(known)}")
    return known[names[0]]


def run_log(chosen: argparse.Namespace, settings: Settings) -> int:
    """Events as JSON lines."""
    tail.tail(settings, follow=chosen.action == "tail", stream_id=chosen.stream)
    return 0


def run_asyncapi(_chosen: argparse.Namespace, _settings: Settings) -> int:
    """The document that docs/asyncapi.json holds."""
    print(json.dumps(asyncapi.document(SYSTEM.aggregates, SYSTEM.messages()), indent=2))
    return 0


def run_token(chosen: argparse.Namespace, _settings: Settings) -> int:
    """The secret for the client, the entry for the SYSTEM."""
    secret, entry = shell.new_token(chosen.name, chosen.role)
    print(f"token (give it to the client, it is not stored): {secret}")
    print(f"entry (add it to API_TOKENS): {entry}")
    return 0


def run_new_service(chosen: argparse.Namespace, _settings: Settings) -> int:
    """Folder, test and registration, so that ./test.sh is green at once."""
    ports = {name: SYSTEM.port_of(name) for name in [*SYSTEM.names(), *SYSTEM.groups]}
    root = Path(__file__).parents[1]
    print("\n".join(new_service(root, chosen.name, chosen.kind, ports)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
