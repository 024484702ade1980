"""What the page's forms send: the same commands as by JSON, in the way of browsers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from codebase.foundation.errors import invalid
from codebase.model.payments.silence import Matcher, SilenceBegun
from codebase.views.payments.fields import PlainText
from codebase.web.fields import ABSENT_IF_EMPTY, FromText
from codebase.web.forms import PageForm, StandsFor
from codebase.web.request_body import RequestBody
from codebase.web.schemas import example

SPANS = {"1": "1 hour", "4": "4 hours", "24": "a day", "168": "a week"}
"""How long a silence may be that the page begins: hours -> in words."""
KEY = "0b3a1f0e-7a5e-4c53-8f0e-3a8f8f3f2c11"


class RetryForm(PageForm):
    """Have an alert tried again."""

    model_config = example(alert_id="8f0d7f0c-7d52-5f43-9a0e-3f1f5d2c6b71", key=KEY)

    alert_id: FromText[UUID]

    def stands_for(self) -> StandsFor:
        """The command that by JSON asks for the same."""
        return StandsFor("retry_alert", None, {"alert_id": self.alert_id})


class ForHours(RequestBody):
    """Tell nobody of the alerts of a client, or of a rule, for some hours."""

    client: Annotated[PlainText | None, ABSENT_IF_EMPTY] = None
    rule: Annotated[PlainText | None, ABSENT_IF_EMPTY] = None
    hours: Literal["1", "4", "24", "168"]
    reason: PlainText

    def begun_by(self, author: str, now: datetime) -> SilenceBegun:
        """As the model has it. A repeat reckons another end, and is answered with the first one.

        Raises:
            InvalidInputError: it would silence everything.
        """
        if self.client is None and self.rule is None:
            raise invalid("client", "must be there, or a rule, or both")
        return SilenceBegun(
            matcher=Matcher(client=self.client, rule=self.rule),
            ends_at=now + timedelta(hours=int(self.hours)),
            reason=self.reason,
            author=author,
        )


class SilenceForm(ForHours, PageForm):
    """The same, as a button that was pressed."""

    model_config = example(client="shop", rule="", hours="4", reason="a test", key=KEY)

    def stands_for(self) -> StandsFor:
        """A command of its own: by JSON it is said when a silence ends."""
        asked = ForHours.model_validate(self.model_dump(exclude={"key"}))
        return StandsFor("begin_silence_by_form", asked, {})


class EndForm(PageForm):
    """End a silence before its time."""

    model_config = example(silence_id="4f7d3f0e-95a5-4b51-9b5d-4b7f1f6a6a52", key=KEY)

    silence_id: FromText[UUID]

    def stands_for(self) -> StandsFor:
        """The command that by JSON asks for the same."""
        return StandsFor("end_silence", None, {"silence_id": self.silence_id})
