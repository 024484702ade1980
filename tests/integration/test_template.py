"""Processes that are forked from the template are as good as those that were started.

The template has to be forked by a process without threads, which pytest is not: each test is a
script of its own, whose `main` is what the forks run.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_SECONDS
from tests.processes import gone

PREAMBLE = """
import json, os, signal, subprocess, sys, threading, time
from pathlib import Path
from codebase.embedded.keeper import Keeper, Program
from codebase.embedded.supervisor import LogFile, Supervised
from codebase.embedded.template import Template

def program(*arguments, **others):
    known = {"command": ["sh", "-c", "echo not forked"], "environment": {"PATH": os.defpath}}
    return Program(name="forked", arguments=arguments, **known | others)

def template_of(process):
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])

"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A script to its end; what it prints is JSON lines."""
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def lines(script: str, *arguments: object) -> list[Any]:
    """What a script printed that ended well."""
    done = run(script, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_fork_has_its_own_environment_folder_and_session_and_no_file_of_others(
    tmp_path: Path,
) -> None:
    script = """
def main(arguments):
    print(json.dumps({
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "input": sys.stdin.read(),
        "files": sorted(file.readlink().name.split(":")[0]
                        for file in Path("/proc/self/fd").iterdir() if file.exists()),
        "title": Path("/proc/self/cmdline").read_text().strip("\\0"),
        "signals": [signal.getsignal(n) == default for n, default in (
            (signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler))],
    }), flush=True)
    return 0

# A shell's background job begins with this one ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Template(main) as template, Keeper(template=template) as keeper:
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    secret = open(os.devnull)
    others = [keeper.start(program("other")) for _ in range(2)]
    process = keeper.start(program("serve", "it", directory=Path(sys.argv[1]),
                                   environment={"ONLY": "this"}))
    sys.stdout.write(process.stderr.read().decode())
"""
    (seen,) = lines(script, tmp_path)
    assert seen == {
        "arguments": ["serve", "it"],
        "environment": {"ONLY": "this"},
        "folder": str(tmp_path),
        "leads": True,
        "input": "",
        # Its input, and both outputs in one pipe; where it reports, and what shows that it lives.
        "files": ["null", "pipe", "pipe", "pipe", "socket"],
        "title": "sh -c echo not forked",
        "signals": [True, True],
    }


def test_the_supervisor_is_told_how_a_fork_ended() -> None:
    script = """
def main(arguments):
    if arguments[0] == "raise":
        raise LookupError("what is that?")
    if arguments[0] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return int(arguments[0])

with Template(main) as template, Keeper(template=template) as keeper:
    for argument in ("0", "3", "die", "raise"):
        process = keeper.start(program(argument))
        said = process.stderr.read().decode()
        print(json.dumps([process.wait(), process.poll(), said.splitlines()[-1:]]))
"""
    assert lines(script) == [
        [0, 0, []],
        [3, 3, []],
        [-signal.SIGKILL, -signal.SIGKILL, []],
        [1, 1, ["LookupError: what is that?"]],
    ]


def test_a_fork_that_crashed_is_forked_again_as_if_it_had_never_been(tmp_path: Path) -> None:
    script = """
STARTS = []

def main(arguments):
    STARTS.append(arguments)
    print(os.getpid(), os.getppid(), len(STARTS), flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

with Template(main) as template, Keeper(template=template) as keeper:
    said, seen = [], []
    three_times = threading.Semaphore(0)
    def announce(sentence):
        said.append(sentence)
        three_times.release()
    supervised = Supervised(keeper=keeper, program=program(), log=LogFile(Path(sys.argv[1])),
                            announce=announce, on_line=lambda line: seen.append(line.split()))
    supervised.start()
    for _ in range(3):
        three_times.acquire()
    supervised.stop()
    print(json.dumps({"said": said[:3], "seen": [[*map(int, line)] for line in seen[:3]]}))
"""
    (told,) = lines(script, tmp_path / "log")
    assert all("forked ended unexpectedly (killed by SIGSEGV)" in line for line in told["said"])
    assert len({process_id for process_id, _, _ in told["seen"]}) == 3
    assert len({parent for _, parent, _ in told["seen"]}) == 1
    assert [starts for _, _, starts in told["seen"]] == [1, 1, 1]


def test_a_killed_template_takes_nobody_along_and_what_starts_next_starts_by_itself() -> None:
    script = """
def main(arguments):
    print("waiting", flush=True)
    signal.pause()

with Template(main) as template, Keeper(template=template) as keeper:
    process = keeper.start(program())
    said = [process.stderr.readline().decode()]
    parent = template_of(process)
    os.kill(parent, signal.SIGKILL)
    os.waitid(os.P_PID, parent, os.WEXITED | os.WNOWAIT)
    next = keeper.start(program())
    said.append(next.stderr.read().decode())
    next.wait()
    lives = process.poll() is None
    keeper.stop(process)
    print(json.dumps({"said": said, "lives": lives, "code": process.returncode}))
"""
    # Nobody was there to see how it ended.
    assert lines(script) == [
        {"said": ["waiting\n", "not forked\n"], "lives": True, "code": 255},
    ]


def test_a_supervisor_killed_right_after_forks_leaves_neither_them_nor_the_template() -> None:
    script = """
def main(arguments):
    signal.pause()

template = Template(main)
keeper = Keeper(template=template)
processes = [keeper.start(program()) for _ in range(20)]
print(json.dumps([template_of(processes[0]), *(process.pid for process in processes)]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = run(script)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    started = json.loads(killed.stdout)
    assert len(set(started)) == 21
    assert [process_id for process_id in started if not gone(process_id)] == []


def test_a_process_with_threads_is_not_forked() -> None:
    script = """
threading.Thread(target=threading.Event().wait, daemon=True).start()
Template(lambda arguments: 0)
"""
    done = run(script)
    assert done.returncode == 1
    assert "forked before there are threads" in done.stderr
