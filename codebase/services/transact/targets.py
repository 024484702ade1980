"""Whom the driver sends to: they are asked, and their word is written down, in one attempt.

An attempt that ends between the two is in doubt: the next one asks again, and what was written
already changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from codebase.engine.commands.submission import Outcome
from codebase.engine.reactions.http_target import HttpTarget
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    FailedError,
    InDoubtError,
    NotSentError,
    OursError,
    Repeatable,
    Undone,
)
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.failpoints import failpoint
from codebase.model.payments.transaction import (
    DECIDED,
    Command,
    InitiatePayment,
    LookAt,
    Status,
)
from codebase.model.refusals import Rejected
from codebase.services.transact.initiations import Initiations
from codebase.services.transact.steps import Steps
from codebase.services.transact.words import NoWordError, decision_of, payment_of

Result = TypeVar("Result")

LOOK_FIRST_AFTER_SECONDS = 1.0
"""What has waited for so long may have expired, and is not shown to the police without a look."""
STEP_SECONDS = 10.0
"""Longer than the log takes to give up by itself; an attempt takes two steps at most."""


async def in_time(target: HttpTarget, asked: Awaitable[Result]) -> Result:
    """What a target answers, within its own deadline.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(target.deadline_seconds):
        return await asked


class PoliceTarget(Repeatable):
    """Shows transactions to the fraud police, and writes down its decision.

    In doubt it looks at the same transaction once more. What it has nothing against is initiated
    with its decision where the provider is known to be there: that is a step less to be written,
    and to be waited for.

    Args:
        police: by HTTP; whoever asks again is answered again.
        steps: of transactions.
        initiations: of payments, by this process.
    """

    def __init__(self, police: HttpTarget, steps: Steps, initiations: Initiations) -> None:
        self._police = police
        self._steps = steps
        self._initiations = initiations
        self.deadline_seconds = police.deadline_seconds + 2 * STEP_SECONDS

    async def send(self, sent: Sent) -> Answer:
        """Have it decided; `status` of the answer is how the transaction stands then.

        What was decided meanwhile, or is too old by now, is not shown, and counts nowhere. An
        attempt before this one may have written a decision and not heard of it.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        if sent.attempts > 1 or sent.age_seconds > LOOK_FIRST_AFTER_SECONDS:
            before = await take(self._steps, sent, LookAt())
            if before.state.status is not Status.PENDING:
                return answer_of(before)
        said = await in_time(self._police, self._police.send(sent))
        if said.refused is not None:
            return said
        failpoint("transact_after_decision")
        try:
            decision = decision_of(said.data)
            initiates = self._initiations.may_begin()
            decided = await take(self._steps, sent, replace(decision, initiates=initiates))
        except (NoWordError, Rejected) as error:
            return Answer(refused=str(error))
        if decided.changed and decided.state.status is Status.PAYMENT_INITIATED:
            self._initiations.note(sent.subject)
        return answer_of(decided)


class PaymentTarget:
    """Has transactions paid, unless they have ended meanwhile, and writes down what became of it.

    Args:
        provider: by HTTP, with an inquiry.
        steps: of transactions.
        initiations: of payments, by this process.
    """

    def __init__(self, provider: HttpTarget, steps: Steps, initiations: Initiations) -> None:
        self._provider = provider
        self._steps = steps
        self._initiations = initiations
        self.deadline_seconds = provider.deadline_seconds + 2 * STEP_SECONDS

    async def send(self, sent: Sent) -> Answer:
        """Have it paid: from the first moment at which money may move it is PAYMENT_INITIATED.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        if not self._initiations.take_recent(sent.subject):
            before = await take(self._steps, sent, InitiatePayment())
            if before.state.status is not Status.PAYMENT_INITIATED:
                # Too old by now, or a person has said how it ended.
                return answer_of(before)
        failpoint("transact_after_initiation")
        return await self._written(sent, await in_time(self._provider, self._provider.send(sent)))

    async def inquire(self, sent: Sent) -> Answer | Undone | None:
        """Whether it was paid by an attempt before, or how it ended if a person has said so.

        The provider is asked first: only so is a charge found that was made against that word.

        Raises:
            NotSentError, FailedError, InDoubtError, TimeoutError: there is no answer yet.
        """
        self._initiations.take_recent(sent.subject)
        try:
            said = await in_time(self._provider, self._provider.inquire(sent))
        except (NotSentError, FailedError, InDoubtError, TimeoutError):
            before = await take(self._steps, sent, LookAt())
            if before.state.status not in DECIDED:
                raise
            # Who is dead would be asked for ever of what has ended.
            return answer_of(before)
        if not isinstance(said, Answer):
            return said
        # It may have been initiated where this log came from, and not here.
        await take(self._steps, sent, InitiatePayment())
        return await self._written(sent, said)

    async def _written(self, sent: Sent, said: Answer) -> Answer:
        failpoint("transact_after_charge")
        try:
            written = answer_of(
                await take(self._steps, sent, payment_of(said, sent.send.data["payment"]))
            )
        except (NoWordError, Rejected) as error:
            return Answer(refused=str(error))
        failpoint("transact_after_payment")
        return written


async def take(steps: Steps, sent: Sent, command: Command) -> Outcome:
    """One step of the transaction that something was sent for.

    Raises:
        OursError: the log did not answer.
        Rejected: a rule says no.
    """
    try:
        return await steps.take(sent.subject, command)
    except ServiceUnavailable as error:
        raise OursError(str(error)) from error


def answer_of(outcome: Outcome) -> Answer:
    """How the transaction stands, for the driver."""
    return Answer(data={"status": outcome.state.status.value})
