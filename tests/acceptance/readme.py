"""What README has people type, and how it is typed at a run that is not the only one."""

from __future__ import annotations

import re

from tests.acceptance.embedded_runs import PROJECT, EmbeddedRun

README = (PROJECT / "README.md").read_text(encoding="utf-8")
REMARK = re.compile(r"\s+# .*$", re.MULTILINE)


def commands() -> list[str]:
    """In the order of the text, without remarks; what goes on in the next line is one command."""
    text = README.replace("\\\n", "")
    lines = re.findall(r"^    ((?:\./|\.venv/|curl |[A-Z_]+=).*)$", text, re.MULTILINE)
    return [REMARK.sub("", line) for line in lines]


def printed(beginning: str) -> str:
    """The first thing to type that begins so, with all its lines, without remarks."""
    found = re.search(rf"^    ({re.escape(beginning)}.*(?:\n {{5,}}.*)*)", README, re.MULTILINE)
    assert found, f"README has nobody type {beginning!r}"
    return REMARK.sub("", found[1])


def moved(command: str, run: EmbeddedRun) -> str:
    """The command with the ports of the run."""
    return re.sub(
        r"(?<=localhost:)\d+|(?<=--port )\d+",
        lambda port: str(int(port[0]) + run.offset),
        command,
    )
