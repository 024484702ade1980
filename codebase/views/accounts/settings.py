"""What can be configured about the teams that look after accounts and agents."""

from __future__ import annotations

from pydantic import Field

from codebase.foundation.settings import Settings
from codebase.model.accounts.account import Region


class AccountSettings(Settings):
    """The environment of a service of this context."""

    block_agent_url: str = "http://127.0.0.1:9090"
    """Where compliance blocks agents when there is no broker."""
    reply_wait_seconds: float = Field(10, gt=0)
    """How long compliance waits for a command's outcome before it sends the command again."""
    compliance_requests_days: int = Field(365, ge=1, le=36_500)
    """How long compliance shows a request after its outcome; those without one are shown."""
    billing_region: Region | None = None
    """Billing looks after this region only; None: after all of them."""
