"""What tests of alerts share: transactions that were flagged, and who tells people of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.foundation.settings import Settings, extended
from codebase.model.payments.transaction import (
    TRANSACTION,
    Event,
    Reason,
    TransactionFlagged,
)
from codebase.views.payments.settings import PaymentSettings
from tests.integration.flow import meta, query, running, write
from tests.unit.test_transaction import REQUESTED

if TYPE_CHECKING:
    from tests.databases import Databases

SERVICES = ("read_model_sync", "alertman")
FROM, TO = "orderly@shop.test", "one@bank.test"
REASON = Reason(
    rule="card_velocity",
    version="1",
    weight="60",
    observed="31",
    limit="30",
    window="60 s",
    sentence="the card was used 31 times in a minute",
)
MAKE_DUE = """
    UPDATE reaction.reminder SET due_at = clock_timestamp()
    WHERE (reaction, subject, name) IN (
        SELECT reaction, subject, name FROM reaction.reminder
        WHERE due_at > clock_timestamp()
        FOR UPDATE SKIP LOCKED
    )
"""
LATER = "SELECT FROM reaction.reminder WHERE due_at > clock_timestamp()"
TOPICS = """
    SELECT stream_id, (array_agg(meta ->> 'topic' ORDER BY version DESC))[1] FROM event
    WHERE category = %s GROUP BY stream_id
"""


def settings_of(databases: Databases, **more: Any) -> PaymentSettings:  # noqa: ANN401 - settings
    """Settings of alertman, in databases that may be acted on."""
    with databases.as_owner() as owner:
        owner.execute("SELECT reaction.adopt()")
    own = {"alert_from": FROM, "alert_to": (TO,), **more}
    return extended(databases.settings, PaymentSettings).model_copy(update=own)


def flag(
    databases: Databases, count: int = 1, *, client: str = "shop", rule: str = REASON.rule
) -> list[UUID]:
    """So many transactions of a client that are flagged, all at once."""
    made = [uuid4() for _ in range(count)]
    flagged = TransactionFlagged(score="60", reasons=(replace(REASON, rule=rule),))
    events = [
        event_of(databases.settings, transaction, version, event)
        for transaction in made
        for version, event in enumerate((replace(REQUESTED, client=client), flagged), 1)
    ]
    write(databases, events)
    return made


def event_of(settings: Settings, transaction: UUID, version: int, event: Event) -> NewEvent:
    return NewEvent(
        unit=0,
        partition=partition_of(transaction, settings.partitions),
        stream_id=transaction,
        category=TRANSACTION.category,
        version=version,
        type=type(event).__name__,
        idempotence_key=None,
        data=encode(event),
        meta=meta(TRANSACTION.topic(event)),
        guards=(),
    )


def topics(databases: Databases, category: str = "transaction") -> dict[UUID, str]:
    """Stream -> the topic of its last event."""
    return dict(query(databases.as_owner(), TOPICS, category))


def are_alerted(databases: Databases, transactions: list[UUID]) -> bool:
    found = topics(databases)
    return {found[each] for each in transactions} == {"transaction.alerted"}


def have_come_to(databases: Databases, transactions: list[UUID], topic: str) -> bool:
    """Whether all of their alerts, and no others, have come to this."""
    found = topics(databases, "alert")
    return len(found) == len(transactions) and set(found.values()) == {topic}


def make_due(databases: Databases) -> bool:
    """Digests wait for no clock: what is to be sent later is due now. Whether all of it is.

    What a worker is about to change is passed over: it may need what was changed here, and neither
    would go on.
    """
    with databases.as_owner() as owner:
        owner.execute(MAKE_DUE)
        return owner.execute(LATER).fetchone() is None


@contextmanager
def telling(settings: PaymentSettings, **extra: str) -> Iterator[BaseProcess]:
    """The service and the read model in a process of its own, killed on leaving."""
    lists = {name: ",".join(getattr(settings, name.lower())) for name in ("CARD_KEYS", "ALERT_TO")}
    module = ["tests.integration.run_transact", "0", *SERVICES]
    with running(module, settings, **lists, **extra) as process:
        yield process
