"""One way to start, look at and repair everything.

The list of commands: what each is given and what it answers. What they do is in `operations`, and
is imported by the command that needs it, because services start by the dozen.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.needs import narrowed
from codebase.foundation.postgres import forget_libpq_environment
from codebase.foundation.settings import Settings, load_settings
from codebase.operations.command_line import (
    DONE,
    FAILED,
    FOR_OPERATORS,
    command,
    complain,
    errors_logged,
    group,
    run,
)
from codebase.operations.terminal import as_json, progress_bar, show_list, to_stderr
from codebase.registry import SYSTEM

if TYPE_CHECKING:
    from fastapi import FastAPI

    from codebase.engine.projections.projection import Projector
    from codebase.web import shell
    from codebase.web.runtime import Runtime

orderly = group("One way to start, look at and repair everything.")
parked_group = group("List, retry or discard events that a projector parked.")
reactions_group = group("See what reactions could not do, and say what is to be done about it.")
log_group = group("Show events of the log, or follow it.")
fraud_group = group("See what the fraud police decided, and what other rules would decide.")
orderly.add_typer(parked_group, name="parked")
orderly.add_typer(reactions_group, name="reactions")
orderly.add_typer(log_group, name="log")
orderly.add_typer(fraud_group, name="fraud")

FAILURES_SHOWN = 20
DAYS = ["%Y-%m-%d"]
LATE_IMPORTS = ("encodings.idna", "httpcore", "pydantic.v1")
"""What FastAPI, httpx and psycopg import when they are first used."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Stream = Annotated[UUID, typer.Argument(metavar="STREAM", help="Its id.")]
OnlyStream = Annotated[UUID | None, typer.Argument(metavar="STREAM", help="Only this stream.")]
OnlyKey = Annotated[
    UUID | None, typer.Argument(metavar="[KEY]", help="Of what is parked: reactions list shows it.")
]
Key = Annotated[
    UUID, typer.Argument(metavar="KEY", help="Of what is parked: reactions list shows it.")
]
ProjectorName = Annotated[
    str | None, typer.Option("--projector", help="Which one, when several have parked the stream.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 differs or failed, 2 misconfigured."""
    forget_libpq_environment()
    return run(orderly, arguments)


def _settings() -> Settings:
    """The environment, and below it what an embedded run left for its operators."""
    return load_settings(*SYSTEM.settings)


# Starting


@command(orderly, "up", example="ORDERLY_HOME=/some/folder PORT_OFFSET=1000 orderly up")
def start_everything(
    *,
    stores: Annotated[
        bool, typer.Option("--stores", help="The databases and the broker only, to restore them.")
    ] = False,
) -> int:
    """Start the whole system on this machine, in the foreground."""
    from codebase.embedded import local_stack
    from codebase.embedded.environment import take_in

    taken = take_in(Path(".env"))
    if taken:
        to_stderr(f"from .env: {', '.join(taken)}")
    # What an earlier run wrote down for others is not for the run itself.
    settings = load_settings(*SYSTEM.settings, embedded_home=False)
    services = SYSTEM.on_one_machine()
    return local_stack.up(
        settings,
        services,
        {name: SYSTEM.needs_of([name]) for name in services},
        SYSTEM.contexts,
        _to_fork(),
        stores_only=stores,
    )


def _to_fork() -> Callable[[Sequence[str]], int] | None:
    """This command with everything imported that a service needs; None where no fork is safe."""
    if sys.platform == "darwin":
        # Its system libraries have threads, and no thread survives a fork.
        return None
    _import_services(SYSTEM.names())
    return main


def _import_services(names: Iterable[str]) -> None:
    """Import whatever these services need, so that forks of this process have it."""
    for name in names:
        SYSTEM.load(name)
    for name in LATE_IMPORTS:
        import_module(name)


def _known(names: list[str]) -> list[str]:
    there = [*SYSTEM.names(), *SYSTEM.groups]
    for name in names:
        if name not in there:
            raise typer.BadParameter(f"there is no {name}; there is: {', '.join(there)}")
    return names


@command(orderly, "serve", example="orderly serve create_buy_order fetch_buy_orders --port 9000")
def start_services(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", callback=_known, help="Services, or groups of them."),
    ],
    *,
    port: Annotated[int | None, typer.Option(help="By default the first service's own.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many share the port. By default SERVICE_PROCESSES."),
    ] = None,
) -> int:
    """Start services together, on one port: in one process, or each of several does all of it."""
    service = "+".join(names)
    with errors_logged(service):
        settings = narrowed(_settings(), SYSTEM.needs_of(names))
        settings = _with_processes(settings, names, processes)
        port = port or SYSTEM.port_of(names[0]) + settings.port_offset
        if settings.service_processes > 1:
            return _start_several(names, service, settings, port)
        _start_services(names, service, settings, port)
    return DONE


def _with_processes(settings: Settings, names: Sequence[str], asked: int | None) -> Settings:
    """The settings with as many processes as these services will have.

    Raises:
        ConfigurationError: more were asked for than is right.
    """
    alone = SYSTEM.one_process_each(names)
    if alone and (asked or 1) > 1:
        raise ConfigurationError(
            f"--processes: {', '.join(alone)} may have one only, because of what it keeps in memory"
            " or does all the time; another one on a port of its own stands by for it"
        )
    count = asked or (1 if alone else settings.service_processes)
    return settings.model_copy(update={"service_processes": count})


def _start_several(names: Sequence[str], service: str, settings: Settings, port: int) -> int:
    """Start processes that share the port, each with all that a single one would be."""
    from codebase.foundation.observability import logs
    from codebase.web import shell

    _import_services(SYSTEM.in_groups(names))

    # FluentD is told by threads, and whoever forks has none.
    on_stdout_only = settings.model_copy(update={"logging_host": None})
    with ExitStack() as stack:
        stack.enter_context(logs.configured(on_stdout_only, service=service))

        def become(figures: shell.SharedFigures) -> int:
            # Each has a log of its own; what libraries say would stand in both.
            stack.close()
            try:
                with errors_logged(service):
                    _start_services(names, service, settings, port, figures)
            except typer.Exit as failure:
                return failure.exit_code
            except FOR_OPERATORS as error:
                return complain(error)
            return DONE

        return shell.Processes(settings, port, become).run()


def _start_services(
    names: Sequence[str],
    service: str,
    settings: Settings,
    port: int,
    figures: shell.SharedFigures | None = None,
) -> None:
    from codebase.foundation.observability import logs, telemetry
    from codebase.web import shell

    with (
        logs.configured(settings, service=service),
        telemetry.configured(settings, service=service),
    ):
        shell.run(_serve(names, settings, port, figures))


async def _serve(
    names: Sequence[str], settings: Settings, port: int, figures: shell.SharedFigures | None
) -> None:
    from codebase.web import shell
    from codebase.web.runtime import Runtime

    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(settings, SYSTEM.contexts))
        members = SYSTEM.in_groups(names)
        apps = [await _open(name, runtime, stack) for name in members]
        app = shell.assemble(apps, settings, title=" + ".join(names), figures=figures)
        # What is there now stays for good; the collector need not go through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        async with figures.published() if figures else nullcontext():
            await shell.serve(app, settings, port)


async def _open(name: str, runtime: Runtime, stack: AsyncExitStack) -> FastAPI:
    """One service; whatever it starts logs under its name."""
    from codebase.foundation.observability import logs

    with logs.bound(service=name):
        opening = SYSTEM.load(name).open_service(runtime)
        app: FastAPI = await stack.enter_async_context(opening)
    return app


# Stores


@command(orderly, "migrate", example="orderly migrate --json")
def migrate_stores(*, json: Json = False) -> int:
    """Bring both stores to the newest schema."""
    from codebase.operations.migrate import migrate

    applied = migrate(_settings(), SYSTEM.contexts)
    print(as_json({"applied": applied}) if json else "\n".join(applied) or "nothing to migrate")
    return DONE


@command(orderly, "roles", example="orderly roles")
def make_roles(*, json: Json = False) -> int:
    """Make owner and roles of both stores, as superusers, and take back what is too much."""
    from codebase.operations.roles import set_up_roles

    lost = set_up_roles(_settings())
    print(as_json({"lost": lost}) if json else "\n".join(lost) or "everybody has what is needed")
    return DONE


@command(orderly, "verify", example="orderly verify")
def verify_everything(*, json: Json = False) -> int:
    """Recompute everything from the log; print what differs."""
    from codebase.operations.verify import verify

    settings = _settings()
    projectors = _projectors(settings)
    say = to_stderr if json else print
    differences = verify(
        settings,
        SYSTEM.aggregates,
        projectors,
        reactions=SYSTEM.reactions(),
        say=say,
        progress=progress_bar,
    )
    names = [projector.name for projector in projectors]
    if json:
        print(as_json({"projectors": names, "differences": differences}))
    elif not differences:
        known = ", ".join(names) or "nothing was projected yet"
        print(f"everything is as the log says: {known}")
    return FAILED if differences else DONE


@command(orderly, "rebuild", example="orderly rebuild buy_orders")
def rebuild_view(
    view: Annotated[
        str,
        typer.Argument(metavar="VIEW", help="Such as buy_orders; a wrong name shows all."),
    ],
    *,
    json: Json = False,
) -> int:
    """Build a view again from the log, then swap it in."""
    from codebase.operations.rebuild import rebuild

    settings = _settings()
    projectors = {
        projection.name: projector
        for projector in _projectors(settings)
        for projection in projector.projections
    }
    if view not in projectors:
        there = ", ".join(projectors) or "none yet"
        raise ConfigurationError(f"this store has no view {view}; there is: {there}")
    say = to_stderr if json else print
    report = rebuild(settings, projectors[view], view, say=say, progress=progress_bar)
    told = f"{report.events} events gone through, {report.differing_rows} rows had been different"
    print(as_json({"view": view, **asdict(report)}) if json else told)
    return DONE


def _projectors(settings: Settings) -> list[Projector]:
    """Those that fill this store."""
    from codebase.engine.projections.projection import present
    from codebase.foundation.postgres import connect

    with connect(settings.required("read_model_url"), "orderly") as store:
        return present(store, SYSTEM.projectors())


# Events


@command(parked_group, "list", example="orderly parked list")
def list_parked(*, json: Json = False) -> int:
    """What projectors have parked, and why."""
    from codebase.engine.reactions.store import REACTION_STORE
    from codebase.operations.parked import ParkedStream, list_parked

    settings = _settings()
    streams = list_parked(settings)
    if SYSTEM.reactions():
        streams += list_parked(settings, REACTION_STORE)
    if not streams:
        to_stderr("nothing is parked")
    show_list(streams, json=json, record=asdict, line=ParkedStream.line, cells=ParkedStream.cells)
    return DONE


@command(parked_group, "retry", example="orderly parked retry --all")
def retry_parked(
    stream: OnlyStream = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Every stream that is parked, in the log's order.")
    ] = False,
    projector: ProjectorName = None,
) -> int:
    """Apply what is parked of a stream, in order and all of it; then it flows again."""
    from codebase.operations import parked

    if everything == (stream is not None):
        raise typer.BadParameter("name one STREAM, or all of them with --all")
    settings = _settings()
    if stream is None:
        return _retry_all(settings, projector)
    applied = parked.retry(settings, _who_parked(settings, stream, projector), stream)
    print(f"{applied} events applied; the stream flows again")
    return DONE


def _retry_all(settings: Settings, name: str | None) -> int:
    from codebase.operations import parked

    status, found = DONE, False
    everybody = [*_projectors(settings), *_readers()]
    for projector in [_projector(name)] if name else everybody:
        retried = parked.retry_all(settings, projector)
        if not retried.streams and not retried.failures:
            continue
        found = True
        told = f"{retried.events} events applied; {retried.streams} streams flow again"
        print(f"{projector.name}: {told}")
        for stream_id, reason in islice(retried.failures.items(), FAILURES_SHOWN):
            to_stderr(f"{projector.name}: stream {stream_id} stays parked: {reason}")
        if retried.failures:
            to_stderr(f"{projector.name}: {len(retried.failures)} streams stay parked")
            status = FAILED
    if not found:
        to_stderr("nothing is parked")
    return status


@command(parked_group, "discard", example="orderly parked discard STREAM --projector billing")
def discard_parked(stream: Stream, *, projector: ProjectorName = None) -> int:
    """Do without the first event that is parked of a stream; retry the stream for the rest."""
    from codebase.operations import parked

    settings = _settings()
    position = parked.discard(settings, _who_parked(settings, stream, projector), stream)
    print(f"the event at {position} is left out from now on; retry the stream for the rest")
    return DONE


def _who_parked(settings: Settings, stream_id: UUID, name: str | None) -> Projector:
    """The one that was named, or else the only one that has parked the stream."""
    from codebase.engine.reactions.store import REACTION_STORE
    from codebase.operations import parked

    names = [name] if name else parked.parked_by(settings, stream_id)
    if not name and SYSTEM.reactions():
        names += parked.parked_by(settings, stream_id, REACTION_STORE)
    if not names:
        raise parked.NotParkedError(f"stream {stream_id} is not parked")
    if len(names) > 1:
        several = " and ".join(names)
        raise ConfigurationError(f"it is parked by {several}: say which with --projector")
    return _projector(names[0])


def _projector(name: str) -> Projector:
    known = {projector.name: projector for projector in [*SYSTEM.projectors(), *_readers()]}
    if name not in known:
        raise ConfigurationError(f"no projector {name}; there is: {', '.join(known)}")
    return known[name]


def _readers() -> list[Projector]:
    """The half of each reaction that reads the log."""
    from codebase.engine.reactions.reading import projector_of

    return [projector_of(reaction) for reaction in SYSTEM.reactions()]


# Reactions


@command(reactions_group, "list", example="orderly reactions list --json")
def list_intents(*, json: Json = False) -> int:
    """What reactions could not do, and why; what follows it for the same subject waits."""
    from codebase.operations.intents import ParkedIntent, list_parked

    found = list_parked(_settings())
    if not found:
        to_stderr("nothing is parked")
    show_list(found, json=json, record=asdict, line=ParkedIntent.line, cells=ParkedIntent.cells)
    return DONE


@command(reactions_group, "retry", example="orderly reactions retry --all")
def retry_intents(
    key: OnlyKey = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that is parked.")] = False,
) -> int:
    """Have what is parked tried again, with the same key, by whichever service does it."""
    from codebase.operations import intents

    if everything == (key is not None):
        raise typer.BadParameter("name one KEY, or all of them with --all")
    print(f"{intents.retry(_settings(), key)} will be tried again")
    return DONE


@command(reactions_group, "skip", example="orderly reactions skip KEY")
def skip_intent(key: Key) -> int:
    """Do without something that is parked; what waits for it has its turn."""
    from codebase.operations import intents

    for sentence in intents.skip(_settings(), SYSTEM.reactions(), key):
        to_stderr(sentence)
    print("it is left out, and the next has its turn")
    return DONE


@command(reactions_group, "adopt", example="orderly reactions adopt --skip-open")
def adopt_reactions(
    *,
    skip_open: Annotated[
        bool,
        typer.Option("--skip-open", help="Do without what is noted and not done, and reminders."),
    ] = False,
) -> int:
    """Let reactions act in a database that was restored or copied from elsewhere."""
    from codebase.operations import intents

    adopted = intents.adopt(_settings(), SYSTEM.reactions(), skip_open=skip_open)
    for sentence in adopted.untold:
        to_stderr(sentence)
    print(
        f"reactions act here from now on; {adopted.skipped} intents and {adopted.reminders}"
        " reminders are left out"
    )
    return DONE


@command(log_group, "show", example="orderly log show STREAM")
def show_log(stream: OnlyStream = None, *, json: Json = False) -> int:
    """Show one stream, or the end of the log."""
    from codebase.operations import tail

    events = tail.show(_settings(), stream)
    show_list(events, json=json, record=tail.record_of, line=tail.line_of, cells=tail.cells_of)
    return DONE


@command(log_group, "tail", example="orderly log tail --json")
def follow_log(stream: OnlyStream = None, *, json: Json = False) -> int:
    """Show the end of the log, or one stream, and whatever is appended, until Ctrl-C."""
    from codebase.operations import tail

    for event in tail.follow(_settings(), stream):
        print(as_json(tail.record_of(event)) if json else tail.line_of(event), flush=True)
    return DONE


@command(
    log_group,
    "copy",
    example="orderly log copy --to postgresql://orderly@new/write_model",
)
def copy_the_log(
    *,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="Address of the target's owner.")],
    through: Annotated[
        str | None,
        typer.Option(
            "--through",
            metavar="MODULE:FUNCTION",
            help="What every event goes through: a RecordedEvent in, a RecordedEvent out.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is appended, until Ctrl-C.")
    ] = False,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="With services stopped: close this log, open the target."),
    ] = False,
    json: Json = False,
) -> int:
    """Copy what another database lacks of the log; --finish, and it is the log."""
    from threading import Event

    from codebase.operations.log_copy import copy_log, load_rewrite

    if follow and finish:
        raise typer.BadParameter("--finish ends what --follow goes on with: one of them")
    copied = copy_log(
        _settings(),
        to,
        SYSTEM.aggregates,
        rewrite=load_rewrite(through) if through else None,
        finish=finish,
        follow=Event() if follow else None,
        progress=progress_bar,
    )
    print(as_json(asdict(copied)) if json else copied.sentence())
    return DONE


# Documents, tokens, code


@command(orderly, "asyncapi", example="orderly asyncapi > docs/asyncapi.json")
def print_asyncapi() -> int:
    """Print the AsyncAPI document of events and commands."""
    from codebase.operations import asyncapi

    print(dumps(asyncapi.document(SYSTEM.aggregates, SYSTEM.messages()), indent=2))
    return DONE


# Fraud


@command(fraud_group, "replay", example="orderly fraud replay")
def replay_decisions(*, json: Json = False) -> int:
    """Decide every stored decision again, by the rules and the past of its time."""
    from codebase.services.fraud_police.projections import FRAUD_POLICE
    from codebase.views.payments.fraud_replay import replay

    say = to_stderr if json else print
    found = replay(_settings(), FRAUD_POLICE.name, say=say, progress=progress_bar)
    told = f"{found.decisions} decisions, {len(found.differences)} came out differently"
    print(as_json(asdict(found)) if json else told)
    return FAILED if found.differences else DONE


@command(
    fraud_group,
    "backtest",
    example="orderly fraud backtest --rules FILE --from DAY --to DAY",
)
def backtest_rules(
    rules: Annotated[Path, typer.Option("--rules", metavar="FILE", help="Rules in TOML.")],
    since: Annotated[datetime, typer.Option("--from", formats=DAYS, help="The first day, in UTC.")],
    until: Annotated[
        datetime, typer.Option("--to", formats=DAYS, help="The first day after it, in UTC.")
    ],
    *,
    json: Json = False,
) -> int:
    """Tell what other rules would have decided of what was judged."""
    from codebase.views.payments.fraud_backtest import backtest
    from codebase.views.payments.fraud_rules_file import read_rules_file

    if since >= until:
        raise typer.BadParameter("--to must be after --from")
    read = read_rules_file(rules)
    found = backtest(_settings(), read, since.replace(tzinfo=UTC), until.replace(tzinfo=UTC))
    print(as_json(asdict(found)) if json else "\n".join(found.lines()))
    return DONE


@command(orderly, "token", example="orderly token web-shop client")
def make_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who the caller is.")],
    role: Annotated[
        Literal["client", "operator", "personal", "admin"],
        typer.Argument(
            metavar="ROLE",
            help="client: its own business; operator: reads everything that is not personal; "
            "personal: may ask for what is personal; admin: everything.",
        ),
    ],
    *,
    json: Json = False,
) -> int:
    """Make an access token and its API_TOKENS entry."""
    from codebase.foundation.tokens import new_token
    from codebase.views.payments.settings import require_payable

    require_payable(name)
    secret, entry = new_token(name, role)
    if json:
        print(as_json({"token": secret, "entry": entry}))
    else:
        print(f"token (give it to the client, it is not stored): {secret}")
        print(f"entry (add it to API_TOKENS): {entry}")
    return DONE


@command(orderly, "new-service", example="orderly new-service fetch_regions --query")
def write_service(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as fetch_regions.")],
    *,
    command: Annotated[bool, typer.Option("--command", help="It changes something.")] = False,
    query: Annotated[
        bool, typer.Option("--query", help="It answers pages of a view; the default.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker", help="It follows events.")] = False,
    reaction: Annotated[
        bool, typer.Option("--reaction", help="It does what events cause, once.")
    ] = False,
) -> int:
    """Write a new service, and its test, into this checkout."""
    from codebase.operations.new_service import Kind, new_service

    flags = {
        Kind.COMMAND: command,
        Kind.QUERY: query,
        Kind.WORKER: worker,
        Kind.REACTION: reaction,
    }
    kinds = [kind for kind, chosen in flags.items() if chosen] or [Kind.QUERY]
    if len(kinds) > 1:
        raise ConfigurationError("a service is one of --command, --query, --worker and --reaction")
    ports = {name: SYSTEM.port_of(name) for name in [*SYSTEM.names(), *SYSTEM.groups]}
    root = Path(__file__).parents[1]
    print("\n".join(new_service(root, name, kinds[0], ports)))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
