"""Writes a new service into a checkout: its folder, its test, and where else it has to be known.

A kind's folder in templates/new_service is laid out as a checkout is: what lies in it lands at the
same place, with NAME (verb_noun), NOUN and NUMBER (of the next migration) put into its path.
Everything is made in memory first: a name that is refused, or a place that is not found, leaves
nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codebase.operations import OperationError
from codebase.operations.insertion import Insertion, NoPlaceError

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates" / "new_service"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - what is made is code, and the name is checked
)

NAME = re.compile(r"[a-z]+(_[a-z0-9]+)+", re.ASCII)
NAME_MAX = 30
"""It becomes a part of names of queues, tables and modules, and of lines of code."""
PORTS = range(8783, 8900)

README, COMPOSE = "README.md", "docker-compose.yml"
GATEWAY, METRICS = "config/nginx/nginx.conf", "config/prometheus/prometheus.yml"
MIGRATIONS = "migrations/read_model"


class NewServiceError(OperationError):
    """The service cannot be written; nothing was."""


class Kind(StrEnum):
    """What a service does."""

    COMMAND = "command"
    QUERY = "query"
    WORKER = "worker"
    REACTION = "reaction"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewService:
    """A service that is to be written."""

    name: str
    kind: Kind
    port: int
    today: date

    @property
    def noun(self) -> str:
        """What follows the verb: where the service answers."""
        return self.name.partition("_")[2]

    @property
    def test(self) -> str:
        """The test that goes with its first edit, below the checkout."""
        kind = "unit" if self.kind is Kind.REACTION else "integration"
        return f"tests/{kind}/test_{self.name}.py"

    @property
    def is_for_clients(self) -> bool:
        """Whether it has routes of its own, which the gateway has to know."""
        return self.kind in {Kind.COMMAND, Kind.QUERY}


COMPOSE_ENVIRONMENT: Mapping[Kind, str] = {
    Kind.COMMAND: "*everyone, *commands, *fingerprints",
    Kind.QUERY: "*everyone, *queries",
    Kind.WORKER: "*everyone, *projectors, *broker",
    Kind.REACTION: "*everyone, *reactions, *broker",
}
NEXT: Mapping[Kind, str] = {
    Kind.COMMAND: "what a client sends, and which command of codebase/model it stands for",
    Kind.QUERY: "the route; and what is read, which lies in codebase/views, with its context",
    Kind.WORKER: "in projections.py, which events make which rows; in the migration, the table",
    Kind.REACTION: "in reaction.py, what events cause; in service.py, who does it",
}


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
    service = NewService(name=name, kind=kind, port=port, today=datetime.now(UTC).date())
    files = dict(_new_files(root, service))
    _refuse_to_overwrite(root, files)
    changed = _registered(root, service)
    _write(root, files, changed)
    return [
        *(f"written: {each}" for each in files),
        *(f"registered in: {each}" for each in changed),
        f"edit next: codebase/services/{name}/: {NEXT[kind]}",
        f"then {service.test}, and what {README} says of it",
        f"try: ./test.sh {service.test}; .venv/bin/orderly serve {name}; at last ./test.sh",
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


def _refuse_to_overwrite(root: Path, files: Collection[str]) -> None:
    there = [each for each in files if (root / each).exists()]
    # pytest wants names of tests to be unique in all folders together.
    tests = [Path(each).name for each in files if each.startswith("tests/")]
    there += [
        str(found.relative_to(root)) for each in tests for found in root.glob(f"tests/*/{each}")
    ]
    if there:
        raise NewServiceError(f"{there[0]} is there already")


def _new_files(root: Path, service: NewService) -> Iterator[tuple[str, str]]:
    """(path below the root, text) of each."""
    number = max(int(path.name[:4]) for path in (root / MIGRATIONS).glob("*.sql")) + 1
    words = {"NAME": service.name, "NOUN": service.noun, "NUMBER": f"{number:04}"}
    for template in TEMPLATES.list_templates(extensions=["jinja"]):
        kind, _, place = template.removesuffix(".jinja").partition("/")
        if kind == service.kind:
            path = re.sub("|".join(words), lambda found: words[found[0]], place)
            text = TEMPLATES.get_template(template).render(
                name=service.name, noun=service.noun, port=service.port, today=service.today
            )
            yield path, text


def _places(service: NewService) -> list[Insertion]:
    """Where a service has to be known; the rest is found by looking into folders."""
    name, port = service.name, service.port
    does = {
        Kind.COMMAND: f"`POST /{service.noun}`",
        Kind.QUERY: f"`GET /{service.noun}`",
        Kind.WORKER: "follows accounts",
        Kind.REACTION: "does what events of accounts cause",
    }
    everywhere = [
        Insertion(
            file=README,
            beside="| service | port |",
            lines=f"| `{name}` | {port} | {does[service.kind]} |\n",
            where="last",
        ),
        Insertion(
            file=COMPOSE,
            beside="  # --- Stores, broker, logs",
            lines=(
                f"  {name}:\n"
                "    <<: *service\n"
                f'    command: [serve, {name}, --port, "8080"]\n'
                f"    environment: {{<<: [{COMPOSE_ENVIRONMENT[service.kind]}]}}\n\n"
            ),
            where="before",
        ),
        Insertion(
            file=METRICS, beside="        names:", lines=f"          - {name}\n", where="sorted"
        ),
    ]
    for_clients = [
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
    return [*everywhere, *for_clients] if service.is_for_clients else everywhere


def _registered(root: Path, service: NewService) -> dict[str, str]:
    """Path below the root -> the text with the new lines."""
    texts: dict[str, str] = {}
    for place in _places(service):
        try:
            texts[place.file] = place.into(texts.get(place.file) or _read(root, place.file))
        except NoPlaceError as error:
            raise NewServiceError(str(error)) from None
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
