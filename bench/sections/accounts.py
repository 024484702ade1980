"""Accounts and agents: reads beside constants, a large report, and two hundred mixed clients."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID, uuid4

from bench.embedded import EmbeddedRun, running
from bench.lab import PROJECT, Lab, as_owner
from bench.load import get_pages
from bench.measure import BenchError, alternate
from bench.report import Result, at_least, at_most, below

AGENTS = 100_000
REPORTED_AGENTS = 1_000
CONNECTIONS = 64
ROUNDS = 5
RUN_SECONDS = 2
REPORT_RUNS = 5
CLIENTS = 200
LOAD_SECONDS = 30
LOCUST = PROJECT / ".venv-loadtest" / "bin" / "locust"

FILL_ACCOUNTS = """
    INSERT INTO account (id, client, name, email, region, vip)
    SELECT CASE number WHEN 1 THEN %(account)s ELSE gen_random_uuid() END, 'local',
           'account ' || number, number || '@load.example', 'emea', false
    FROM generate_series(1, %(accounts)s) AS number
"""
# The reported account has a thousand of them; the others' accounts are of no interest.
FILL_AGENTS = """
    INSERT INTO agent (id, account_id, client, name, email, blocked)
    SELECT CASE number WHEN 1 THEN %(agent)s ELSE gen_random_uuid() END,
           CASE WHEN number <= %(reported)s THEN %(account)s ELSE gen_random_uuid() END,
           'local', 'agent ' || number, number || '@agents.example', false
    FROM generate_series(1, %(agents)s) AS number
"""


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about accounts and agents."""
    settings = lab.stores("accounts")
    account, agent = uuid4(), uuid4()
    with as_owner(settings, "read_model") as owner:
        numbers = {"account": account, "agent": agent, "reported": REPORTED_AGENTS}
        owner.execute(FILL_ACCOUNTS, {**numbers, "accounts": AGENTS // 10})
        owner.execute(FILL_AGENTS, {**numbers, "agents": AGENTS})
        owner.execute("VACUUM (ANALYZE) account, agent")
    service = lab.serve(settings, "fetch_accounts", "fetch_agents")
    paths = {
        "get_account": f"/accounts/{account}",
        "get_agent": f"/accounts/{account}/agents/{agent}",
    }
    for name, path in paths.items():
        yield from _beside_a_constant(lab, service, name, path)
    yield _report(lab, service, account)
    yield from _mixed_clients(lab)


def _beside_a_constant(lab: Lab, service: str, name: str, path: str) -> Iterator[Result]:
    content = lab.folder / f"{name}.json"
    with urllib.request.urlopen(service + path, timeout=10) as answer:  # noqa: S310 - ours
        content.write_bytes(answer.read())
    port = lab.free_port()
    settings = lab.stores(f"{name}_constant")
    constant = lab.start(settings, ["bench.stand_ins", "get", str(port), str(content)], port)
    asked = _file(lab, name, path)

    def per_second(address: str) -> float:
        answers = get_pages(address, asked, connections=CONNECTIONS, seconds=RUN_SECONDS)
        return answers.all_good().per_second

    numbers = alternate(
        ROUNDS, {"service": lambda: per_second(service), "constant": lambda: per_second(constant)}
    )
    yield Result(name=name, value=numbers.median("service"), unit="/s")
    yield Result(
        name="  beside it: the same route answering a constant of the same size",
        value=numbers.median("constant"),
        unit="/s",
    )
    yield Result(
        name=f"{name} ÷ the same route answering a constant",
        value=numbers.ratio("service", "constant"),
        unit="ratio",
        target=at_least(0.4),
    )


def _file(lab: Lab, name: str, path: str) -> Path:
    written = lab.folder / f"{name}.path"
    written.write_text(f"{path}\n", encoding="ascii")
    return written


def _report(lab: Lab, service: str, account: UUID) -> Result:
    asked = _file(lab, "report", f"/accounts/generate_company_report/{account}")
    runs = [
        get_pages(service, asked, connections=1, seconds=1, method="POST").all_good().p50_ms
        for _ in range(REPORT_RUNS)
    ]
    return Result(
        name=f"company report of {REPORTED_AGENTS:,} agents, p50",
        value=sorted(runs)[REPORT_RUNS // 2],
        unit="ms",
        target=below(20),
    )


def _mixed_clients(lab: Lab) -> Iterator[Result]:
    """The load test's own traffic, on a whole system of its own."""
    with running(lab, lab.folder / "load") as run:
        tasks = _locust(run)
    failures = sum(task["num_failures"] for task in tasks)
    yield Result(
        name=f"{CLIENTS} mixed clients, {LOAD_SECONDS} s: requests that failed",
        value=failures,
        unit="",
        target=at_most(0),
    )
    requests = sum(task["num_requests"] for task in tasks)
    yield Result(name="  requests answered", value=requests / LOAD_SECONDS, unit="/s")
    by_p95 = sorted(tasks, key=_p95_ms)
    for task in by_p95:
        yield Result(
            name=f"  p95 of {task['name']}", value=_p95_ms(task), unit="ms", target=below(100)
        )


def _locust(run: EmbeddedRun) -> list[Mapping[str, object]]:
    """What Locust counted, task by task.

    Raises:
        BenchError: it did not run.
    """
    command = [
        *(str(LOCUST), "--locustfile", str(PROJECT / "loadtest" / "locustfile.py")),
        *("--host", run.address("account_management"), "--headless", "--json"),
        *("--users", str(CLIENTS), "--spawn-rate", "50", "--run-time", f"{LOAD_SECONDS}s"),
        # What counts is the time when all of them are there.
        *("--reset-stats", "--loglevel", "ERROR"),
    ]
    broker = run.settings().broker_url
    environment = {"BROKER_URL": broker} if broker else {}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=PROJECT
    )
    begin = done.stdout.find("[")
    if begin < 0:
        raise BenchError(f"Locust failed: {(done.stdout + done.stderr)[-500:]}")
    counted: list[Mapping[str, object]] = json.loads(done.stdout[begin:])
    return [task for task in counted if task["num_requests"]]


def _p95_ms(task: Mapping[str, object]) -> float:
    """From Locust's own histogram, whose keys are rounded milliseconds."""
    histogram = task["response_times"]
    assert isinstance(histogram, dict)  # noqa: S101 - Locust's format
    left = 0.95 * sum(histogram.values())
    for milliseconds, count in sorted((float(key), count) for key, count in histogram.items()):
        left -= count
        if left <= 0:
            return milliseconds
    raise BenchError("Locust counted nothing")
