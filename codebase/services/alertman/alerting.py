"""What is done about flagged transactions: alerts are raised, sent, and what became of them noted.

    transaction.flagged ──▶ an alert for each channel ──▶ a mail about one, or a digest of many
                                                     ──▶ sent | dead | silenced, and ALERTED

Raising is a reaction by itself, and so is each channel: none waits for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from codebase.engine.reactions.reaction import (
    Answer,
    Happened,
    Intent,
    Patience,
    Reaction,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.foundation.backoff import doubled
from codebase.foundation.validation import adapter
from codebase.model.payments.alert import (
    ALERT,
    ALERTS,
    Alert,
    AlertRaised,
    AlertRetried,
    Channel,
)
from codebase.model.payments.transaction import TRANSACTION, TransactionFlagged
from codebase.services.alertman import digests

# Names of reactions, targets, actions and reminders are stored, and never change.
LOG = "log"
RAISE, SEND, RECORD = "raise", "send", "record"
DIGEST, AGAIN = "digest", "again"

PATIENCE = Patience(first_seconds=5.0, longest_seconds=3600.0, at_most_seconds=86_400.0)


def raise_alerts(happened: Happened, _state: Any) -> Sequence[Intent]:  # noqa: ANN401 - as reactions have it
    """An alert for each channel, with what the fraud police found."""
    flagged = happened.event
    rules = list(dict.fromkeys(reason.rule for reason in flagged.reasons))
    return [Send(LOG, RAISE, {"score": flagged.score, "rules": rules})]


RAISING = Reaction(
    name="alerts",
    aggregates=(TRANSACTION,),
    subject=lambda happened: (
        happened.stream_id if isinstance(happened.event, TransactionFlagged) else None
    ),
    react=raise_alerts,
)


def as_json(alert: Alert) -> dict[str, Any]:
    """An alert as intents and states hold it."""
    found: dict[str, Any] = adapter(Alert).dump_python(alert, mode="json")
    return found


def alerts_of(sent: Sent) -> list[Alert]:
    """What is to be told together.

    Raises:
        ValueError: these are no alerts.
    """
    found: list[Alert] = adapter(list[Alert]).validate_python(sent.send.data["alerts"])
    return found


def evolve(state: digests.State | None, happened: Happened) -> digests.State:
    """The client's alerts, and when the next mail may go."""
    return digests.added(state, as_json(happened.event.alert), happened.recorded_at)


def react(happened: Happened, state: digests.State) -> Sequence[Intent]:
    """Send at once, or when the digest is due."""
    channel = happened.event.alert.channel.value
    if state["going"]:
        return [Send(channel, SEND, {"alerts": state["going"]})]
    # Whatever the digest was due at before: somebody may have filled it and sent it.
    return [Remind(DIGEST, digests.due_at(state), {"channel": channel})]


def send_due(reminder: Reminder, state: digests.State) -> Sequence[Intent]:
    """All that has come together, or one mail again to those who were not to get it yet."""
    if reminder.name != DIGEST:
        return [Send(reminder.data["channel"], SEND, reminder.data["mail"])]
    if not state["held"]:
        return ()
    return [Send(reminder.data["channel"], SEND, {"alerts": state["held"]})]


def sent_due(reminder: Reminder, state: digests.State) -> digests.State:
    """After a digest the next one begins."""
    return digests.emptied(state, reminder.due_at) if reminder.name == DIGEST else state


def outcome(sent: Sent, answer: Answer) -> Sequence[Intent]:
    """What became of a mail is noted in each alert, and in the transactions that were told of."""
    if sent.send.action != SEND:
        return ()
    again = resending(sent, answer) if answer.data.get("again") else None
    if again is None and answer.data.get("nobody"):
        answer = replace(answer, refused=f"given up: {reason_of(answer)}")
    noted = Send(LOG, RECORD, {"channel": sent.send.target, **became(sent, answer)})
    return [noted] if again is None else [noted, again]


def resending(sent: Sent, answer: Answer) -> Remind | None:
    """When the mail goes again to those who were not to get it yet; None: never.

    A reminder, because it holds nobody's turn: other mails about the client do not wait for it.
    """
    data, now = sent.send.data, datetime.fromisoformat(answer.data["at"])
    since = datetime.fromisoformat(data["since"]) if "since" in data else now
    times = data.get("times", 0)
    pause = doubled(PATIENCE.first_seconds, times, PATIENCE.longest_seconds)
    if now - since >= timedelta(seconds=PATIENCE.at_most_seconds):
        return None
    mail = {
        **data,
        "only": answer.data["again"],
        "refused": data.get("refused", answer.data["refused"]),
        "since": since.isoformat(),
        "times": times + 1,
    }
    # Each mail has its own: one does not replace that of another.
    due_at = now + timedelta(seconds=pause)
    return Remind(f"{AGAIN} {sent.key}", due_at, {"channel": sent.send.target, "mail": mail})


def reason_of(answer: Answer) -> str:
    """What those said who refused."""
    return "; ".join(answer.data["refused"])


def became(sent: Sent, answer: Answer) -> dict[str, Any]:
    """Alert -> what became of it; transactions by the ids of their alerts."""
    silenced: Mapping[str, str] = answer.data.get("silenced", {})
    told = {
        str(alert.id): str(alert.transaction_id)
        for alert in alerts_of(sent)
        if str(alert.id) not in silenced
    }
    if answer.refused is not None:
        return {"dead": list(told), "reason": answer.refused, "silenced": dict(silenced)}
    if answer.data.get("nobody"):
        return {"delayed": list(told), "reason": reason_of(answer), "silenced": dict(silenced)}
    refused = [*sent.send.data.get("refused", ()), *answer.data.get("refused", ())]
    return {"sent": told, "refused": refused, "silenced": dict(silenced)}


def by_channel(channel: Channel) -> Reaction:
    """The reaction that sends by one channel, client by client."""

    def subject(happened: Happened) -> UUID | None:
        match happened.event:
            case AlertRaised(alert=alert) | AlertRetried(alert=alert) if alert.channel is channel:
                return uuid5(ALERTS, alert.client)
            case _:
                return None

    return Reaction(
        name=f"alerts_{channel}",
        aggregates=(ALERT,),
        subject=subject,
        evolve=evolve,
        react=react,
        remind=send_due,
        reminded=sent_due,
        outcome=outcome,
        takes_refusals=True,
        patience={channel.value: PATIENCE},
    )


BY_EMAIL = by_channel(Channel.EMAIL)
BY_SMS = by_channel(Channel.SMS)
