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
from codebase.engine.reactions.attempt import Ended
from codebase.engine.reactions.http_target import HttpTarget
from codebase.engine.reactions.keys import key_of
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import (
    FailedError,
    InDoubtError,
    NotSentError,
    OursError,
    Repeatable,
    Undone,
)
from codebase.engine.reactions.way import Way
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
from codebase.services.transact.driver import MAY_BE_PAID, charge_after
from codebase.services.transact.steps import Steps
from codebase.services.transact.words import NoWordError, decision_of, payment_of

Result = TypeVar("Result")

LOOK_FIRST_AFTER_SECONDS = 1.0
"""What has waited for so long may have expired, and is not shown to the police without a look."""
SURELY_NOT_DONE = frozenset({Ended.NOT_SENT, Ended.LATER, Ended.NOT_ALLOWED})
STEP_SECONDS = 10.0
"""Longer than the log takes to give up by itself."""


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
    with its decision and paid at once where the provider is known to be there: the client waits for
    that, and so it is a step less to be written, to be found, and to be done. What has no end then
    is sent by itself, and asks first.

    Args:
        police: by HTTP; whoever asks again is answered again.
        steps: of transactions.
        payment: has what was cleared paid.
        here: the way to this target.
        to_provider: the way to the other one.
    """

    def __init__(
        self,
        police: HttpTarget,
        steps: Steps,
        payment: PaymentTarget,
        *,
        here: Way,
        to_provider: Way,
    ) -> None:
        self._police = police
        self._steps = steps
        self._payment = Begun(payment)
        self._here = here
        self._to_provider = to_provider
        self.deadline_seconds = (
            police.deadline_seconds + payment.provider_seconds + 3 * STEP_SECONDS
        )

    async def send(self, sent: Sent) -> Answer:
        """Have it decided; `status` of the answer is how the transaction stands then.

        What was decided meanwhile, or is too old by now, is not shown, and counts nowhere. An
        attempt before this one may have written a decision and not heard of it.

        Raises:
            NotSentError, FailedError, InDoubtError: there is no answer yet.
        """
        is_new = sent.attempts == 1 and not sent.in_doubt
        if not is_new or sent.age_seconds > LOOK_FIRST_AFTER_SECONDS:
            before = await take(self._steps, sent, LookAt())
            if before.state.status is not Status.PENDING:
                return replace(answer_of(before), is_news=False)
        said = await in_time(self._police, self._police.send(sent))
        if said.refused is not None:
            return said
        failpoint("transact_after_decision")
        try:
            return await self._decided(sent, said)
        except (NoWordError, Rejected) as error:
            return Answer(refused=str(error))

    async def _decided(self, sent: Sent, said: Answer) -> Answer:
        """Write it down, and have it paid if it can be; how it stands then."""
        with self._to_provider.room_for_one() as has_room:
            # Of what is in doubt, money may have moved where this log came from.
            initiates = has_room and not sent.in_doubt
            decision = decision_of(said.data, initiates=initiates)
            decided = await take(self._steps, sent, decision)
            so_far = answer_of(decided)
            is_ours = initiates and decided.changed
            if is_ours and decided.state.status is Status.PAYMENT_INITIATED:
                return await self._paid(sent, so_far)
            return so_far

    async def _paid(self, sent: Sent, so_far: Answer) -> Answer:
        """How it stands when the provider was asked for the money."""
        # By the name that it has where it is sent by itself.
        key = key_of(sent.key, 0)
        charge = Sent(key=key, subject=sent.subject, send=charge_after(sent, in_doubt=False))
        with self._here.elsewhere():
            ended = await self._to_provider.aside(self._payment, charge)
        if ended.answer is None or ended.answer.refused is not None:
            data = {**so_far.data, MAY_BE_PAID: ended.ended not in SURELY_NOT_DONE}
            return Answer(data=data, is_news=False)
        return replace(ended.answer, is_news=False)


class PaymentTarget:
    """Has transactions paid, unless they have ended meanwhile, and writes down what became of it.

    Args:
        provider: by HTTP, with an inquiry.
        steps: of transactions.
    """

    def __init__(self, provider: HttpTarget, steps: Steps) -> None:
        self._provider = provider
        self._steps = steps
        self.provider_seconds = provider.deadline_seconds
        self.deadline_seconds = provider.deadline_seconds + 2 * STEP_SECONDS

    async def send(self, sent: Sent) -> Answer:
        """Have it paid: from the first moment at which money may move it is PAYMENT_INITIATED.

        Raises:
            NotSentError, FailedError, InDoubtError, TimeoutError: there is no answer yet.
        """
        before = await take(self._steps, sent, InitiatePayment())
        if before.state.status is not Status.PAYMENT_INITIATED:
            # Too old by now, or a person has said how it ended.
            return answer_of(before)
        return await self.charge(sent)

    async def charge(self, sent: Sent) -> Answer:
        """Have it paid that is PAYMENT_INITIATED, and that nobody has done so is known or asked.

        Raises:
            NotSentError, FailedError, InDoubtError, TimeoutError: there is no answer yet.
        """
        failpoint("transact_after_initiation")
        return await self._written(sent, await in_time(self._provider, self._provider.send(sent)))

    async def inquire(self, sent: Sent) -> Answer | Undone | None:
        """Whether it was paid by an attempt before, or how it ended if a person has said so.

        The provider is asked first: only so is a charge found that was made against that word.

        Raises:
            NotSentError, FailedError, InDoubtError, TimeoutError: there is no answer yet.
        """
        try:
            said = await in_time(self._provider, self._provider.inquire(sent))
        except (NotSentError, FailedError, InDoubtError, TimeoutError):
            before = await take(self._steps, sent, LookAt())
            if before.state.status not in DECIDED:
                raise
            # Who is dead would be asked for ever of what has ended.
            return answer_of(before)
        failpoint("transact_after_inquiry")
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


class Begun(Repeatable):
    """Has paid what the same attempt has initiated.

    Args:
        payment: does it.
    """

    def __init__(self, payment: PaymentTarget) -> None:
        self._payment = payment
        self.deadline_seconds = payment.deadline_seconds

    async def send(self, sent: Sent) -> Answer:
        """Have it paid.

        Raises:
            NotSentError, FailedError, InDoubtError, TimeoutError: there is no answer yet.
        """
        return await self._payment.charge(sent)


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
