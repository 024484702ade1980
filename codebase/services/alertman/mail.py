"""What is written to people: a mail or a short message about one transaction or about many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime

from codebase.model.payments.alert import Alert

LINE_MAX = 200
SEVEN_BITS = policy.default.clone(cte_type="7bit")
"""Not every server takes more than that, and not every one that is handed on to."""


def message_id(alert: Alert, sender: str) -> str:
    """The same for whatever is sent about this alert, however often."""
    domain = sender.rpartition("@")[2]
    return f"<{alert.transaction_id}.{alert.channel}@{domain}>"


def subject_of(alerts: Sequence[Alert]) -> str:
    """Of a mail about transactions of one client."""
    count = len(alerts)
    return line(f"Fraud: {count} transaction{'' if count == 1 else 's'} of {alerts[0].client}")


def mail_of(
    alerts: Sequence[Alert],
    sender: str,
    recipients: Sequence[str],
    written_at: datetime,
) -> EmailMessage:
    """A mail.

    Args:
        alerts: at least one, all about transactions of one client; the first names the message.
        sender: an e-mail address.
        recipients: e-mail addresses.
        written_at: in UTC.
    """
    mail = EmailMessage(SEVEN_BITS)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = subject_of(alerts)
    mail["Date"] = format_datetime(written_at)
    mail["Message-ID"] = message_id(alerts[0], sender)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join([text_of(alerts), *map(paragraph, alerts)]))
    return mail


def text_of(alerts: Sequence[Alert]) -> str:
    """The first sentence."""
    were = "this transaction" if len(alerts) == 1 else f"these {len(alerts)} transactions"
    return line(f"The fraud police takes {were} of {alerts[0].client} for fraud. No money moved.")


def paragraph(alert: Alert) -> str:
    """One transaction."""
    amount = f"{alert.amount} {alert.currency}"
    card = f"{alert.card_brand} card ending in {alert.card_last_four}"
    rules = ", ".join(alert.rules) or "no rule was named"
    return "\n" + "\n".join(
        line(each)
        for each in (
            f"Transaction {alert.transaction_id}",
            f"  {amount}, {card}",
            f"  score {alert.score}: {rules}",
        )
    )


def short_text(alerts: Sequence[Alert]) -> str:
    """What fits into a short message."""
    if len(alerts) > 1:
        return subject_of(alerts)
    [alert] = alerts
    return line(f"{subject_of(alerts)}: {alert.amount} {alert.currency}, {alert.transaction_id}")


def line(text: str) -> str:
    """One line of a bounded length: whatever a text holds begins no other one, and no header."""
    kept = "".join(each if each.isprintable() else " " for each in text)
    return kept[:LINE_MAX]
