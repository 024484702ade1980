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
    AlertSilenced,
    Channel,
)
from codebase.model.payments.fraud_judgement import FindingKind
from codebase.model.payments.fraud_rule_set import RESERVED as LISTS
from codebase.model.payments.transaction import TRANSACTION, Reason, TransactionFlagged
from codebase.services.alertman import digests
from codebase.services.alertman.sending import RECIPIENT, without

# Names of reactions, targets, actions and reminders are stored, and never change.
LOG = "log"
RAISE, SEND, RECORD, SILENCED = "raise", "send", "record", "silenced"
DIGEST, AGAIN, OVER = "digest", "again", "over"

PATIENCE = Patience(first_seconds=5.0, longest_seconds=3600.0, at_most_seconds=86_400.0)


def raise_alerts(happened: Happened, _state: Any) -> Sequence[Intent]:  # noqa: ANN401 - as reactions have it
    """An alert for each channel, with what the fraud police found."""
    flagged = happened.event
    return [Send(LOG, RAISE, {"score": flagged.score, "rules": causes(flagged.reasons)})]


def causes(reasons: Sequence[Reason]) -> list[str]:
    """The rules by which it was flagged: those that hit and weigh something, and the lists.

    Not those that failed: whoever silences a rule that fails at every payment must not silence
    what others have found. Only where nothing else did it are those named that fail closed.
    """
    weighing = [each for each in reasons if each.weight != "0" or each.rule in LISTS]
    hits = [each for each in weighing if each.kind != FindingKind.ERR]
    return list(dict.fromkeys(each.rule for each in hits or weighing))


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
    match happened.event:
        case AlertSilenced(counted_at=datetime() as counted_at):
            return digests.given_back(state or digests.NOTHING, counted_at, happened.recorded_at)
        case event:
            return digests.added(state, as_json(event.alert), happened.recorded_at)


def react(happened: Happened, state: digests.State) -> Sequence[Intent]:
    """Send at once, or when the digest is due."""
    channel = happened.event.alert.channel.value
    if state["going"]:
        return [Send(channel, SEND, {"alerts": state["going"], "counted": state["mails"][-1]})]
    if not state["held"]:
        return ()
    # Whatever the digest was due at before: somebody may have filled it and sent it.
    return [digest_due(channel, state)]


def digest_due(channel: str, state: digests.State) -> Remind:
    """When what is held goes; the reminder knows it, to be told from one that is replaced."""
    return Remind(DIGEST, digests.due_at(state), {"channel": channel, "due": state["due"]})


def send_due(reminder: Reminder, state: digests.State) -> Sequence[Intent]:
    """All that has come together, or one mail again to those who were not to get it yet."""
    if is_over(reminder):
        after = sent_due(reminder, state)
        return [digest_due(reminder.data["channel"], after)] if after["held"] else ()
    if reminder.name != DIGEST:
        return [Send(reminder.data["channel"], SEND, reminder.data["mail"])]
    if not digests.may_go(state, reminder.data.get("due")):
        return ()
    mail = {"alerts": state["held"], "counted": reminder.due_at.isoformat()}
    return [Send(reminder.data["channel"], SEND, mail)]


def sent_due(reminder: Reminder, state: digests.State) -> digests.State:
    """After a digest the next one begins, and goes once it is known what became of this one."""
    if is_over(reminder):
        went_at = reminder.due_at if reminder.data["went"] else None
        return digests.over(state, reminder.data["counted"], went_at)
    if reminder.name == DIGEST and digests.may_go(state, reminder.data.get("due")):
        return digests.begun(state, reminder.due_at)
    return state


def is_over(reminder: Reminder) -> bool:
    """Whether it says what became of a mail."""
    return reminder.name.startswith(OVER)


def outcome(sent: Sent, answer: Answer) -> Sequence[Intent]:
    """What became of a mail is noted in each alert, and in the transactions that were told of."""
    if sent.send.action != SEND:
        return ()
    again = resending(sent, answer) if answer.data.get("again") else None
    last = {} if again else last_word(sent, answer)
    if again is None and answer.data.get("nobody"):
        answer = replace(answer, refused=f"given up: {reason_of(answer)}")
    found = became(sent, answer)
    noted = Send(LOG, RECORD, {"channel": sent.send.target, **found, **last})
    intents = [noted if found else None, again, known(sent, answer, went="sent" in found)]
    return [each for each in intents if each is not None]


def known(sent: Sent, answer: Answer, *, went: bool) -> Remind | None:
    """What became of a mail that its client's other alerts wait for; None: they do not.

    A reminder that is due at once, because only these change what is remembered.
    """
    counted = sent.send.data.get("counted")
    if counted is None:
        return None
    at = answer.data.get("at", counted)
    data = {"channel": sent.send.target, "counted": counted, "went": went}
    return Remind(f"{OVER} {sent.key}", datetime.fromisoformat(at), data)


def last_word(sent: Sent, answer: Answer) -> dict[str, Any]:
    """Whom a mail that was tried again never reached, however it stands with those it has."""
    if "only" not in sent.send.data:
        return {}
    never = list(sent.send.data["refused"])
    if answer.data.get("again"):
        never += [f"given up: {text}" for text in answer.data["refused"]]
    elif answer.refused is not None:
        numbers = ", ".join(map(str, sent.send.data["only"]))
        never.append(f"{RECIPIENT.format(numbers)} {answer.refused}")
    else:
        never += answer.data.get("refused", ())
    return {"finished": never}


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
        "refused": [
            *data.get("refused", ()),
            *without(answer.data["refused"], answer.data["again"]),
        ],
        "since": since.isoformat(),
        "times": times + 1,
        # It has gone to somebody, whatever becomes of this.
        "counted": None,
    }
    # Each mail has its own: one does not replace that of another.
    due_at = now + timedelta(seconds=pause)
    return Remind(f"{AGAIN} {sent.key}", due_at, {"channel": sent.send.target, "mail": mail})


def reason_of(answer: Answer) -> str:
    """What those said who refused."""
    return "; ".join(answer.data["refused"])


def became(sent: Sent, answer: Answer) -> dict[str, Any]:
    """What became of those alerts that were told; transactions by the ids of their alerts."""
    silenced = answer.data.get("silenced", ())
    told = {
        str(alert.id): str(alert.transaction_id)
        for alert in alerts_of(sent)
        if str(alert.id) not in silenced
    }
    if not told:
        return {}
    if answer.refused is not None:
        return {"dead": list(told), "reason": answer.refused}
    if answer.data.get("nobody"):
        return {"delayed": list(told), "reason": reason_of(answer)}
    refused = [*sent.send.data.get("refused", ()), *answer.data.get("refused", ())]
    return {"sent": told, "refused": refused}


def kept_back(sent: Sent, by_silence: Mapping[UUID, UUID], *, nothing_else: bool) -> Sequence[Send]:
    """The commands for what is silenced, before the rest goes.

    Args:
        sent: the message that it is left out of.
        by_silence: alert -> the silence that it matches.
        nothing_else: whether the message does not go, so that it is none of its client's.
    """
    counted = sent.send.data.get("counted") if nothing_else else None
    return [
        Send(LOG, SILENCED, {"of": str(alert), "silence": str(silence), "counted": counted})
        for alert, silence in by_silence.items()
    ]


def by_channel(channel: Channel) -> Reaction:
    """The reaction that sends by one channel, client by client."""

    def subject(happened: Happened) -> UUID | None:
        match happened.event:
            case AlertRaised(alert=alert) | AlertRetried(alert=alert) if alert.channel is channel:
                return uuid5(ALERTS, alert.client)
            case AlertSilenced(alert=Alert() as alert, counted_at=datetime()) if (
                alert.channel is channel
            ):
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
