"""What is deployed, alone or together, and where."""

from __future__ import annotations

import re

import pytest

from codebase.__main__ import main
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


def test_services_have_several_processes_when_they_only_take_commands_or_answer_queries() -> None:
    """Others keep tables, lead, or know something that the next process does not."""
    several = set(SYSTEM.names()) - set(SYSTEM.one_process_each(SYSTEM.names()))
    older = {"place_order", "get_orders"}
    assert several == {"create_buy_order", "fetch_buy_orders", *older, *MEMBERS}


def test_who_may_have_one_process_only_refuses_more_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "create_agent", "billing", "event_relay", "--processes", "2"]) == 2
    said = capsys.readouterr()
    assert re.search(r"--processes: billing, event_relay may have one only", said.out + said.err)
