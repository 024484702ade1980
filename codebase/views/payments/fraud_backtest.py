"""`orderly fraud backtest`: what other rules would have decided of what was judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.foundation.validation import adapter
from codebase.model.payments.fraud_features import Features, Payment
from codebase.model.payments.fraud_judgement import FindingKind, Judgement, judge
from codebase.model.payments.fraud_label import Label
from codebase.model.payments.fraud_rule_set import Rule, RuleSet
from codebase.operations import OperationError

READ_DECISIONS = """
    SELECT decision.transaction_id::text, decision.denied, decision.payment::text,
           decision.features::text, label.label
    FROM fraud_decision AS decision
    LEFT JOIN fraud_label AS label ON label.transaction_id = decision.transaction_id
    WHERE decision.as_of >= %(since)s AND decision.as_of < %(until)s
    ORDER BY decision.as_of, decision.transaction_id
"""
FETCH = 2_000
EXAMPLES_MAX = 10


@dataclass(slots=True)
class Told:
    """How well the denied agree with the labels; `missed` is fraud that was let through."""

    hits: int = 0
    false_alarms: int = 0
    missed: int = 0

    def note(self, label: str | None, *, denied: bool) -> None:
        """Count one transaction."""
        if label == Label.CONFIRMED:
            self.hits += denied
            self.missed += not denied
        elif label == Label.FALSE_POSITIVE:
            self.false_alarms += denied

    def line(self) -> str:
        """As a person reads it."""
        precision = _share(self.hits, self.hits + self.false_alarms)
        recall = _share(self.hits, self.hits + self.missed)
        return f"precision {precision}, recall {recall}, missed {self.missed}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "unknown"


@dataclass(slots=True)
class Backtest:
    """What came of it.

    Args:
        transactions: how many were judged again.
        denied_then: how many of them had been denied.
        denied_now: how many the new rules deny.
        newly_denied, newly_cleared: ids and reasons of the first that flip, each way.
        flips: how many flip, each way.
        hits: rule -> how often it hits now.
        exempt: rule -> how often what it asks for was not recorded, so that it was left out.
        labelled_then, labelled_now: how the decisions agree with the labels.
    """

    transactions: int = 0
    denied_then: int = 0
    denied_now: int = 0
    flips: Counter[str] = field(default_factory=Counter)
    newly_denied: list[str] = field(default_factory=list)
    newly_cleared: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    exempt: Counter[str] = field(default_factory=Counter)
    labelled_then: Told = field(default_factory=Told)
    labelled_now: Told = field(default_factory=Told)

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        yield f"{self.transactions} transactions, {self.denied_then} had been denied,"
        more, fewer = self.flips["denied"], self.flips["cleared"]
        yield f"{self.denied_now} would be: {more} that were not, {fewer} that were are not"
        for name, count in sorted(self.exempt.items()):
            yield f"left out: {name}, whose window was not recorded for {count} of them"
        for name, count in self.hits.most_common():
            yield f"hits: {name} {count}"
        yield f"labelled, then: {self.labelled_then.line()}"
        yield f"labelled, now: {self.labelled_now.line()}"
        yield from (f"would be denied: {each}" for each in self.newly_denied)
        yield from (f"would be cleared: {each}" for each in self.newly_cleared)


def backtest(settings: Settings, rules: RuleSet, since: datetime, until: datetime) -> Backtest:
    """Judge again what was judged from `since` on and before `until`.

    Lists and windows are those that were recorded with each decision.

    Args:
        settings: needs the read model.
        rules: to judge by.
        since: the first moment.
        until: the first moment after it.

    Raises:
        OperationError: a later release has decided something.
        psycopg.Error: the store cannot be read.
    """
    found, usable = Backtest(), UsableRules(rules)
    payments, features = adapter(Payment).validate_json, adapter(Features).validate_json
    with (
        connect(settings.required("read_model_url"), "fraud_backtest") as store,
        store.transaction(),
        store.cursor("decisions") as cursor,
    ):
        cursor.itersize = FETCH
        cursor.execute(READ_DECISIONS, {"since": since, "until": until})
        for transaction_id, denied, payment, recorded, label in cursor:
            try:
                paid, past = payments(payment), features(recorded)
            except ValueError:
                # Its text would repeat the payment.
                raise OperationError(
                    f"this release cannot read what was decided of {transaction_id}"
                ) from None
            chosen, exempt = usable.of(past)
            judgement = judge(chosen, paid, past)
            _note(found, transaction_id, denied, judgement, label)
            found.exempt.update(exempt)
    return found


class UsableRules:
    """A rule set without the rules that ask for what was not recorded."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._known: dict[tuple[frozenset[int], frozenset[int]], tuple[RuleSet, list[str]]] = {}

    def of(self, past: Features) -> tuple[RuleSet, Sequence[str]]:
        """The rules that these features are enough for, and the names of the live ones left out."""
        key = frozenset(past.windows), frozenset(past.strict)
        known = self._known.get(key)
        if known is None:
            kept = tuple(rule for rule in self._rules.rules if _is_recorded(rule, *key))
            left_out = [rule.id for rule in self._rules.live if not _is_recorded(rule, *key)]
            known = self._known[key] = RuleSet(self._rules.threshold, kept), left_out
        return known


def _is_recorded(rule: Rule, windows: frozenset[int], strict: frozenset[int]) -> bool:
    return rule.window is None or rule.window in (strict if rule.is_strict else windows)


def _note(
    found: Backtest,
    transaction_id: str,
    denied: bool,  # noqa: FBT001 - a row's own
    judgement: Judgement,
    label: str | None,
) -> None:
    found.transactions += 1
    found.denied_then += denied
    found.denied_now += judgement.denied
    hits = [each.rule for each in judgement.findings if each.kind is FindingKind.HIT]
    found.hits.update(hits)
    found.labelled_then.note(label, denied=denied)
    found.labelled_now.note(label, denied=judgement.denied)
    if judgement.denied != denied:
        found.flips["denied" if judgement.denied else "cleared"] += 1
        examples = found.newly_denied if judgement.denied else found.newly_cleared
        if len(examples) < EXAMPLES_MAX:
            examples.append(f"{transaction_id} scores {judgement.score}: {', '.join(hits)}")
