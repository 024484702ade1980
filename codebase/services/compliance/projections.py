"""What compliance remembers of the log: every agent, and every request."""

from __future__ import annotations

from codebase.engine.projections.projection import Projector
from codebase.views.accounts.compliance_agents import COMPLIANCE_AGENTS
from codebase.views.accounts.compliance_requests import COMPLIANCE_REQUESTS

COMPLIANCE = Projector(name="compliance", projections=(COMPLIANCE_AGENTS, COMPLIANCE_REQUESTS))
