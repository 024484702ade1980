"""Every process is told the secrets that it needs, and no others."""

from __future__ import annotations

import os

import pytest

from codebase.embedded.environment import environment
from codebase.foundation.needs import SECRETS, narrowed
from codebase.foundation.settings import MAY_BE_SECRET, STORES, SUPERUSERS, Settings, extended
from codebase.foundation.tokens import new_token
from codebase.registry import SYSTEM

URL = "postgresql://somebody:secret@127.0.0.1/somewhere"
FINGERPRINT_KEYS = ("k1:c2VjcmV0",)
# Whatever may be a secret by its name, and is told to everybody all the same.
TOLD_TO_ALL = {"api_tokens", "otel_exporter_otlp_headers"}


def everything() -> Settings:
    return Settings(
        **dict.fromkeys((*STORES, *SUPERUSERS), URL),  # type: ignore[arg-type] # pydantic's
        broker_url="amqp://secret",
        two_fa="a secret of many characters",
        service_token="secret",  # noqa: S106 - it is none
        payment_provider_token="secret",  # noqa: S106 - likewise
        smtp_url="smtp://user:secret@mail.test",
        sms_webhook_url="https://sms.test/secret",
        fingerprint_keys=FINGERPRINT_KEYS,
        card_keys=FINGERPRINT_KEYS,
    )


def known(settings: Settings) -> set[str]:
    return {name for name in SECRETS if getattr(settings, name)}


def test_whatever_may_be_a_secret_is_told_to_some_or_said_to_be_for_all() -> None:
    may_be = {name for name in Settings.model_fields if MAY_BE_SECRET.search(name.upper())}
    assert may_be == SECRETS | TOLD_TO_ALL


@pytest.mark.parametrize("name", SYSTEM.on_one_machine())
def test_a_process_knows_what_its_services_say_that_they_need(name: str) -> None:
    needed = SYSTEM.needs_of([name])
    assert needed <= SECRETS
    assert known(everything()) == SECRETS
    assert known(narrowed(everything(), needed)) == needed


def test_a_context_reads_no_secret_that_was_narrowed_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITE_MODEL_OWNER_URL", URL)
    for kind in SYSTEM.settings:
        assert known(extended(narrowed(everything(), ()), kind)) == set()


def test_owners_are_known_to_the_migration_alone_and_superusers_to_no_service() -> None:
    owners = {"write_model_owner_url", "read_model_owner_url"}
    assert [name for name in SYSTEM.names() if owners & SYSTEM.needs_of([name])] == ["migration"]
    assert not SYSTEM.needs_of(SYSTEM.names()) & set(SUPERUSERS)


def test_services_find_in_their_environment_what_is_meant_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {
        "PATH": "/bin",
        "LOG_LEVEL": "DEBUG",
        "ORDER_BOOK_LIMIT_BTC": "7",
        "https_proxy": "http://proxy.example",
        "TWO_FA": "a secret of many characters",
        "READ_MODEL_SUPERUSER_URL": URL,
        "BROKER_URL": "amqp://of.another.run",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    monkeypatch.setattr(os, "environ", said)
    _, entry = new_token("shop", "client")
    written = {name.upper(): URL for name in STORES} | {"PARTITIONS": "2"}
    needs = {name: SYSTEM.needs_of([name]) for name in SYSTEM.on_one_machine()}
    found = environment(Settings(api_tokens=(entry,)), SYSTEM.contexts, written, needs)
    for name, needed in needs.items():
        told = found.of(name)
        assert {key.lower() for key in told} & SECRETS <= needed
        assert told.keys() & said.keys() - {"TWO_FA"} == {
            "PATH",
            "LOG_LEVEL",
            "ORDER_BOOK_LIMIT_BTC",
            "https_proxy",
        }
        assert (told["PARTITIONS"], told["API_TOKENS"][: len(entry)]) == ("2", entry)
    assert "TWO_FA" in found.of("account_management")
    assert "BROKER_URL" not in found.of("event_relay")
    assert found.of("compliance")["SERVICE_TOKEN"] != found.of("create_buy_order")["SERVICE_TOKEN"]
