"""Accounts and their agents, put together for the rest of the system."""

from __future__ import annotations

from codebase.engine.context import AddressOf, Context, Group
from codebase.model.accounts.account import ACCOUNT
from codebase.model.accounts.agent import AGENT
from codebase.model.accounts.compliance_case import COMPLIANCE_CASE
from codebase.model.accounts.price_list import PRICE_LIST
from codebase.views.accounts.accounts import ACCOUNTS
from codebase.views.accounts.agents import AGENTS
from codebase.views.accounts.settings import AccountSettings


def welcome(address_of: AddressOf, *, with_tokens: bool) -> str:  # noqa: ARG001 - as others
    """Where accounts and agents are looked after, and the teams' pages."""
    return "; ".join(
        (
            f"accounts and agents: {address_of('account_management')}/_swagger",
            f"billing: {address_of('billing')}/",
            f"compliance: {address_of('compliance')}/",
            f"VIP customers: {address_of('vip_customers')}/",
        )
    )


ACCOUNT_CONTEXT = Context(
    name="accounts",
    aggregates=(ACCOUNT, AGENT, PRICE_LIST, COMPLIANCE_CASE),
    projections=(ACCOUNTS, AGENTS),
    settings=AccountSettings,
    groups={
        "account_management": Group(
            port=9090,
            services=(
                "create_account",
                "create_agent",
                "block_agent",
                "set_price",
                "fetch_accounts",
                "fetch_agents",
            ),
        ),
    },
    addresses={"BLOCK_AGENT_URL": "account_management"},
    welcome=welcome,
    # Compliance blocks the agents of every client.
    administrators=("compliance",),
)
