"""The `orderly` command, as far as it needs no store: help, examples, misuse, what is printed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer

from codebase.__main__ import main, orderly
from codebase.operations.terminal import as_json, no_progress, progress_bar

ROOT = Path(__file__).parents[2]
PROGRAM: Any = typer.main.get_command(orderly)
PLACEHOLDERS = {
    "STREAM": "2f6c63a5-6a9b-4b0c-9c1c-1f4f7d7f3a55",
    "KEY": "2f6c63a5-6a9b-4b0c-9c1c-1f4f7d7f3a56",
    "PORT": "9000",
    "FILE": "rules.toml",
    "DAY": "2026-11-01",
    "NAME…": "billing compliance",
}


def commands(group: Any = PROGRAM, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - typer's own
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def parse(words: list[str]) -> str:
    """The command that the words name; they are what it takes, or this raises."""
    command, name = PROGRAM, "orderly"
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, [PLACEHOLDERS.get(word, word) for word in words])
    return name


def typed(line: str) -> list[str]:
    """The words after `orderly` of a line of the shell, without what is no business of ours."""
    for placeholder, value in PLACEHOLDERS.items():
        line = re.sub(rf"\b{placeholder}(?!\w)", value, line)
    return shlex.split(line.partition("orderly ")[2].partition(" >")[0])


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_an_example_that_it_takes(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    [example] = re.findall(r"Example: (.*)", shown)
    assert f"orderly {' '.join(path)}" in example
    parse(typed(example))
    assert main([*path, "-h"]) == 0
    assert capsys.readouterr().out == shown


def printed() -> Iterator[str]:
    for file in ("README.md", "CONTRIBUTING.md", "docs/operations.md"):
        yield from re.findall(r"\.venv/bin/(orderly [^#`\n;|]+)", (ROOT / file).read_text())


@pytest.mark.parametrize("line", sorted(set(printed())))
def test_what_the_documents_print_is_taken(line: str) -> None:
    parse(typed(line.strip()))


MISUSES = {
    "": "Missing command",
    "nonsense": "No such command 'nonsense'",
    "serve": "Missing argument 'NAME'",
    "serve billing nonsense": "there is no nonsense; there is: alertman, billing, ",
    "serve billing --port many": "'--port': Input should be a valid integer",
    "rebuild": "Missing argument 'VIEW'",
    "parked": "Missing command",
    "parked retry": "name one STREAM, or all of them with --all",
    f"parked retry {UUID(int=7)} --all": "name one STREAM, or all of them with --all",
    "reactions retry": "name one KEY, or all of them with --all",
    "reactions skip": "Missing argument 'KEY'",
    "parked discard": "Missing argument 'STREAM'",
    "parked retry 7": "'STREAM': Input should be a valid UUID",
    "token shop boss": "'boss' is not one of 'client', 'operator', 'personal', 'admin'",
    "token a:b client": "API_TOKENS",
    "log copy": "Missing option '--to'",
    "log copy --to x --follow --finish": "one of them",
    "log copy --to x --through nonsense": "--through is package.module:function, and not nonsense",
    "log copy --to x --through no.such:one": "--through no.such:one: No module named 'no'",
    "log copy --to x --through json:no": "module 'json' has no attribute 'no'",
    "log copy --to x --through codebase.registry:SYSTEM": "is no function",
    "fraud backtest --rules no.toml --from 2026-11-01 --to 2026-11-02": "no.toml cannot be read",
    "fraud backtest --rules no.toml --from yesterday --to 2026-11-02": "'--from'",
    "fraud backtest --rules no.toml --from 2026-11-02 --to 2026-11-02": "--to must be after --from",
    "verify everything": "Got unexpected extra argument",
    "new-service do_it --query --reaction": "one of --command, --query, --worker and --reaction",
}


@pytest.mark.parametrize("arguments", MISUSES)
def test_what_cannot_be_meant_is_answered_with_a_sentence_and_status_2(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("orderly: ")
    assert MISUSES[arguments] in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("arguments", ["verify", "rebuild buy_orders", "parked list", "migrate"])
def test_without_a_store_it_is_told_where_one_is_looked_for(
    arguments: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ORDERLY_HOME", str(tmp_path / "moved"))
    assert main(arguments.split()) == 2
    shown = capsys.readouterr().err
    assert "_MODEL_" in shown
    assert f"{tmp_path}/moved is not the folder of an embedded run" in shown
    assert "ORDERLY_HOME" in shown


def test_a_token_is_told_to_people_and_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "shop", "client"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("token (give it to the client, it is not stored): ")
    assert second.startswith("entry (add it to API_TOKENS): shop:client:")
    assert main(["token", "shop", "admin", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == {"token", "entry"}
    assert made["entry"].startswith("shop:admin:")


def test_no_token_is_made_for_a_name_that_may_be_a_cards_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["token", "till-2026-11-29-0001", "client"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "till-…" in printed.err


def test_json_is_one_line_and_times_are_iso_8601() -> None:
    value = {"at": datetime(2026, 5, 4, tzinfo=UTC), "id": UUID(int=1), "text": "é\n"}
    assert as_json(value) == (
        '{"at": "2026-05-04T00:00:00+00:00", "id": "00000000-0000-0000-0000-000000000001",'
        ' "text": "é\\n"}'
    )


@pytest.mark.parametrize("progress", [progress_bar, no_progress])
def test_no_bar_is_drawn_where_there_is_no_terminal(
    progress: Any,  # noqa: ANN401 - either of two
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress(10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
