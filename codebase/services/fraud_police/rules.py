"""How well the rules do: `GET /rules`, and the page at `/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from codebase.model.payments.fraud_rule_set import Rule, RuleSet, RuleState
from codebase.model.payments.fraud_rules import in_words
from codebase.services.fraud_police.decisions import decisions_of
from codebase.services.fraud_police.listings import listings_of
from codebase.services.fraud_police.police import Police
from codebase.views.payments import fraud_queries
from codebase.web.apps import ServiceApp
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.fields import ABSENT_IF_EMPTY
from codebase.web.html import Link, Pages
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS, parked_streams
from codebase.web.schemas import example
from codebase.web.shell import caller_of, require_operator

PAGES = Pages("codebase.services.fraud_police")
LATEST = 2_000
LABELS = 1_000
"""Of the transactions that were labelled those last; each is looked up with its decision."""
SHOWN = 25
RULE = {
    "rule": "card_payments_in_an_hour",
    "state": "live",
    "weight": 15,
    "window": 3600,
    "hits": 12,
    "confirmed": 3,
    "false_positive": 1,
    "precision": "3 of 4",
    "recall": "3 of 5",
}


OnlyFraudShown = Annotated[
    bool | None,
    ABSENT_IF_EMPTY,
    Query(description="Only what was denied, or only what was cleared."),
]


class RuleStanding(BaseModel):
    """A rule, how often it hit, and how right it was.

    `hits` are among the latest decisions; `confirmed` and `false_positive` among the 1,000
    transactions that were labelled last. `precision` is how many of its labelled hits were fraud,
    `recall` how many it hit of the frauds that were decided while it was there in the same state,
    `live` or `shadow`; null where nobody has labelled any.
    """

    model_config = example(**RULE)

    rule: str
    state: RuleState
    weight: int
    window: Annotated[int | None, Field(description="In seconds, if it has one.")]
    hits: int
    confirmed: int
    false_positive: int
    precision: str | None
    recall: str | None

    @property
    def window_in_words(self) -> str:
        """As people say it; empty where it has none."""
        return in_words(self.window) if self.window else ""


class RuleStandings(BaseModel):
    """The rules that are asked now, and how they did.

    `decisions` are the latest that were looked at, `denied` those of them that were; of the 1,000
    that were labelled last `caught` were fraud and denied, `missed` were fraud and cleared, and
    `false_alarms` were denied and none.
    """

    model_config = example(
        rule_set="55206272c081d5f82373ae51ca6a81cd",
        threshold=100,
        decisions=500,
        denied=9,
        caught=4,
        missed=1,
        false_alarms=1,
        items=[RULE],
    )

    rule_set: str
    threshold: int
    decisions: int
    denied: int
    caught: int
    missed: int
    false_alarms: int
    items: list[RuleStanding]


class Told(NamedTuple):
    """What a row of `fraud_queries.RULES` says of a rule."""

    hits: int = 0
    confirmed: int = 0
    false_positive: int = 0
    frauds: int = 0


def standings_of(
    rules: RuleSet, rows: Sequence[Sequence[Any]], totals: Sequence[int]
) -> RuleStandings:
    """The rows of `fraud_queries.RULES`, and the one of `TOTALS`."""
    told = {(name, shadow): Told(*counts) for name, shadow, *counts in rows}
    decisions, denied, caught, missed, false_alarms = totals
    return RuleStandings(
        rule_set=rules.hash,
        threshold=rules.threshold,
        decisions=decisions,
        denied=denied,
        caught=caught,
        missed=missed,
        false_alarms=false_alarms,
        items=[_standing(rule, told) for rule in rules.rules],
    )


def _standing(rule: Rule, told: Mapping[tuple[str, bool], Told]) -> RuleStanding:
    counts = told.get((rule.id, rule.state is RuleState.SHADOW), Told())
    labelled = counts.confirmed + counts.false_positive
    return RuleStanding(
        rule=rule.id,
        state=rule.state,
        weight=rule.weight,
        window=rule.window,
        hits=counts.hits,
        confirmed=counts.confirmed,
        false_positive=counts.false_positive,
        precision=f"{counts.confirmed} of {labelled}" if labelled else None,
        recall=f"{counts.confirmed} of {counts.frauds}" if counts.frauds else None,
    )


def add_rules(
    app: ServiceApp, reads: ConsistentReads, police: Police, links: Sequence[Link]
) -> None:
    """The routes of rules, and the page; `links` lead to other pages."""
    rules = reads.query(fraud_queries.RULES, fraud_queries.RULE_ARGUMENTS)
    totals = reads.query(fraud_queries.TOTALS, fraud_queries.RULE_ARGUMENTS)
    decisions = reads.query(fraud_queries.DECISIONS, fraud_queries.PAGE_ARGUMENTS)
    listings = reads.query(fraud_queries.LISTINGS, fraud_queries.LISTING_ARGUMENTS)
    for_operators: dict[str, Any] = {
        "dependencies": [Depends(require_operator)],
        "responses": LISTS,
    }

    async def standings(request: Request) -> RuleStandings:
        [counted] = await reads.fetch(request, totals, LATEST, LABELS)
        found = await reads.fetch(request, rules, LATEST, LABELS)
        return standings_of(police.rules, found, counted)

    @app.get("/rules", **for_operators)
    async def get_rules(request: Request) -> RuleStandings:
        """Which rules are asked, how often they hit, and how right they were."""
        return await standings(request)

    @app.get("/", response_class=HTMLResponse, **for_operators)
    async def get_page(
        request: Request, is_fraud: OnlyFraudShown = None, last_reference: LastReference = None
    ) -> Response:
        """Rules with their hits, shadow beside live, the lists, and what was decided last."""
        now = police.now()
        rows = await reads.fetch(request, decisions, None, last_reference, SHOWN, is_fraud)
        found = decisions_of(rows, SHOWN)
        listed = await reads.fetch(request, listings, None, SHOWN, now)
        return PAGES.answer(
            "page.html",
            caller_of(request),
            links=links,
            made_at=now,
            parked=parked_streams(request.scope),
            standings=await standings(request),
            labels=LABELS,
            is_fraud=is_fraud,
            is_first=last_reference is None,
            decisions=found.items,
            last=found.last_reference,
            more=len(found.items) == SHOWN,
            listings=listings_of(listed, SHOWN).items,
        )
