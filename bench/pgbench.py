"""Statements that pgbench sends to the cluster of write models as fast as they are answered."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.lab import PASSWORD, Lab
from bench.measure import BenchError
from codebase.embedded.databases import OWNER

CLIENTS = 32
THREADS = 2


def per_second(lab: Lab, database: str, script: Path, seconds: float) -> Callable[[], float]:
    """A run of pgbench: 32 clients, a statement each time, prepared.

    Args:
        lab: whose cluster of write models it is.
        database: in that cluster, as its owner.
        script: a file with the statement.
        seconds: how long a run takes; whole ones, and one at least.

    Raises:
        BenchError: by the run, when statements failed.
    """
    command = [
        *(
            str(lab.write.program("pgbench")),
            "--no-vacuum",
            "--protocol=prepared",
            f"--file={script}",
        ),
        *(f"--client={CLIENTS}", f"--jobs={THREADS}"),
        # On a busy machine a second may be over before the first statement.
        "--transactions=2" if lab.effort.small else f"--time={max(1, round(seconds))}",
        *("--host=127.0.0.1", f"--port={lab.write.port}", f"--username={OWNER}"),
        database,
    ]

    def run() -> float:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "", "PGPASSWORD": PASSWORD},
        )
        found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
        if done.returncode != 0 or found is None:
            raise BenchError(f"pgbench failed: {(done.stdout + done.stderr)[-500:]}")
        return float(found[1])

    return run


def quoted(text: str) -> str:
    """A text as a literal of a script."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    # A colon before a letter would be a variable of pgbench's.
    return "E'" + escaped.replace(":", r"\x3a") + "'"
