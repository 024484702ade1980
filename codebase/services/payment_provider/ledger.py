"""What the stand-in has charged; in a file, for it is no part of this system's stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import UUID

CREATE = """
    CREATE TABLE IF NOT EXISTS charge (
        transaction_id TEXT PRIMARY KEY,
        amount TEXT NOT NULL,
        currency TEXT NOT NULL,
        channel TEXT NOT NULL
    ) WITHOUT ROWID
"""
INSERT = """
    INSERT INTO charge (transaction_id, amount, currency, channel)
    VALUES (:transaction_id, :amount, :currency, :channel)
    ON CONFLICT DO NOTHING
"""
FIND = "SELECT amount, currency FROM charge WHERE transaction_id = :transaction_id"


@dataclass(frozen=True, slots=True)
class Charge:
    """Money that has moved."""

    amount: Decimal
    currency: str


class Ledger:
    """Charges by the ids of their transactions; made with `open`."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Ledger]:
        """The ledger in a file, which is made if there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(path, isolation_level=None)
        try:
            # What is written survives this process; the file belongs to a stand-in.
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = NORMAL")
            file.execute(CREATE)
            yield cls(file)
        finally:
            file.close()

    def charge(self, transaction_id: UUID, amount: Decimal, currency: str, channel: str) -> Charge:
        """Charge, once for each transaction; what has been charged, be it now or before."""
        self._file.execute(
            INSERT,
            {
                "transaction_id": str(transaction_id),
                "amount": str(amount),
                "currency": currency,
                "channel": channel,
            },
        )
        charged = self.find(transaction_id)
        assert charged is not None, "it has been charged"  # noqa: S101 - an invariant
        return charged

    def find(self, transaction_id: UUID) -> Charge | None:
        """What was charged for a transaction."""
        row = self._file.execute(FIND, {"transaction_id": str(transaction_id)}).fetchone()
        return None if row is None else Charge(Decimal(row[0]), row[1])
