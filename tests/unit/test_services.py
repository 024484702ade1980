"""What is deployed, alone or together, and where."""

from __future__ import annotations

from codebase.registry import SYSTEM

MEMBERS = SYSTEM.groups["account_management"].services


def test_the_whole_system_is_every_service_once_alone_or_in_its_group() -> None:
    started = SYSTEM.on_one_machine()
    assert sorted(SYSTEM.in_groups(started)) == SYSTEM.names()
    assert "account_management" in started
    assert not set(MEMBERS) & set(started)


def test_every_service_and_group_has_a_port_of_its_own() -> None:
    named = [*SYSTEM.names(), *SYSTEM.groups]
    assert len({SYSTEM.port_of(name) for name in named}) == len(named)


def test_a_group_stands_for_its_services_beside_others() -> None:
    assert SYSTEM.in_groups(["btc_price", "account_management"]) == ["btc_price", *MEMBERS]
