"""The half that acts: takes what is to be done, has it done, and writes down what became of it.

Any number of processes do it for the same reaction. What one has taken the others leave alone until
the lease ends; who comes back after that changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import Connection

from codebase.engine.projections.blame import describe
from codebase.engine.reactions.desk import Desk
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.figures import ReactionFigures
from codebase.engine.reactions.reaction import Reaction
from codebase.engine.reactions.reminders import BATCH, fire_due
from codebase.engine.reactions.store import REACTION_STORE, ForbiddenError, check_may_act
from codebase.engine.reactions.taken import Returned, Taken
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.way import Way
from codebase.foundation.backoff import Pauses, Rests
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch

logger = logging.getLogger(__name__)

SETTLED_TOGETHER = 100
FORGOTTEN_TOGETHER = 1_000
FORGET_INTERVAL_SECONDS = 60.0
FORGET_SECONDS = 0.1
"""At each look while more is left than that: more than is done between two looks."""
LONGEST_REST_SECONDS = 1.0
"""While nothing is due: other processes, and operators, may have left something to do."""
LAST_CALLS_SECONDS = 0.7
"""What calls on their way have to come back in once the worker is asked to stop. The others are cut
off and in doubt."""
CUT_OFF_SECONDS = 0.3
"""What these have to come back in; the others are found out about after the end of their leases."""


class Dispatcher:
    """One thread's work for one reaction.

    Args:
        reaction: whose intents and reminders.
        targets: the targets that it sends to, by name.
        settings: the store's address, bounds.
        loop: what calls are made on.
        stop: ends the work.
        ways: to targets, by name, where it is not the one that others have.
    """

    def __init__(
        self,
        reaction: Reaction,
        targets: Mapping[str, Target],
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        stop: threading.Event,
        *,
        ways: Mapping[str, Way] | None = None,
    ) -> None:
        self._reaction = reaction
        self._settings = settings
        self._stop = stop
        self._wake = threading.Event()
        self._ended: deque[Returned] = deque()
        self._returned: list[Returned] = []
        self._to_hurry = set[str]()
        self.errands = {
            name: Errands(
                (ways or {}).get(name)
                or Way(reaction.name, name, most=settings.reaction_in_flight),
                target,
                loop=loop,
                returned=self._take_back,
            )
            for name, target in targets.items()
        }
        """Target -> what is on its way to it."""
        self._desk = Desk(reaction, settings.reaction_attempts_max, errands=self.errands)
        self._figures = ReactionFigures(reaction.name, targets)
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._pauses = Pauses(stop)
        self._rests = Rests(settings.idle_poll_seconds)
        self._check_at = self._forget_at = 0.0
        self._waiting_for: str | None = "not connected yet"

    def what_is_missing(self) -> str | None:
        """What keeps the worker from working, or None; called by other threads."""
        return self._watch.what_is_late() or self._waiting_for or self._figures.what_is_unopened()

    def wake(self) -> None:
        """There may be something to do, or to stop for; from any thread."""
        self._wake.set()

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped; whatever happens to the store, try again."""
        name = f"{self._reaction.name} dispatcher"
        url = self._settings.required(REACTION_STORE.worker_url)
        while not self._stop.is_set():
            try:
                with connect(url, name, options=REACTION_STORE.options) as store:
                    self._work(self._watch.over(store))
            except (psycopg.Error, ForbiddenError) as error:
                self._waiting_for = describe(error)
                logger.warning("%s pauses: %s", name, self._waiting_for)
                self._pauses.pause()

    def _work(self, store: Connection[Any]) -> None:
        self._check_at = 0.0
        left_some = True
        while not self._stop.is_set():
            self._wake.clear()
            self._check(store)
            settled = self._settle(store)
            done = 0
            # Most of what is caused departs at once, and whether anything waits is one question.
            if left_some or self._is_something_due(store):
                # Reminders first: what they cause is taken in the same turn.
                fired = fire_due(store, self._reaction)
                taken, took_all = self._send(store)
                done, left_some = fired + taken, not took_all or fired >= BATCH
            self._waiting_for = None
            self._pauses.succeeded()
            self._rest(store, found=bool(done) or settled, found_all=not left_some)
        self._end(store)

    def _is_something_due(self, store: Connection[Any]) -> bool:
        return self._desk.is_behind or self._desk.seconds_until_due(store, self.errands, 0.0) <= 0

    def _rest(self, store: Connection[Any], *, found: bool, found_all: bool) -> None:
        if found and self._reaction.errand_rest_seconds:
            rest = self._reaction.errand_rest_seconds
            if not found_all:
                # What one look could not take does not wait for that.
                rest = min(rest, self._settings.idle_poll_seconds)
            self._stop.wait(rest)
            return
        rest = self._rests.after(found=found)
        if rest >= self._settings.idle_poll_seconds:
            self._rest_until_due(store)
        elif rest:
            self._wait(rest)

    def _rest_until_due(self, store: Connection[Any]) -> None:
        """Look only whether anything is due, until something is or somebody wakes this."""
        until_due = LONGEST_REST_SECONDS
        while until_due >= LONGEST_REST_SECONDS and not self._stop.is_set():
            self._check(store)
            # What is due and cannot be sent, because its target is left alone, is looked at again.
            until_due = self._desk.seconds_until_due(store, self.errands, LONGEST_REST_SECONDS)
            rest = max(self._settings.idle_poll_seconds, min(until_due, LONGEST_REST_SECONDS))
            if self._wait(rest):
                return

    def _wait(self, seconds: float) -> bool:
        """Whether this was woken within that time."""
        return not self._stop.is_set() and self._wake.wait(seconds)

    def _check(self, store: Connection[Any]) -> None:
        """Now and then: is this still the place, how much is there, what may be forgotten."""
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + self._settings.read_model_check_seconds
        check_may_act(store)
        self._figures.show(store)
        if now >= self._forget_at:
            days = self._settings.reaction_done_days
            if self._desk.forget_done(store, days, FORGOTTEN_TOGETHER, FORGET_SECONDS):
                self._forget_at = now + FORGET_INTERVAL_SECONDS

    def _settle(self, store: Connection[Any]) -> bool:
        """Write down how attempts ended; what cannot be written now is kept."""
        # First: who came back in vain before that is among those that are written, and hurried.
        self._to_hurry |= {name for name, each in self.errands.items() if each.way.answers_again()}
        while self._ended:
            self._returned.append(self._ended.popleft())
        found = bool(self._returned)
        for _ in range(0, len(self._returned), SETTLED_TOGETHER):
            together = self._returned[:SETTLED_TOGETHER]
            locked = self._desk.settle(store, together)
            self._returned = self._returned[SETTLED_TOGETHER:] + locked
            for each in together:
                if each not in locked:
                    self._way_of(each.taken).settled()
        for name in sorted(self._to_hurry):
            self._desk.hurry(store, name)
            self._to_hurry.remove(name)
        return found

    def _way_of(self, taken: Taken) -> Way:
        return self.errands[taken.sent.send.target].way

    def _send(self, store: Connection[Any]) -> tuple[int, bool]:
        """Begin what is due; returns how much that is, and whether it is all there was."""
        count, took_all = 0, True
        for name, errands in self.errands.items():
            room, taken = errands.way.reserve(), list[Taken]()
            try:
                if room:
                    taken = self._desk.take(store, name, room, errands.lease_seconds)
            finally:
                errands.way.release(room - len(taken))
            if taken:
                errands.depart(taken)
            errands.way.line_up(is_line=len(taken) == room)
            count += len(taken)
            took_all &= len(taken) < room
        return count, took_all

    def _take_back(self, returned: Returned) -> None:
        self._ended.append(returned)
        self._wake.set()

    def _end(self, store: Connection[Any]) -> None:
        for errands in self.errands.values():
            errands.way.close()
        self._await_calls(store, LAST_CALLS_SECONDS)
        for errands in self.errands.values():
            errands.abandon()
        self._await_calls(store, CUT_OFF_SECONDS)
        self._settle(store)

    def _await_calls(self, store: Connection[Any], seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while True:
            self._wake.clear()
            # Before anybody looks who is left: who has come back is on his way until it is settled.
            self._settle(store)
            left = ends_at - time.monotonic()
            if left <= 0 or not any(each.way.on_their_way for each in self.errands.values()):
                return
            self._wake.wait(left)
