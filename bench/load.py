"""Load over HTTP, made by wrk with the scripts in `lua/`."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError

SCRIPTS = Path(__file__).parent / "lua"
TIMEOUT_SECONDS = 30
"""What is answered later is late, and counted as such; only after this it is broken."""
TRIES = 30
"""Of a run that is to show nothing but that there are answers: a busy machine may stand still."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one run of wrk saw.

    `refused` counts answers of status 400 and above, `broken` requests that were never answered.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    def all_good(self) -> Answers:
        """These answers, provided that none was an error.

        Raises:
            BenchError: some were, or there was none; a number that counts errors as work would be
                a lie.
        """
        if self.requests == 0:
            raise BenchError("not one request was answered")
        if self.refused or self.broken:
            raise BenchError(
                f"of {self.requests} requests {self.refused} were refused, {self.broken} broken"
            )
        return self


def put_orders(
    address: str, *, connections: int, seconds: float, repeated: float = 0, pace: float = 0
) -> Answers:
    """Place buy orders with keys that no other run uses.

    Args:
        address: host and port, `http://127.0.0.1:8777`.
        connections: how many clients, each waiting for its answer before it sends the next.
        seconds: how long; whole ones, and one at least.
        repeated: the share of requests that repeat an earlier one, 0 to 1.
        pace: requests per second in all; 0 means as fast as the answers come.
    """
    run = secrets.token_hex(4)
    return _wrk(address, "put.lua", connections, seconds, [run, str(repeated), str(pace)])


def open_accounts(address: str, *, connections: int, seconds: float) -> Answers:
    """Open accounts with keys and e-mail addresses that no other run uses."""
    return _wrk(address, "accounts.lua", connections, seconds, [secrets.token_hex(4)])


def pay_by_card(address: str, *, connections: int, seconds: float) -> Answers:
    """Pay for orders with keys that no other run uses, each by another card."""
    return _wrk(address, "pay.lua", connections, seconds, [secrets.token_hex(4)])


def get_pages(
    address: str, paths: Path, *, connections: int, seconds: float, method: str = "GET"
) -> Answers:
    """Ask for what the paths in the file `paths` name, in turn, for so many seconds."""
    return _wrk(address, "get.lua", connections, seconds, [str(paths), method])


def _wrk(
    address: str, script: str, connections: int, seconds: float, arguments: Sequence[str]
) -> Answers:
    # Less than a second is no measurement, for which a standstill would count.
    tries = TRIES if seconds < 1 else 1
    for _ in range(tries):
        answers = _wrk_once(address, script, connections, seconds, arguments)
        if answers.requests or answers.broken:
            break
    return answers


def _wrk_once(
    address: str, script: str, connections: int, seconds: float, arguments: Sequence[str]
) -> Answers:
    # One thread makes more requests than both cores could answer.
    duration = max(1, round(seconds))
    command = [
        *("wrk", "-t1", f"-c{connections}", f"-d{duration}s", f"--timeout={TIMEOUT_SECONDS}s"),
        *("-s", script, address),
    ]
    done = subprocess.run(
        [*command, "--", *arguments], cwd=SCRIPTS, capture_output=True, text=True, check=False
    )
    last = done.stdout.splitlines()[-1:]
    if done.returncode != 0 or not last or not last[0].startswith("{"):
        raise BenchError(f"wrk failed: {(done.stdout + done.stderr)[-500:]}")
    return Answers(**json.loads(last[0]))
