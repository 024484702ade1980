"""Names of effects: the same whenever, wherever and however often it is tried."""

from __future__ import annotations

from uuid import UUID

from codebase.engine.log.identifiers import name_based

EFFECTS = UUID("5e0c6d0e-6a43-4a0a-9a8e-3b3f5f4c0d17")
"""The namespace of all of them."""


def cause_of_event(reaction: str, log_id: str, event_id: str) -> UUID:
    """The name of what an event causes, all of it together.

    Args:
        reaction: its name.
        log_id: the name of the log, which its copies share.
        event_id: of the event.
    """
    return name_based(EFFECTS, f"{reaction}:{log_id}:{event_id}")


def key_of(cause: UUID, ordinal: int) -> UUID:
    """The name of one effect, by its cause and its place among what is caused."""
    return name_based(cause, str(ordinal))
