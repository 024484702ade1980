"""docker/secrets.sh makes what the cluster needs, once, for nobody else to read."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from codebase.foundation.keys import keys_of
from codebase.foundation.tokens import Role
from codebase.web.auth import Authenticator

PROJECT = Path(__file__).parents[2]
KEYS = {"FINGERPRINT_KEYS": "k1", "CARD_KEYS": "c1"}


def make(file: Path) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": str(file)}
    subprocess.run(["docker/secrets.sh"], cwd=PROJECT, env=environment, check=True)
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_secrets_are_made_once_and_are_no_business_of_others(tmp_path: Path) -> None:
    file = tmp_path / "docker.env"
    first = make(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".secrets").stat().st_mode) == 0o700
    values = [value for name, value in first.items() if name not in {"API_TOKENS", *KEYS}]
    assert len(set(values)) == len(values)
    assert all(len(value) == 64 for value in values)
    for variable, key_id in KEYS.items():
        assert [*keys_of(variable, first[variable].split(","))] == [key_id]
    assert first["CARD_KEYS"].partition(":")[2] != first["FINGERPRINT_KEYS"].partition(":")[2]
    assert make(file) == first
    assert make(tmp_path / "other.env") != first


def test_a_secret_that_is_missing_is_added_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "docker.env"
    first = make(file)
    kept = {name: value for name, value in first.items() if name != "TWO_FA"}
    file.write_text("".join(f"{name}={value}\n" for name, value in kept.items()))
    again = make(file)
    assert {name: again[name] for name in kept} == kept
    assert again["TWO_FA"] != first["TWO_FA"]


def test_who_read_the_metrics_as_a_client_reads_them_as_an_operator(tmp_path: Path) -> None:
    file = tmp_path / "docker.env"
    made = make(file)
    file.write_text(file.read_text().replace("prometheus:operator:", "prometheus:client:"))
    assert make(file) == made


def test_where_there_was_no_transact_its_tokens_are_added(tmp_path: Path) -> None:
    file = tmp_path / "docker.env"
    made = make(file)
    before, _, _ = made["API_TOKENS"].partition(",orderly-transact:")
    file.write_text(file.read_text().replace(made["API_TOKENS"], before))
    assert make(file) == made


def test_the_tokens_are_those_that_the_services_know(tmp_path: Path) -> None:
    made = make(tmp_path / "docker.env")
    known = Authenticator(made["API_TOKENS"].split(","))
    for variable, name, role in (
        ("API_TOKEN", "client", Role.CLIENT),
        ("ADMIN_TOKEN", "admin", Role.ADMIN),
        ("SERVICE_TOKEN", "orderly-services", Role.CLIENT),
        ("METRICS_TOKEN", "prometheus", Role.OPERATOR),
        ("TRANSACT_TOKEN", "orderly-transact", Role.ADMIN),
        ("PAYMENT_PROVIDER_TOKEN", "orderly-payments", Role.CLIENT),
    ):
        caller = known.caller({b"x-token": made[variable].encode()}, "here")
        assert (caller.name, caller.role) == (name, role)
    token = (tmp_path / ".secrets" / "metrics_token").read_text()
    assert token == made["METRICS_TOKEN"]


def test_secrets_of_an_older_release_are_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "docker.env"
    first = make(file)
    file.rename(tmp_path / ".env")
    assert make(file) == first
    assert not (tmp_path / ".env").exists()


def test_settings_for_the_embedded_run_are_left_alone(tmp_path: Path) -> None:
    settings = tmp_path / ".env"
    settings.write_text("LOG_LEVEL=DEBUG\n")
    make(tmp_path / "docker.env")
    assert settings.read_text() == "LOG_LEVEL=DEBUG\n"
