"""Asks the live rules in a thread of their own, so that one that takes long keeps nobody waiting.

ask() ──▶ thread: each rule in turn ──▶ what each has found
            │ one of them does not come to its end
            ▼
          left to itself, and another thread goes on without it, until it has come back; one that
          comes to its end, and late each time, is not asked either
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue

from codebase.model.payments.fraud_features import Features, Payment
from codebase.model.payments.fraud_judgement import Finding, Found, asked, late
from codebase.model.payments.fraud_rule_set import Rule, RuleSet

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
LOOKS_MAX = 4
"""Looks in a row that find the same rule at the same payment: then it takes too long. Looks, and no
clock: where the machine is busy those who look are late as well."""
SLOW_SECONDS = 0.05
SLOW_MAX = 5
"""Payments in a row for each of which the same rule took so long: everybody waits for it then. A
machine that is busy holds up now this rule and now that one, and seldom one for so long."""
REST_SECONDS = 60.0
"""How long a rule that took too long is not asked, once it has come to its end."""


@dataclass(eq=False, slots=True)
class Question:
    """A payment that rules are asked about, and who waits for that."""

    payment: Payment
    features: Features
    answer: asyncio.Future[Found]


class Asking:
    """A thread that asks, until it is told to end or left to itself.

    `at` is what it is at, a new object each time; None between two rules. `left` is the rule
    because of which nobody waits for it any more.
    """

    def __init__(self, watch: RuleWatch) -> None:
        self._watch = watch
        self.questions: SimpleQueue[Question | None] = SimpleQueue()
        self.at: tuple[Question, Rule] | None = None
        self.left: Rule | None = None
        threading.Thread(target=self._run, name="fraud rules", daemon=True).start()

    def _run(self) -> None:
        while self.left is None and (question := self.questions.get()) is not None:
            found = self._found(question)
            if self.left is None:
                self._watch.answered(question, found)
        if self.left is not None:
            self._watch.came_back(self.left)

    def _found(self, question: Question) -> dict[str, Finding | None]:
        found: dict[str, Finding | None] = {}
        for rule in self._watch.rules.live:
            if self._watch.rests(rule):
                found[rule.id] = late(rule)
                continue
            self.at, began = (question, rule), self._watch.clock()
            said = asked(rule, question.payment, question.features)
            self.at = None
            if self.left is not None:
                break
            self._watch.took(rule, self._watch.clock() - began)
            if not rule.is_strict:
                found[rule.id] = said
        return found


class RuleWatch:
    """Asks the live rules of a set.

    A strict rule is asked twice: here as if the card had no past, to see whether it comes to an
    end; what counts it says where the card's own payments are known.

    Args:
        rules: the set.
        rest_seconds: see `REST_SECONDS`.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        rules: RuleSet,
        *,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._rest_seconds = rest_seconds
        self._no_past = dict.fromkeys(rules.strict_windows, 0)
        self._open: dict[Question, None] = {}
        self._rest_until: dict[str, float] = {}
        self._slow = Counter[str]()
        self._seen: object = None
        self._looks = 0
        self._is_looking = False
        self._asking = Asking(self)

    @classmethod
    @contextmanager
    def at_work(
        cls,
        rules: RuleSet,
        *,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[RuleWatch]:
        """Ready to ask; on leaving its thread ends, unless a rule keeps it."""
        watch = cls(rules, rest_seconds=rest_seconds, clock=clock)
        try:
            yield watch
        finally:
            watch._asking.questions.put(None)

    async def ask(self, payment: Payment, features: Features) -> Found:
        """What each rule that is not strict has found, and of any rule that it takes too long."""
        features = replace(features, strict=self._no_past)
        question = Question(payment, features, self._loop.create_future())
        self._open[question] = None
        self._asking.questions.put(question)
        if not self._is_looking:
            self._is_looking = True
            self._loop.call_later(LOOK_SECONDS, self._look)
        try:
            return await question.answer
        finally:
            del self._open[question]

    def answered(self, question: Question, found: Found) -> None:
        """By the thread: rules have come to an end."""
        # Whoever waited may have gone, and the process be about to end.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._answer, question, found)

    def rests(self, rule: Rule) -> bool:
        """By the thread: whether a rule is not asked at the moment."""
        return bool(self._rest_until) and self.clock() < self._rest_until.get(rule.id, 0.0)

    def took(self, rule: Rule, seconds: float) -> None:
        """By the thread: a rule has come to its end; one that is slow each time is not asked."""
        if seconds < SLOW_SECONDS:
            self._slow.pop(rule.id, None)
            return
        self._slow[rule.id] += 1
        if self._slow[rule.id] >= SLOW_MAX:
            self._slow.pop(rule.id, None)
            self._tell(rule)
            self.came_back(rule)

    def came_back(self, rule: Rule) -> None:
        """By a thread whose rule has come to its end: it is asked again some day."""
        self._rest_until[rule.id] = self.clock() + self._rest_seconds

    def _answer(self, question: Question, found: Found) -> None:
        if not question.answer.done():
            question.answer.set_result(found)

    def _look(self) -> None:
        self._is_looking = bool(self._open)
        if not self._is_looking:
            return
        at = self._asking.at
        self._looks = self._looks + 1 if at is not None and at is self._seen else 1
        self._seen = at
        if at is not None and self._looks >= LOOKS_MAX:
            self._leave(at[1])
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _leave(self, rule: Rule) -> None:
        """Whoever waits is answered by another thread, without this rule."""
        self._tell(rule)
        self._rest_until[rule.id] = math.inf
        left, self._asking = self._asking, Asking(self)
        left.left = rule
        left.questions.put(None)
        for question in self._open:
            self._asking.questions.put(question)

    def _tell(self, rule: Rule) -> None:
        logger.warning("the fraud rule %s takes too long, and is not asked for now", rule.id)
