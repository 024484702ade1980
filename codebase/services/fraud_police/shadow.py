"""What shadow rules find, written down beside the decisions, by a thread that nobody waits for.

A shadow rule that raises has a finding that says so; one that takes long is late by itself. What is
decided comes from live rules only, and is decided before this is even known here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
from prometheus_client import Counter
from psycopg import Connection
from psycopg.types.json import Jsonb

from codebase.engine.projections.checkpoint import STORE_OPTIONS
from codebase.engine.projections.projection import Projector
from codebase.engine.projections.projector import projector_team
from codebase.foundation.backoff import Pauses
from codebase.foundation.postgres import connect, trouble
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.foundation.validation import adapter
from codebase.foundation.worker import Team, Worker
from codebase.model.payments.fraud_features import Features, Payment
from codebase.model.payments.fraud_judgement import Finding, FindingKind, find
from codebase.model.payments.fraud_rule_set import RuleSet, RuleSetError, recorded_rules

logger = logging.getLogger(__name__)

JUDGED = Counter("orderly_fraud_shadow_decisions", "Decisions that shadow rules have looked at.")
FOUND = Counter("orderly_fraud_shadow_findings", "What shadow rules found.", ["rule", "kind"])

BATCH = 200

# The next decisions of a partition, with their rules: none where these have not arrived yet.
READ_NEXT = """
    SELECT decision.id, decision.version, decision.position, decision.payment::text,
           decision.features::text, adopted.text
    FROM fraud_decision AS decision
    LEFT JOIN fraud_rule_set AS adopted ON adopted.hash = decision.rules
    WHERE decision.partition = %(partition)s AND decision.position > %(after)s
    ORDER BY decision.partition, decision.position
    LIMIT %(most)s
"""
READ_REACHED = "SELECT position FROM fraud_shadow_reached WHERE partition = %(partition)s"
INSERT = """
    INSERT INTO fraud_shadow (id, version, findings, hits)
    VALUES (%(id)s, %(version)s, %(findings)s, %(hits)s)
    ON CONFLICT DO NOTHING
"""
# Whoever has been taken back meanwhile begins again.
BEGIN = """
    INSERT INTO fraud_shadow_reached (partition, position) VALUES (%(partition)s, %(new)s)
    ON CONFLICT DO NOTHING
"""
MOVE = """
    UPDATE fraud_shadow_reached SET position = %(new)s
    WHERE partition = %(partition)s AND position = %(after)s
"""
READ_ALL = """
    SELECT shadow.id, shadow.version, shadow.findings, decision.payment::text,
           decision.features::text, adopted.text
    FROM fraud_shadow AS shadow
    LEFT JOIN fraud_decision AS decision USING (id, version)
    LEFT JOIN fraud_rule_set AS adopted ON adopted.hash = decision.rules
"""

ShadowRow = dict[str, Any]


class Shadow:
    """One thread's work: after each commit of the projector, look at what it has brought.

    Args:
        settings: where the store is, which partitions there are.
        stop: ends the work.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._url = settings.required("read_model_projector_url")
        self._partitions = settings.worked_partitions
        self._look_seconds = settings.read_model_check_seconds
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._pauses = Pauses(stop)
        self._stop = stop
        self._there_is_more = threading.Event()
        self._rules: dict[str, RuleSet | None] = {}
        self._unreadable: set[tuple[int, int]] = set()
        self.wake = self._there_is_more.set

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped, whatever happens to the store."""
        while not self._stop.is_set():
            try:
                with connect(self._url, "fraud_shadow", options=STORE_OPTIONS) as store:
                    self._work(self._watch.over(store))
            except psycopg.Error as error:
                logger.warning("shadow rules pause: %s", trouble(error))
                self._pauses.pause()

    def _work(self, store: Connection[Any]) -> None:
        while not self._stop.is_set():
            self._there_is_more.clear()
            found = [self.look(store, partition) for partition in self._partitions]
            self._pauses.succeeded()
            if not any(found):
                self._there_is_more.wait(self._look_seconds)

    def look(self, store: Connection[Any], partition: int) -> bool:
        """Look at the next decisions of a partition; whether there were any."""
        row = store.execute(READ_REACHED, {"partition": partition}).fetchone()
        after = row[0] if row else 0
        asked = {"partition": partition, "after": after, "most": BATCH}
        decisions = store.execute(READ_NEXT, asked).fetchall()
        rows: list[ShadowRow] = []
        found: list[Finding] = []
        new = after
        for card_id, version, position, payment, features, text in decisions:
            rules = None if text is None else self._rules_of(text)
            if rules is None or self._stop.is_set():
                break
            try:
                findings = findings_of(rules, payment, features)
            except UnreadableError as error:
                self._say_once((partition, position), error)
                break
            rows += _rows(card_id, version, findings)
            found += findings
            new = position
        if new == after:
            return False
        with store.transaction(), store.cursor() as cursor:
            cursor.executemany(INSERT, rows)
            place = {"partition": partition, "after": after, "new": new}
            has_moved = cursor.execute(MOVE if row else BEGIN, place).rowcount > 0
        if has_moved:
            JUDGED.inc(sum(position <= new for _, _, position, *_ in decisions))
            for finding in found:
                FOUND.labels(finding.rule, finding.kind).inc()
        return True

    def _say_once(self, place: tuple[int, int], error: UnreadableError) -> None:
        if place not in self._unreadable:
            self._unreadable.add(place)
            logger.warning("shadow rules wait at %s:%s: %s", *place, error)

    def _rules_of(self, text: str) -> RuleSet | None:
        """The rules; None where they are of a later release, which will have to look at them."""
        if text not in self._rules:
            try:
                self._rules[text] = recorded_rules(text)
            except RuleSetError as error:
                logger.warning("shadow rules wait for the release that knows them: %s", error)
                self._rules[text] = None
        return self._rules[text]


def _rows(card_id: UUID, version: int, findings: Sequence[Finding]) -> Iterator[ShadowRow]:
    if findings:
        yield {
            "id": card_id,
            "version": version,
            "findings": Jsonb(as_json(findings)),
            "hits": [each.rule for each in findings if each.kind is FindingKind.HIT],
        }


class UnreadableError(Exception):
    """A decision is of a later release, which has counted more."""


def findings_of(rules: RuleSet, payment: str, features: str) -> list[Finding]:
    """What the shadow rules of a set find in a decision, from its recorded JSON.

    Raises:
        UnreadableError: this release cannot read it.
    """
    try:
        paid = adapter(Payment).validate_json(payment)
        past = adapter(Features).validate_json(features)
    except ValueError:
        raise UnreadableError("the decision is of a release that counts something else") from None
    return find(rules.shadow, paid, past)


def as_json(findings: Sequence[Finding]) -> Any:  # noqa: ANN401 - JSON
    """Findings as they are stored."""
    return adapter(list[Finding]).dump_python(list(findings), mode="json")


def check_shadow(store: Connection[Any]) -> Iterator[str]:
    """A sentence for each row that does not follow from its decision and its rules."""
    with store.cursor("fraud_shadow_rows") as cursor:
        cursor.execute(READ_ALL)
        for card_id, version, findings, payment, features, text in cursor:
            name = f"fraud_shadow {card_id} {version}"
            if payment is None or text is None:
                yield f"{name}: has no decision"
                continue
            try:
                rules = recorded_rules(text)
            except RuleSetError as error:
                yield f"{name}: this release does not know its rules: {error}"
                continue
            try:
                expected = as_json(findings_of(rules, payment, features))
            except UnreadableError as error:
                yield f"{name}: cannot be compared: {error}"
                continue
            if findings != expected:
                yield f"{name}: is not what its rules find"


def police_team(settings: Settings, projector: Projector) -> tuple[Team, Team]:
    """The projector's workers, and the one that looks at what they bring by shadow rules."""
    stop = threading.Event()
    shadow = Shadow(settings, stop)
    worker = Worker("fraud_shadow", shadow.run, stop=stop, wake=shadow.wake)
    told = replace(projector, committed=shadow.wake)
    return projector_team(settings, told), Team([worker], [])
