"""Every command of the README, as it is printed there."""

from __future__ import annotations

import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.acceptance.conftest import until
from tests.acceptance.embedded_runs import PROJECT, EmbeddedRun, script_environment
from tests.acceptance.readme import commands, moved
from tests.patience import PATIENCE_SECONDS

ORDERLY = ".venv/bin/orderly"
LABEL = (
    "curl -sS -X POST localhost:8090/decisions/ID/label -H 'Content-Type: application/json' "
    """      -d '{"label":"false_positive","reason":"the client called"}'"""
)
TRIED_ELSEWHERE = {
    "./run.sh",
    "./test.sh",
    "ORDERLY_HOME=/some/folder PORT_OFFSET=1000 ./run.sh",
    "./build_base_images.sh && ./build_run_images.sh && ./run.sh docker",
    f"{ORDERLY} new-service list_regions --query",
    f"{ORDERLY} parked retry STREAM",
    f"{ORDERLY} log copy --to URL",
    f"{ORDERLY} roles",
    "FRAUD_RULES=my_rules.toml ./run.sh",
    LABEL,
    "./loadtest.sh",
}
"""They start everything, or need an engine, a checkout or a parked stream: tests of their own."""
NO_END = re.compile(rf"{ORDERLY} (serve|log tail)")


def here(command: str, run: EmbeddedRun) -> str:
    """The command, with the ports of a run that is not the only one, and an order that there is."""
    answer = run.put(str(uuid.uuid4()))
    order_id = answer.json()["buy_order"]["id"]
    # The cookies of the scripts tell of their own orders only.
    assert order_id in run.listed_keys(answer)
    own_rules = moved(command, run).replace(
        "my_rules.toml", "codebase/views/payments/fraud_rules.toml"
    )
    return own_rules.replace("last_ref.sh ID", f"last_ref.sh {order_id}")


@pytest.fixture(scope="module")
def run(start: Callable[..., EmbeddedRun]) -> EmbeddedRun:
    return start().ready()


@contextmanager
def typed(command: str, run: EmbeddedRun) -> Iterator[subprocess.Popen[str]]:
    """The command as it is typed, and ended by Ctrl-C."""
    process = subprocess.Popen(  # noqa: S602 - as somebody types it
        f"exec {command}",
        shell=True,
        cwd=PROJECT,
        env=script_environment(run),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)


def test_what_is_tried_elsewhere_is_in_the_text() -> None:
    assert set(commands()) >= TRIED_ELSEWHERE


@pytest.mark.parametrize(
    "command",
    [one for one in commands() if one not in TRIED_ELSEWHERE and not NO_END.match(one)],
)
def test_it_works_as_printed(run: EmbeddedRun, command: str) -> None:
    done = subprocess.run(  # noqa: S602 - as somebody types it
        here(command, run),
        shell=True,
        cwd=PROJECT,
        env=script_environment(run),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"/problems/' not in done.stdout
    assert done.stdout.strip() or "nothing is parked" in done.stderr


@pytest.mark.parametrize("command", [one for one in commands() if " serve " in one])
def test_services_are_served_beside_a_run(run: EmbeddedRun, command: str) -> None:
    address = here(command, run)
    port = re.search(r"--port (\d+)", address)
    assert port, "the service's own port is taken"

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port[1]}/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    with typed(address, run) as process:
        until(is_ready, "it is not ready")
    assert process.returncode == 0


def test_the_log_is_followed(run: EmbeddedRun) -> None:
    run.put(str(uuid.uuid4()))
    with typed(f"{ORDERLY} log tail", run) as process:
        assert process.stdout is not None
        assert any("BuyOrder" in line for line in process.stdout)
