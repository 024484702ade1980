"""What is deployed, alone or together, and where."""

from __future__ import annotations

from codebase import services

MEMBERS = services.GROUPS["account_management"].services


def test_the_whole_system_is_every_service_once_alone_or_in_its_group() -> None:
    started = services.on_one_machine()
    assert sorted(services.in_groups(started)) == services.names()
    assert "account_management" in started
    assert not set(MEMBERS) & set(started)


def test_every_service_and_group_has_a_port_of_its_own() -> None:
    named = [*services.names(), *services.GROUPS]
    assert len({services.port_of(name) for name in named}) == len(named)


def test_a_group_stands_for_its_services_beside_others() -> None:
    assert services.in_groups(["btc_price", "account_management"]) == ["btc_price", *MEMBERS]
