"""The `orderly` command on stores: lines for scripts, JSON for programs, tables for people."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from uuid import UUID, uuid4

import pytest

from tests import processes
from tests.integration.flow import eventually, is_projected, place_orders, projecting
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
PARK = """
    INSERT INTO parked_stream (projector, stream_id, category, partition, reason)
    VALUES ('billing', %(stream_id)s, 'agent', 0, 'CheckViolation [23514]')
"""


def environment(databases: Databases) -> dict[str, str]:
    addresses = databases.settings.model_dump(exclude_defaults=True)
    return {
        "PATH": os.environ["PATH"],
        "ORDERLY_HOME": "/nonexistent",
        **{field.upper(): str(value) for field, value in addresses.items()},
    }


def orderly(databases: Databases, *arguments: str) -> subprocess.CompletedProcess[str]:
    return processes.run(arguments, environment(databases))


def on_a_terminal(databases: Databases, *arguments: str, output: IO[bytes] | None = None) -> str:
    """What is shown on a terminal 200 columns wide, where `output` does not go elsewhere."""
    wide = {**environment(databases), "TERM": "xterm", "COLUMNS": "200"}
    ours, theirs = pty.openpty()
    try:
        with Path(os.ttyname(theirs)).open("wb", buffering=0) as screen:
            process = processes.start(arguments, wide, output or screen, screen)
            shown = everything_of(process, ours)
        processes.status_of(process)
        return ESCAPES.sub("", shown)
    finally:
        os.close(theirs)
        os.close(ours)


def everything_of(process: BaseProcess, terminal: int) -> str:
    """What it shows until it ends; on a terminal that nobody reads there is room for little."""
    os.set_blocking(terminal, False)
    shown = b""
    happened: list[object] = []
    while process.sentinel not in happened:
        happened = list(wait([terminal, process.sentinel], PATIENCE_SECONDS))
        assert happened, f"{process.pid} shows nothing and does not end"
        with contextlib.suppress(BlockingIOError):
            while part := os.read(terminal, 10_000):
                shown += part
    return shown.decode()


def projected_orders(databases: Databases, count: int) -> list[UUID]:
    orders = place_orders(databases, count)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    return orders


def test_what_is_parked_is_a_line_an_object_or_a_row(databases: Databases) -> None:
    nothing = orderly(databases, "parked", "list")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "nothing is parked\n"
    assert orderly(databases, "parked", "list", "--json").stdout == ""
    stream = uuid4()
    with databases.as_read_model_owner() as store:
        store.execute(PARK, {"stream_id": stream})
    [line] = orderly(databases, "parked", "list").stdout.splitlines()
    assert line.startswith(f"{stream} agent, parked by billing: 0 events wait")
    [parked] = map(json.loads, orderly(databases, "parked", "list", "--json").stdout.splitlines())
    assert parked["stream_id"] == str(stream)
    assert parked["reason"] == "CheckViolation [23514]"
    header, row = on_a_terminal(databases, "parked", "list").splitlines()
    assert "parked by" in header
    assert row.startswith(str(stream))
    assert "CheckViolation [23514]" in row


def test_a_stream_is_shown_as_lines_objects_or_rows(databases: Databases) -> None:
    order, other = place_orders(databases, 2)
    [line] = orderly(databases, "log", "show", str(order)).stdout.splitlines()
    assert f" buy_order {order} v1 BuyOrderPlaced {{" in line
    events = orderly(databases, "log", "show", "--json").stdout.splitlines()
    assert {json.loads(event)["stream_id"] for event in events} == {str(order), str(other)}
    assert {json.loads(event)["data"]["currency"] for event in events} == {"USD"}
    header, row, *_ = on_a_terminal(databases, "log", "show", str(order)).splitlines()
    assert header.startswith("stream")
    assert row.startswith(str(order))


def test_a_stream_that_is_not_there_is_said_not_to_be(databases: Databases) -> None:
    unknown = uuid4()
    answered = orderly(databases, "log", "show", str(unknown))
    assert (answered.returncode, answered.stdout) == (1, "")
    assert answered.stderr == f"orderly: there is no stream {unknown}\n"


def test_programs_read_what_was_verified_rebuilt_and_migrated(databases: Databases) -> None:
    orders = projected_orders(databases, 3)
    assert json.loads(orderly(databases, "migrate", "--json").stdout) == {"applied": []}
    verified = orderly(databases, "verify", "--json")
    assert verified.returncode == 0
    assert json.loads(verified.stdout) == {"projectors": ["read_model_sync"], "differences": []}
    with databases.as_read_model_owner() as store:
        store.execute("DELETE FROM buy_order WHERE id = %s", [orders[0]])
    differs = orderly(databases, "verify", "--json")
    assert differs.returncode == 1
    assert json.loads(differs.stdout)["differences"] == [f"buy_order {orders[0]}: is missing"]
    rebuilt = orderly(databases, "rebuild", "buy_orders", "--json")
    report = json.loads(rebuilt.stdout)
    assert (report["view"], report["events"], report["differing_rows"]) == ("buy_orders", 3, 1)
    assert "buy_orders now serves 3 events" in rebuilt.stderr
    assert orderly(databases, "verify").stdout == "everything is as the log says: read_model_sync\n"


@pytest.mark.parametrize("arguments", [("verify",), ("rebuild", "buy_orders")], ids=" ".join)
def test_a_terminal_sees_how_far_it_is_and_a_file_only_the_result(
    databases: Databases, arguments: tuple[str, ...]
) -> None:
    missing, *_ = projected_orders(databases, 3)
    with databases.as_read_model_owner() as store:
        store.execute("DELETE FROM buy_order WHERE id = %s", [missing])
    with tempfile.NamedTemporaryFile() as file:
        shown = on_a_terminal(databases, *arguments, output=cast("IO[bytes]", file))
        printed = Path(file.name).read_text()
    assert "3/3 events" in shown
    assert str(missing) in printed
    assert not {"\x1b", "━"} & set(printed)
    assert str(missing) not in shown


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    done = processes.run(["up"], {"PATH": os.environ["PATH"], "ORDERLY_HOME": str(home)})
    told = f"orderly: ORDERLY_HOME: {home} cannot be made: Not a directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


WRONG = {
    "a wrong variable": ({"PARTITIONS": "many"}, 2, "PARTITIONS: Input should be a valid integer"),
    "no store": ({}, 2, "WRITE_MODEL_URL is not set"),
    "several": ({"PARTITIONS": "0", "API_TOKENS": "x"}, 2, "PARTITIONS: "),
}


@pytest.mark.parametrize(("variables", "status", "problem"), WRONG.values(), ids=WRONG.keys())
def test_why_a_service_does_not_start_is_a_record_of_its_log(
    variables: dict[str, str], status: int, problem: str, tmp_path: Path
) -> None:
    surroundings = {"PATH": os.environ["PATH"], "ORDERLY_HOME": str(tmp_path), **variables}
    done = processes.run(["serve", "create_account", "create_agent"], surroundings)
    assert (done.returncode, done.stdout) == (status, "")
    (record,) = map(json.loads, done.stderr.splitlines())
    assert (record["level"], record["event"]) == ("ERROR", "not_started")
    assert record["service"] == "create_account+create_agent"
    assert record["problem"].startswith(problem)


def test_a_port_that_somebody_has_is_a_record_after_the_others(databases: Databases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = processes.run(["serve", "btc_price", "--port", port], environment(databases))
    *_, record = map(json.loads, (done.stdout + done.stderr).splitlines())
    assert (done.returncode, record["event"]) == (2, "not_started")
    assert port in record["problem"]


def test_a_person_reads_why_a_service_does_not_start_in_a_sentence(databases: Databases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        shown = on_a_terminal(databases, "serve", "btc_price", "--port", port)
    assert re.search(rf"^orderly: .*{port}", shown, re.MULTILINE)
    assert "not_started" not in shown


def test_what_draws_is_loaded_by_nobody_who_serves() -> None:
    check = (
        "import sys; import codebase.__main__ as it; it.main(['serve', '--nonsense']);"
        " it.SYSTEM.load('fetch_buy_orders');"
        " assert not {'rich', 'yoyo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)
