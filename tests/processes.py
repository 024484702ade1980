"""Commands and modules in processes of their own that have nothing left to import.

Nine tenths of what a service's start costs is importing. Here one process imports everything once
and is forked for each start: the same code, arguments, environment, signals and exit status as
`python -m …`, in a twentieth of the time, and patient with whom it connects to. That the real
command starts too is what `acceptance/test_embedded_run.py` shows.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO

from codebase.registry import SYSTEM
from tests.patience import PATIENCE_SECONDS, be_patient

PROJECT = Path(__file__).parents[1]
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_TEMPLATE = multiprocessing.get_context("forkserver")
_TEMPLATE.set_forkserver_preload(
    [
        "tests.processes",
        "codebase.__main__",
        *(f"codebase.services.{name}.service" for name in SYSTEM.names()),
        *(f"tests.integration.{name}" for name in ("alerts", "jobs", "payments")),
    ]
)


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
) -> BaseProcess:
    """Start `orderly ARGUMENT…` with just this environment.

    What it prints is appended to `output`, what it complains of to `errors`, by default the same.
    """
    files = (output.name, (errors or output).name)
    return _start(_be_orderly, list(arguments), dict(environment), files)


def start_module(module: Sequence[str], environment: Mapping[str, str]) -> BaseProcess:
    """Start `python -m MODULE ARGUMENT…` with just this environment; it prints where tests do."""
    return _start(_be_module, list(module), dict(environment))


def run(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `orderly ARGUMENT…` to its end."""
    with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
        process = start(arguments, environment, output, errors)
        process.join(PATIENCE_SECONDS)
        assert process.exitcode is not None, f"{arguments} takes too long"
        printed, complained = (Path(file.name).read_text() for file in (output, errors))
    return subprocess.CompletedProcess(arguments, process.exitcode, printed, complained)


def status_of(process: BaseProcess) -> int:
    """The exit status of a process that ends; negative: the signal that has ended it."""
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None, f"process {process.pid} does not end"
    return process.exitcode


def stands(process: BaseProcess) -> bool:
    """Whether a process that lives has been stopped, with all of its threads."""
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/stat"))
    try:
        states = {each.read_text().rpartition(") ")[2][0] for each in threads}
    except (FileNotFoundError, ProcessLookupError):  # a thread has ended just now
        return False
    return states == {"T"}


def go_on(process: BaseProcess) -> None:
    """Have a process that was stopped go on; nothing happens to one that runs, or has ended."""
    assert process.pid is not None
    # The template reaps its forks: this one may be gone before its status is here.
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)


def gone(process_id: int) -> bool:
    """Whether a process ends; one that only waits to be reaped has ended."""
    try:
        ended = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([ended], [], [], PATIENCE_SECONDS)[0])
    finally:
        os.close(ended)


def _start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _TEMPLATE.Process(target=target, args=arguments)
    process.start()
    return process


def _be_orderly(arguments: list[str], environment: dict[str, str], files: tuple[str, str]) -> None:
    for standard, name in zip((1, 2), files, strict=True):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, standard)
        os.close(file)
    _be_on_its_own(environment)

    from codebase.__main__ import main  # noqa: PLC0415 - the tests themselves do without

    sys.exit(main(arguments))


def _be_module(module: list[str], environment: dict[str, str]) -> None:
    _be_on_its_own(environment)
    sys.argv = module
    runpy.run_module(module[0], run_name="__main__", alter_sys=True)


def _be_on_its_own(environment: dict[str, str]) -> None:
    """What the fork does: be as a process that was started by hand, and end with the tests."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    os.chdir(PROJECT)
    os.environ.clear()
    os.environ.update(environment)
    be_patient()
