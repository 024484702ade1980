"""The example file is written by hand; this keeps it complete and true."""

from __future__ import annotations

from pathlib import Path

import pytest

from codebase.foundation.settings import Settings
from codebase.registry import SYSTEM

EXAMPLE = Path(__file__).parents[2] / ".env.example"
OTHERS = {"POSTGRES_BIN", "RABBITMQ_SERVER", "PYTHON", "API_TOKEN", "ORDERLY_URL"}


def test_the_example_names_every_variable_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    example = {name: value for name, value in pairs if name not in OTHERS}
    kinds: list[type[Settings]] = [Settings, *SYSTEM.settings]
    known = {name.upper() for kind in kinds for name in kind.model_fields}
    assert set(example) == known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    defaults = [kind() for kind in kinds]
    for name, value in example.items():
        monkeypatch.setenv(name, value)
    assert [kind() for kind in kinds] == defaults
