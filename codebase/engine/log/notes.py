"""Notes beside the log: commands that had nothing to do, so that a late repeat does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

UNKNOWN_CLIENT = ""
"""Whose command a note is that was made before clients were noted: it may be anybody's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A command that had nothing to do when its stream was at `version`: it stays without effect.

    Whoever repeats it, however late, gets the answer that it got then.
    """

    partition: int
    stream_id: UUID
    client: str
    idempotence_key: str
    fingerprint: str
    version: int
