"""The read model that all contexts share: one projector, with the views of each of them."""

from __future__ import annotations

from collections.abc import Iterable

from codebase.engine.projections.projection import Projection, Projector

READ_MODEL = "read_model_sync"
"""Names the projector's checkpoint and its queues, so that it never changes."""


def read_model(projections: Iterable[Projection]) -> Projector:
    """The projector of these views."""
    return Projector(name=READ_MODEL, projections=tuple(projections))
