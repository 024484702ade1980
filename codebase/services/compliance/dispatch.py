"""The threads that send requests, take in their outcomes, by the way that there is, and forget."""

from __future__ import annotations

import threading

from codebase.foundation.forgetting import Forgetting, Kept
from codebase.foundation.worker import Team, Worker
from codebase.services.compliance.carriers import ByBroker, ByHttp
from codebase.services.compliance.replies import Replies
from codebase.services.compliance.requests import FORGET_ANSWERED
from codebase.services.compliance.sender import Sender
from codebase.views.accounts.settings import AccountSettings


class Dispatch:
    """By message when there is a broker, else by HTTP.

    Args:
        settings: addresses of the store and of the broker or block_agent.
    """

    def __init__(self, settings: AccountSettings) -> None:
        stop = threading.Event()
        workers: list[Worker] = []
        if settings.broker_url:
            replies = Replies(settings, stop, begun=self.wake, answered=self.wake)
            carrier: ByBroker | ByHttp = ByBroker(settings, replies.are_taken)
            for name, work in (("listener", replies.listen), ("replies", replies.write)):
                workers.append(Worker(f"compliance {name}", work, stop=stop, wake=replies.wake))
        else:
            carrier = ByHttp(settings)
        self._sender = Sender(settings, carrier, stop)
        workers.append(Worker("compliance sender", self._sender.run, stop=stop, wake=self.wake))
        kept = Kept(
            table="compliance_request",
            days=settings.compliance_requests_days,
            remove=FORGET_ANSWERED,
        )
        url = settings.required("read_model_projector_url")
        forgetting = Forgetting(url, "compliance forgetting", [kept], stop)
        workers.append(Worker("compliance forgetting", forgetting.run, stop=stop))
        self.team = Team(workers, [])

    def wake(self) -> None:
        """There may be something to send."""
        self._sender.wake()

    @property
    def away(self) -> str | None:
        """What requests wait for, as far as this process knows, or None."""
        return self._sender.away
