"""Measure everything, or the sections that are named: `python -m bench [SECTION…]`.

Prints a table. A complete run writes bench/results.json, bench/machine.json and bench/chart.svg. A
missed target is a finding and not a failure: the exit status is 1 only when something could not be
measured. `python -m bench compare COMMIT` measures this commit beside another one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import psycopg

from bench import chart, report
from bench.lab import Effort, Lab
from bench.measure import BenchError
from bench.ports import Ports
from bench.report import Result
from bench.sections import (
    accounts,
    alerts,
    bus,
    compare,
    faults,
    fraud,
    live,
    log,
    pages,
    parked,
    partitions,
    payments,
    put,
    reacting,
    rivals,
    snapshot,
    start,
    streams,
    teams,
)
from bench.visits import in_turn, over_visits
from codebase.embedded.errors import ServerError
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings

Section = Callable[[Lab], Iterator[Result]]

SECTIONS: Mapping[str, Section] = {
    "put": put.measure,
    "bus": bus.measure,
    "rivals": rivals.measure,
    "partitions": partitions.measure,
    "streams": streams.measure,
    "bulk": log.measure_bulk,
    "growth": log.measure_growth,
    "rebuild": log.measure_rebuild,
    "snapshot": snapshot.measure,
    "parked": parked.measure,
    "reacting": reacting.measure,
    "payments": payments.measure,
    "alerts": alerts.measure,
    "faults": faults.measure,
    "pages": pages.measure,
    "accounts": accounts.measure,
    "load": accounts.measure_mixed_clients,
    "teams": teams.measure,
    "live": live.measure,
    "fraud": fraud.measure,
    "start": start.measure,
}
COMPARE = "compare"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS) + "; or compare COMMIT"
    )
    parser.add_argument(
        "--small", action="store_true", help="see whether it works; the numbers mean nothing"
    )
    given = parser.parse_args(arguments)
    sections = _chosen(parser, given.sections)
    # Everything that was started is ended on the way out.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    # What is provoked is told in the table, and nowhere else.
    quiet = Settings.model_validate({"log_level": "ERROR"})
    with (
        logs.configured(quiet, service="bench"),
        Lab.open(Effort(small=given.small), Ports()) as lab,
    ):
        return _run(lab, sections)


def _chosen(parser: argparse.ArgumentParser, names: Sequence[str]) -> Mapping[str, Section]:
    if names and names[0] == COMPARE:
        if len(names) != len((COMPARE, "COMMIT")):
            parser.error("compare takes one COMMIT, and nothing beside it")
        return {COMPARE: lambda lab: compare.measure(lab, names[1])}
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there is: {', '.join(SECTIONS)}")
    return {name: SECTIONS[name] for name in names} or SECTIONS


def _run(lab: Lab, sections: Mapping[str, Section]) -> int:
    machine = report.describe_machine(lab.write.major)
    print("; ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    visits: dict[str, list[list[Result]]] = {name: [] for name in sections}
    failed = False
    began = time.monotonic()
    for name in in_turn(sections, small=lab.effort.small):
        started = time.monotonic()
        try:
            visits[name].append(_printed(sections[name](lab)))
            lab.clear()
        except (BenchError, ServerError, ServiceUnavailable, psycopg.Error) as error:
            failed = True
            print(f"{name} could not be measured: {error}", flush=True)
            with suppress(psycopg.Error):
                lab.clear()
        print(f"-- {name}: {time.monotonic() - started:.0f} s", flush=True)
    results = []
    for name, visited in visits.items():
        if len(visited) <= 1:
            results += [result for visit in visited for result in visit]
            continue
        print(f"-- {name}, of {len(visited)} visits:", flush=True)
        try:
            results += _printed(over_visits(visited))
        except BenchError as error:
            failed = True
            print(f"{name} could not be measured: {error}", flush=True)
    print(f"-- everything: {time.monotonic() - began:.0f} s", flush=True)
    if sections is SECTIONS and not failed and not lab.effort.small:
        report.save(results, machine)
        chart.save()
        print(f"written to {report.RESULTS} and {chart.FILE}")
    return 1 if failed else 0


def _printed(results: Iterable[Result]) -> list[Result]:
    printed = []
    for result in results:
        print(report.line(result), flush=True)
        printed.append(result)
    return printed


if __name__ == "__main__":
    sys.exit(main())
