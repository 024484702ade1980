"""What silences and retries look like: what is sent, and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, model_validator

from codebase.model.payments.alert import AlertState
from codebase.model.payments.silence import Matcher, SilenceBegun
from codebase.views.payments.fields import Moment, NoCard, PlainText
from codebase.views.payments.silences import MatcherShown
from codebase.web.fields import Text
from codebase.web.personal import Personal
from codebase.web.request_body import RequestBody
from codebase.web.schemas import example


class PostMatcher(RequestBody):
    """Which alerts: of this client, flagged by this rule, or both; at least one of them."""

    model_config = example(client="shop", rule="card_payments_in_a_minute")

    client: Annotated[Text | None, NoCard] = None
    rule: Annotated[Text | None, NoCard] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.client is None and self.rule is None:
            raise ValueError("must have a client, a rule, or both")
        return self


class PostSilence(RequestBody):
    """Tell nobody of some alerts, up to a moment."""

    model_config = example(
        matcher={"client": "shop"},
        ends_at="2099-12-01T17:00:00Z",
        reason="the shop is being tested",
    )

    matcher: PostMatcher
    ends_at: Moment
    reason: PlainText

    def begun_by(self, author: str, now: datetime) -> SilenceBegun:  # noqa: ARG002 - as by form
        """As the model has it."""
        matcher = Matcher(client=self.matcher.client, rule=self.matcher.rule)
        return SilenceBegun(
            matcher=matcher, ends_at=self.ends_at, reason=self.reason, author=author
        )


BEGUN: dict[str, Any] = {
    "id": "4f7d3f0e-95a5-4b51-9b5d-4b7f1f6a6a52",
    "matcher": {"client": "shop", "rule": "card_payments_in_a_minute"},
    "ends_at": "2099-12-01T17:00:00Z",
    "reason": "the shop is being tested",
    "author": "operator",
}


class SilenceAnswer(BaseModel):
    """A silence as it was begun; this is also what its repeat is answered with."""

    model_config = example(**BEGUN)

    id: UUID
    matcher: MatcherShown
    ends_at: datetime
    reason: Personal[str]
    author: str

    @classmethod
    def of(cls, silence_id: UUID, begun: SilenceBegun) -> Self:
        """What was begun."""
        matcher = MatcherShown(client=begun.matcher.client, rule=begun.matcher.rule)
        return cls(
            id=silence_id,
            matcher=matcher,
            ends_at=begun.ends_at,
            reason=begun.reason,
            author=begun.author,
        )


class RetryAnswer(BaseModel):
    """How the alert stands now."""

    model_config = example(id="8f0d7f0c-7d52-5f43-9a0e-3f1f5d2c6b71", state="pending")

    id: UUID
    state: AlertState
