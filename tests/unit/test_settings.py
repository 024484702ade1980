"""What the environment may say, and what is said of it when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest

from codebase.embedded.environment import take_in
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.keys import new_key
from codebase.foundation.settings import Settings, extended, load_settings
from codebase.registry import SYSTEM
from codebase.views.accounts.settings import AccountSettings
from codebase.views.buy_orders.settings import BuyOrderSettings
from codebase.views.payments.fields import without_card
from codebase.views.payments.settings import PaymentSettings, card_reducer

# Set by shells, clouds, CI systems and conda, by themselves.
OTHERS = {
    "HOST": "x86_64-conda-linux-gnu",
    "REGION": "eu-central-1",
    "NAME": "WSL",
    "USER": "somebody",
    "PORT": "443",
    "LANG": "de_DE.UTF-8",
    "CI": "true",
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for kind in (Settings, *SYSTEM.settings):
        for name in kind.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ORDERLY_HOME", str(tmp_path))


def test_what_others_set_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_settings(*SYSTEM.settings)
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)
    assert load_settings(*SYSTEM.settings) == before
    assert extended(before, AccountSettings).billing_region is None
    read = {name.upper() for kind in (Settings, *SYSTEM.settings) for name in kind.model_fields}
    assert not read & set(OTHERS)


def test_every_wrong_variable_is_named_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_REGION", "eu-central-1")
    monkeypatch.setenv("PARTITIONS", "many")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(*SYSTEM.settings)
    said = str(refusal.value)
    assert "BILLING_REGION: " in said
    assert "found 'eu-central-1'" in said
    assert "PARTITIONS: " in said
    assert "found 'many'" in said
    assert said.count("PARTITIONS") == 1, "each once, though every context reads it"


def test_what_may_be_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITE_MODEL_URL", "hunter2 is no address")
    with pytest.raises(ConfigurationError, match="WRITE_MODEL_URL: ") as refusal:
        load_settings()
    assert "hunter2" not in str(refusal.value)


def test_a_context_reads_what_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_BOOK_LIMIT_BTC", "7")
    settings = Settings(partitions=3)
    own = extended(settings, BuyOrderSettings)
    assert (own.order_book_limit_btc, own.partitions) == (7, 3)
    assert extended(own, BuyOrderSettings) is own


def test_an_env_file_is_taken_in_below_the_shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    assert take_in(file) == []
    file.write_text("# mine\nLOG_LEVEL=DEBUG\nPARTITIONS=4\nTWO_FA=\n")
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"PARTITIONS": "2"})
    assert take_in(file) == ["LOG_LEVEL"]
    assert (os.environ["LOG_LEVEL"], os.environ["PARTITIONS"]) == ("DEBUG", "2")


def test_an_env_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"LOG_LEVEL=\xff")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        take_in(file)


@pytest.mark.parametrize(("processes", "bound", "share"), [(1, 9, 9), (2, 9, 4), (8, 3, 1)])
def test_processes_of_one_service_share_its_bounds(processes: int, bound: int, share: int) -> None:
    assert Settings(service_processes=processes).share_of(bound) == share


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop-123456789012", "shop-…"),
        ("till-2026-11-29-0001", "till-…"),
        ("4111.1111.1111.1111", "…"),
    ],
)
def test_a_client_whose_payments_nobody_would_judge_is_refused_at_the_start(
    name: str, told: str
) -> None:
    digest, keys = "0" * 64, (new_key("c1"),)
    tokens = (f"shop-2026-11-29:client:{digest}", f"{name}:client:{digest}")
    with pytest.raises(ConfigurationError, match=f"API_TOKENS, entry 2: {told} is") as refusal:
        card_reducer(Settings(card_keys=keys, api_tokens=tokens))
    assert name not in str(refusal.value)
    for usual in ("shop-2026-11-29", f"shop-{uuid4()}", "till.12345678901"):
        assert without_card(usual) == usual
        assert card_reducer(Settings(card_keys=keys, api_tokens=(f"{usual}:client:{digest}",)))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e300", "2592001"])
def test_a_transaction_waits_for_a_time_that_has_an_end(
    monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("TRANSACTION_MAX_AGE_S", "2592000")
    assert extended(Settings(), PaymentSettings).transaction_max_age_s == 30 * 86_400
    monkeypatch.setenv("TRANSACTION_MAX_AGE_S", seconds)
    with pytest.raises(ConfigurationError, match="TRANSACTION_MAX_AGE_S: "):
        load_settings(*SYSTEM.settings)
