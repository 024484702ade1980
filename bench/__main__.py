"""Measure everything, or the sections that are named: `python -m bench [SECTION…]`.

Prints a table. A complete run writes bench/results.json and bench/machine.json. A missed target is
a finding and not a failure: the exit status is 1 only when something could not be measured.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import psycopg

from bench import report
from bench.lab import Lab
from bench.measure import BenchError
from bench.report import Result
from bench.sections import accounts, bus, live, log, pages, put, start, streams, teams
from codebase.embedded.errors import ServerError

SECTIONS: Mapping[str, Callable[[Lab], Iterator[Result]]] = {
    "put": put.measure,
    "bus": bus.measure,
    "streams": streams.measure,
    "bulk": log.measure_bulk,
    "growth": log.measure_growth,
    "rebuild": log.measure_rebuild,
    "pages": pages.measure,
    "accounts": accounts.measure,
    "teams": teams.measure,
    "live": live.measure,
    "start": start.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    chosen = parser.parse_args(arguments).sections or list(SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there is: {', '.join(SECTIONS)}")
    # Everything that was started is ended on the way out.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with Lab.open() as lab:
        return _run(lab, chosen)


def _run(lab: Lab, chosen: Sequence[str]) -> int:
    machine = report.describe_machine(lab.write.major)
    print("; ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    results: list[Result] = []
    failed = False
    for name in chosen:
        started = time.monotonic()
        try:
            for result in SECTIONS[name](lab):
                results.append(result)
                print(report.line(result), flush=True)
        except (BenchError, ServerError, psycopg.Error) as error:
            failed = True
            print(f"{name} could not be measured: {error}", flush=True)
        print(f"-- {name}: {time.monotonic() - started:.0f} s", flush=True)
    if set(chosen) == set(SECTIONS) and not failed:
        report.save(results, machine)
        print(f"written to {report.RESULTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
