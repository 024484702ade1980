"""Accounts and agents: reads beside constants, a large report, and two hundred mixed clients."""

from __future__ import annotations

import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4

from bench.embedded import EmbeddedRun, running
from bench.lab import PROJECT, Lab, as_owner, changed
from bench.load import Answers, get_pages, open_accounts, put_orders
from bench.measure import BenchError, alternate
from bench.people import found_company
from bench.report import Result, at_least, at_most, below

AGENTS = 100_000
REPORTED_AGENTS = 1_000
BLOCKED_AGENTS = 2_000
CONNECTIONS = 64
ROUNDS = 3
RUN_SECONDS = 2
COMMAND_ROUNDS = 3
REPORT_RUNS = 3
CLIENTS = 200
REPORT_SECONDS = 1
LOAD_SECONDS = 20
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
    yield from _commands(lab)
    yield from _queries(lab)


def _commands(lab: Lab) -> Iterator[Result]:
    """Opening accounts, and blocking agents who are there, beside orders on the same log."""
    settings = lab.stores("account_commands")
    agents = found_company(settings, [1] * lab.effort.count(BLOCKED_AGENTS)).agent_ids
    # So far behind each other that nobody is unblocked before the answer to being blocked.
    switches = lab.folder / "switches"
    switches.write_text(
        "".join(
            f"/agents/{switch}/{agent}\n"
            for switch in ("block_agent", "unblock_agent")
            for agent in agents
        ),
        encoding="ascii",
    )
    prices = lab.serve(settings, "btc_price")
    settings = changed(settings, btc_price_url=prices)
    orders = lab.serve(settings, "create_buy_order")
    accounts, blocks = lab.serve(settings, "create_account"), lab.serve(settings, "block_agent")
    seconds = lab.effort.seconds(RUN_SECONDS)
    loads = {
        "create_account": partial(open_accounts, accounts),
        "block_agent": partial(get_pages, blocks, switches, method="POST"),
        "order": partial(put_orders, orders),
    }

    def run(load: Callable[..., Answers]) -> float:
        return load(connections=CONNECTIONS, seconds=seconds).all_good().per_second

    if lab.effort.warms_up:
        for load in loads.values():
            run(load)
    numbers = alternate(
        lab.effort.rounds(COMMAND_ROUNDS),
        {name: partial(run, load) for name, load in loads.items()},
    )
    for name in ("create_account", "block_agent"):
        yield Result(name=name, value=numbers.median(name), unit="/s")
        yield Result(
            name=f"{name} ÷ durable PUT /buy_order",
            value=numbers.ratio(name, "order"),
            unit="ratio",
        )


def _queries(lab: Lab) -> Iterator[Result]:
    settings = lab.stores("accounts")
    account, agent = uuid4(), uuid4()
    agents = lab.effort.count(AGENTS)
    with as_owner(settings, "read_model") as owner:
        numbers = {"account": account, "agent": agent, "reported": REPORTED_AGENTS}
        owner.execute(FILL_ACCOUNTS, {**numbers, "accounts": agents // 10})
        owner.execute(FILL_AGENTS, {**numbers, "agents": agents})
        owner.execute("VACUUM (ANALYZE) account, agent")
    service = lab.serve(settings, "fetch_accounts", "fetch_agents")
    paths = {
        "get_account": f"/accounts/{account}",
        "get_agent": f"/accounts/{account}/agents/{agent}",
    }
    for name, path in paths.items():
        yield from _beside_a_constant(lab, service, name, path)
    yield _report(lab, service, account)


def _beside_a_constant(lab: Lab, service: str, name: str, path: str) -> Iterator[Result]:
    content = lab.folder / f"{name}.json"
    with urllib.request.urlopen(service + path, timeout=10) as answer:  # noqa: S310 - ours
        content.write_bytes(answer.read())
    port = lab.ports.free_port()
    settings = lab.stores(f"{name}_constant")
    constant = lab.start(settings, ["bench.stand_ins", "get", str(port), str(content)], port)
    asked = _file(lab, name, path)

    def per_second(address: str) -> float:
        seconds = lab.effort.seconds(RUN_SECONDS)
        answers = get_pages(address, asked, connections=CONNECTIONS, seconds=seconds)
        return answers.all_good().per_second

    numbers = alternate(
        lab.effort.rounds(ROUNDS),
        {"service": lambda: per_second(service), "constant": lambda: per_second(constant)},
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
    seconds = lab.effort.seconds(REPORT_SECONDS)
    runs = [
        get_pages(service, asked, connections=1, seconds=seconds, method="POST").all_good().p50_ms
        for _ in range(lab.effort.rounds(REPORT_RUNS))
    ]
    return Result(
        name=f"company report of {REPORTED_AGENTS:,} agents, p50",
        value=median(runs),
        unit="ms",
        target=below(20),
    )


def measure_mixed_clients(lab: Lab) -> Iterator[Result]:
    """The load test's own traffic, on a whole system of its own."""
    if not LOCUST.exists():
        raise BenchError(f"no {LOCUST}: ./bench.sh makes its environment")
    seconds = max(1, lab.effort.seconds(LOAD_SECONDS))
    folder = Path(tempfile.mkdtemp(prefix="load-", dir=lab.folder))
    # For who runs the servers, who is somebody else than root.
    folder.chmod(0o711)
    with running(lab, folder / "home") as run:
        tasks = _locust(run, seconds)
    yield Result(
        name=f"{CLIENTS} mixed clients, {LOAD_SECONDS} s: requests that failed",
        value=sum(task.failures for task in tasks),
        unit="",
        target=at_most(0),
        together=max,
    )
    requests = sum(task.requests for task in tasks)
    yield Result(name="  requests answered", value=requests / seconds, unit="/s")
    for task in sorted(tasks, key=attrgetter("name")):
        yield Result(
            name=f"  p95 of {task.name}", value=_p95_ms(task), unit="ms", target=below(100)
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What Locust counted of one kind of request.

    Args:
        name: of the kind.
        requests: how many were sent.
        failures: how many of them failed.
        histogram: rounded milliseconds -> how many answers took that long.
    """

    name: str
    requests: int
    failures: int
    histogram: Mapping[str, int]


def _locust(run: EmbeddedRun, seconds: float) -> list[Task]:
    """What Locust counted, task by task.

    Raises:
        BenchError: it did not run.
    """
    command = [
        *(str(LOCUST), "--locustfile", str(PROJECT / "loadtest" / "locustfile.py")),
        *("--host", run.address("account_management"), "--headless", "--json"),
        *("--users", str(CLIENTS), "--spawn-rate", "50", "--run-time", f"{seconds:.0f}s"),
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
    tasks = (
        Task(
            name=task["name"],
            requests=task["num_requests"],
            failures=task["num_failures"],
            histogram=task["response_times"],
        )
        for task in json.loads(done.stdout[begin:])
    )
    return [task for task in tasks if task.requests]


def _p95_ms(task: Task) -> float:
    left = 0.95 * sum(task.histogram.values())
    for milliseconds, count in sorted((float(key), n) for key, n in task.histogram.items()):
        left -= count
        if left <= 0:
            return milliseconds
    raise BenchError("Locust counted nothing")
