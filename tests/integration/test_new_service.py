"""`orderly new-service` in a copy of this checkout: what it writes is as good as what is here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from codebase.operations.new_service import (
    COMPOSE,
    GATEWAY,
    METRICS,
    NAME_MAX,
    README,
    Kind,
    NewServiceError,
    new_service,
)
from codebase.registry import SYSTEM
from tests.integration.flow import ROOT, eventually
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

# Short and long: lines of code become shorter and longer with them.
NAMES = {
    Kind.COMMAND: "do_it",
    Kind.QUERY: f"fetch_{'x' * (NAME_MAX - 6)}",
    Kind.WORKER: f"follow_{'y' * (NAME_MAX - 7)}",
    Kind.REACTION: f"greet_{'z' * (NAME_MAX - 6)}",
}
WRITTEN = [
    f"tests/{place}.py"
    for kind, name in NAMES.items()
    for place in (
        [f"unit/test_{name}", f"integration/test_{name}_at_work"]
        if kind is Kind.REACTION
        else [f"integration/test_{name}"]
    )
]
ACCOUNT = {"name": "Ada", "email": "ada@example.org", "region": "emea"}
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".local", "__pycache__", ".hypothesis", ".pytest_cache", "*.egg-info"
)
PORTS = {name: SYSTEM.port_of(name) for name in [*SYSTEM.names(), *SYSTEM.groups]}


def copy(folder: Path) -> Path:
    """The checkout, with what mypy knows of it already."""
    return Path(shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_OUT))


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python module in a checkout, on its code and not on that of this one."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "ORDERLY_HOME": str(checkout / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


def orderly(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(checkout, "codebase", *arguments)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with a new service of each kind."""
    made = copy(tmp_path_factory.mktemp("new-service"))
    for kind, name in NAMES.items():
        written = orderly(made, "new-service", name, f"--{kind}")
        assert written.returncode == 0, written.stderr
        assert f"written: codebase/services/{name}/service.py" in written.stdout
        assert f"edit next: codebase/services/{name}/" in written.stdout
    return made


@pytest.mark.parametrize(
    "check",
    [
        ("ruff", "format", "--check", "codebase", *WRITTEN),
        ("ruff", "check", "codebase", *WRITTEN),
        ("mypy",),
        ("lint-imports",),
    ],
    ids=["format", "lint", "types", "import contracts"],
)
def test_a_new_service_passes_every_check(checkout: Path, check: tuple[str, ...]) -> None:
    program = Path(sys.executable).with_name(check[0])
    done = subprocess.run(
        [program, *check[1:]], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_service_passes_its_own_test(checkout: Path) -> None:
    done = run(checkout, "pytest", "-q", "-p", "no:cacheprovider", *WRITTEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n19 passed" in done.stdout


def test_the_cluster_with_new_services_is_whole(checkout: Path) -> None:
    done = run(checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_compose.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_new_services_are_served_and_what_is_done_by_one_has_its_effect_by_another(
    checkout: Path, databases: Databases, free_port: Callable[[], int], tmp_path: Path
) -> None:
    with databases.as_owner() as owner:
        owner.execute("SELECT reaction.adopt()")
    port = free_port()
    addresses = {
        field.upper(): str(value)
        for field, value in databases.settings.model_dump(exclude_defaults=True).items()
    }
    command = [sys.executable, "-m", "codebase", "serve", *NAMES.values(), "--port", str(port)]
    environment = {**os.environ, **addresses, "PYTHONPATH": str(checkout)}
    said = tmp_path / "log"
    with (
        said.open("wb") as log,
        subprocess.Popen(command, cwd=checkout, env=environment, stdout=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: is_alive(url), "it is not served")
            paths = httpx.get(f"{url}/openapi.json").json()["paths"]
            assert {"/it", f"/{'x' * (NAME_MAX - 6)}"} <= set(paths)
            assert httpx.post(f"{url}/it", json=ACCOUNT).status_code == 201
            eventually(lambda: "welcome: " in said.read_text(), "nobody is told of the account")
        finally:
            process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


def is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_new_service_is_known_wherever_it_has_to_be(checkout: Path) -> None:
    listing = (
        "import json; from codebase.registry import SYSTEM;"
        " print(json.dumps({n: SYSTEM.port_of(n) for n in SYSTEM.names()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=checkout, capture_output=True, text=True, check=True
    )
    ports = json.loads(done.stdout)
    assert len(set(ports.values())) == len(ports)
    compose = yaml.safe_load((checkout / "docker-compose.yml").read_text())
    readme = (checkout / "README.md").read_text()
    for kind, name in NAMES.items():
        port = ports[name]
        stores = {
            Kind.COMMAND: {"WRITE_MODEL_URL"},
            Kind.QUERY: {"READ_MODEL_URL", "WRITE_MODEL_HEAD_URL"},
            Kind.WORKER: {"WRITE_MODEL_READER_URL", "READ_MODEL_PROJECTOR_URL"},
            Kind.REACTION: {"WRITE_MODEL_READER_URL", "WRITE_MODEL_REACTION_URL"},
        }
        environment = compose["services"][name]["environment"]
        assert {one for one in environment if "_MODEL_" in one} == stores[kind]
        assert re.search(rf"\| `[a-z_]+` .*\n\| `{name}` \| {port} \| ", readme)


REFUSED = {
    "Do_it": "a service is named verb_noun",
    "doit": "a service is named verb_noun",
    "do__it": "a service is named verb_noun",
    "do_it_": "a service is named verb_noun",
    "../do_it": "a service is named verb_noun",
    "do_ít": "a service is named verb_noun",
    f"do_{'x' * (NAME_MAX - 2)}": "a service is named verb_noun",
    "create_account": "there is a service create_account already",
    "account_management": "there is a service account_management already",
    "read_model": "docker-compose.yml has something else of the name read_model",
    "billing_agent": "makes a table of the name billing_agent",
}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout as far as new-service looks at it; it stays as it is."""
    made = tmp_path_factory.mktemp("untouched")
    for part in ("codebase/services", "migrations/read_model", "tests/integration"):
        shutil.copytree(ROOT / part, made / part, ignore=LEFT_OUT)
    for file in (README, COMPOSE, GATEWAY, METRICS):
        (made / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, made / file)
    before = tree(made)
    yield made
    assert tree(made) == before


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", Kind)
def test_a_name_that_cannot_be_is_refused(untouched: Path, name: str, kind: Kind) -> None:
    with pytest.raises(NewServiceError, match=REFUSED[name]):
        new_service(untouched, name, kind, PORTS)


def test_a_refusal_is_one_sentence_for_the_operator() -> None:
    refused = orderly(ROOT, "new-service", "create_account")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "orderly: there is a service create_account already\n"
    assert orderly(ROOT, "new-service", "do_it", "--query", "--worker").returncode == 2


def test_nothing_is_left_half_written(untouched: Path) -> None:
    """A test is there already; a place is not found; no port is free; the disk is full."""
    for kind in ("integration", "unit"):
        test = untouched / f"tests/{kind}/test_do_it.py"
        test.parent.mkdir(exist_ok=True)
        test.touch()
        for kind_of_service in (Kind.QUERY, Kind.REACTION):
            with pytest.raises(NewServiceError, match=rf"{kind}/test_do_it\.py is there already"):
                new_service(untouched, "do_it", kind_of_service, PORTS)
        test.unlink()
    readme = untouched / "README.md"
    text = readme.read_text()
    readme.write_text("nothing")
    with pytest.raises(NewServiceError, match=r"README\.md has no line that begins with"):
        new_service(untouched, "do_it", Kind.QUERY, PORTS)
    readme.write_text(text)
    everywhere = {str(port): port for port in range(8000, 9000)}
    with pytest.raises(NewServiceError, match="no port is free"):
        new_service(untouched, "do_it", Kind.QUERY, everywhere)
    with pytest.raises(NewServiceError, match=r"is no checkout of Orderly"):
        new_service(untouched / "tests", "do_it", Kind.QUERY, PORTS)


def test_what_cannot_be_written_whole_is_taken_back(untouched: Path) -> None:
    """A dangling link looks like a file that is not there, until it is written to."""
    obstacle = untouched / "tests/integration/test_do_it.py"
    obstacle.symlink_to(untouched / "nowhere" / "at_all")
    with pytest.raises(NewServiceError, match="cannot write: No such file"):
        new_service(untouched, "do_it", Kind.QUERY, PORTS)
    assert not obstacle.is_symlink()
