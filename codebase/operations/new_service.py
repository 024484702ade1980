"""Writes a new service into a checkout: its folder, its test, and where else it has to be known.

The templates beside this are files as a colleague would have typed them, for a service `verb_noun`
on port 8799 that answers at `/noun`. Everything is made in memory first: a name that is refused, or
a place that is not found, leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from codebase.operations import OperationError

TEMPLATES = Path(__file__).parent / "templates" / "new_service"
TEMPLATE_NAME, TEMPLATE_PATH, TEMPLATE_PORT = "verb_noun", "/noun", "8799"

NAME = re.compile(r"[a-z]+(_[a-z0-9]+)+", re.ASCII)
NAME_MAX = 30
"""It becomes a part of names of queues, tables and modules, and of lines of code."""
PORTS = range(8783, 8900)

README, COMPOSE = "README.md", "docker-compose.yml"
GATEWAY, METRICS = "config/nginx/nginx.conf", "config/prometheus/prometheus.yml"
MARK_OF_ROW = re.compile(r"\||\s+- ")
"""What rows of a table, and items of a list, begin with."""
MIGRATIONS = "migrations/read_model"


class NewServiceError(OperationError):
    """The service cannot be written; nothing was."""


class Kind(StrEnum):
    """What a service does."""

    COMMAND = "command"
    QUERY = "query"
    WORKER = "worker"


DOES: Mapping[Kind, str] = {
    Kind.COMMAND: "`POST /noun`",
    Kind.QUERY: "`GET /noun`",
    Kind.WORKER: "follows accounts",
}
COMPOSE_ENVIRONMENT: Mapping[Kind, str] = {
    Kind.COMMAND: "*everyone, *commands",
    Kind.QUERY: "*everyone, *queries",
    Kind.WORKER: "*everyone, *projectors, *broker",
}
NEXT: Mapping[Kind, str] = {
    Kind.COMMAND: "what a client sends, and which command of codebase/model it stands for",
    Kind.QUERY: "what is read, from which view of codebase/services/read_model_sync",
    Kind.WORKER: "in projections.py, which events make which rows; in the migration, the table",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Insertion:
    """Lines that a file of the checkout gets.

    Args:
        file: below the checkout.
        beside: how the line begins that they go next to.
        lines: to insert.
        where: before that line, after it, last in the table that it begins, or sorted into the
            list that it begins.
    """

    file: str
    beside: str
    lines: str
    where: Literal["before", "after", "last", "sorted"] = "after"

    def into(self, text: str) -> str:
        """The file's text with the lines.

        Raises:
            NewServiceError: it has no such line.
        """
        rows = text.splitlines(keepends=True)
        found = [number for number, row in enumerate(rows) if row.startswith(self.beside)]
        if not found:
            raise NewServiceError(f"{self.file} has no line that begins with {self.beside!r}")
        at = found[0] + (self.where != "before")
        while at < len(rows) and self._comes_after(rows[at]):
            at += 1
        return "".join([*rows[:at], self.lines, *rows[at:]])

    def _comes_after(self, row: str) -> bool:
        """Whether the lines come after this row of the table or of the list."""
        mark = MARK_OF_ROW.match(self.lines)
        if self.where in {"before", "after"} or mark is None or not row.startswith(mark[0]):
            return False
        return self.where == "last" or row < self.lines


def new_service(root: Path, name: str, kind: Kind, ports: Mapping[str, int]) -> list[str]:
    """Write a service into a checkout.

    Args:
        root: of the checkout.
        name: verb_noun.
        kind: of the service.
        ports: every service and group of services there is, with its port.

    Returns:
        What was written, below the root, and then what to do next, as sentences.

    Raises:
        NewServiceError: says why nothing was written.
    """
    _refuse_bad_name(root, name, ports)
    port = next((port for port in PORTS if port not in ports.values()), None)
    if port is None:
        raise NewServiceError(f"no port is free from {PORTS[0]} to {PORTS[-1]}")
    files = _new_files(root, name, kind, port)
    # pytest wants names of tests to be unique in all folders together.
    there = [each for each in files if (root / each).exists()]
    there += [str(each.relative_to(root)) for each in root.glob(f"tests/*/test_{name}.py")]
    if there:
        raise NewServiceError(f"{there[0]} is there already")
    _write(root, files, _registered(root, name, kind, port))
    test = f"tests/integration/test_{name}.py"
    return [
        *(f"written: {each}" for each in files),
        *(
            f"registered in: {each}"
            for each in dict.fromkeys(i.file for i in _places(name, kind, port))
        ),
        f"edit next: codebase/services/{name}/: {NEXT[kind]}",
        f"then {test}, and what {README} says of it",
        f"try: .venv/bin/python -m pytest {test}; .venv/bin/orderly serve {name}; ./test.sh",
    ]


def _refuse_bad_name(root: Path, name: str, ports: Mapping[str, int]) -> None:
    if not NAME.fullmatch(name) or len(name) > NAME_MAX:
        raise NewServiceError(
            "a service is named verb_noun: lower-case words with _ between them, at most"
            f" {NAME_MAX} characters"
        )
    if name in ports or (root / "codebase/services" / name).exists():
        raise NewServiceError(f"there is a service {name} already")
    if f"\n  {name}:" in _read(root, COMPOSE):
        raise NewServiceError(f"{COMPOSE} has something else of the name {name}")
    for path in sorted((root / MIGRATIONS).glob("*.sql")):
        if re.search(rf"^CREATE TABLE {name}\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            raise NewServiceError(f"{path.name} makes a table of the name {name}")


def _new_files(root: Path, name: str, kind: Kind, port: int) -> dict[str, str]:
    """Path below the root -> text."""
    folder = f"codebase/services/{name}"
    number = max(int(path.name[:4]) for path in (root / MIGRATIONS).glob("*.sql")) + 1
    migration = f"{MIGRATIONS}/{number:04}_create_{name}"
    places = {
        "service.py": f"{folder}/service.py",
        "projections.py": f"{folder}/projections.py",
        "test.py": f"tests/integration/test_{name}.py",
        "migration.sql": f"{migration}.sql",
        "migration.rollback.sql": f"{migration}.rollback.sql",
    }
    files = {f"{folder}/__init__.py": '"""See service.py."""\n'}
    for template in sorted((TEMPLATES / kind).glob("*.txt")):
        text = template.read_text(encoding="utf-8")
        files[places[template.stem]] = _named(text, name, port)
    return files


def _named(text: str, name: str, port: int) -> str:
    noun = name.partition("_")[2]
    text = text.replace(TEMPLATE_NAME, name).replace(TEMPLATE_PATH, f"/{noun}")
    return text.replace(TEMPLATE_PORT, str(port))


def _places(name: str, kind: Kind, port: int) -> list[Insertion]:
    """Where a service has to be known; the rest is found by looking into folders."""
    places = [
        Insertion(
            file=README,
            beside="| service | port |",
            lines=f"| `{name}` | {port} | {_named(DOES[kind], name, port)} |\n",
            where="last",
        ),
        Insertion(
            file=COMPOSE,
            beside="  # --- Stores, broker, logs",
            lines=(
                f"  {name}:\n"
                "    <<: *service\n"
                f'    command: [serve, {name}, --port, "8080"]\n'
                f"    environment: {{<<: [{COMPOSE_ENVIRONMENT[kind]}]}}\n\n"
            ),
            where="before",
        ),
        Insertion(
            file=METRICS,
            beside="        names:",
            lines=f"          - {name}\n",
            where="sorted",
        ),
    ]
    if kind is Kind.WORKER:
        return places
    return [
        *places,
        Insertion(
            file=COMPOSE,
            beside='      - "${PUBLISH_ADDRESS:-127.0.0.1}:80:8080"',
            lines=f'      - "${{PUBLISH_ADDRESS:-127.0.0.1}}:{port}:{port}"\n',
        ),
        Insertion(
            file=GATEWAY,
            beside="    map $server_port $service_of_port {",
            lines=f"        {port} {name};\n",
        ),
        Insertion(file=GATEWAY, beside="        listen 9090;", lines=f"        listen {port};\n"),
    ]


def _registered(root: Path, name: str, kind: Kind, port: int) -> dict[str, str]:
    """Path below the root -> the text with the new lines."""
    texts: dict[str, str] = {}
    for place in _places(name, kind, port):
        texts[place.file] = place.into(texts.get(place.file) or _read(root, place.file))
    return texts


def _read(root: Path, file: str) -> str:
    try:
        return (root / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NewServiceError(f"{root} is no checkout of Orderly: it has no {file}") from None


def _write(root: Path, new: Mapping[str, str], changed: Mapping[str, str]) -> None:
    """Write everything, or nothing."""
    before = {file: _read(root, file) for file in changed}
    try:
        for file, text in {**new, **changed}.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text, encoding="utf-8")
    except OSError as error:
        with suppress(OSError):
            for file in new:
                (root / file).unlink(missing_ok=True)
            for folder in {(root / file).parent for file in new}:
                if not any(folder.iterdir()):
                    folder.rmdir()
            for file, text in before.items():
                (root / file).write_text(text, encoding="utf-8")
        raise NewServiceError(f"cannot write: {error.strerror}") from error
