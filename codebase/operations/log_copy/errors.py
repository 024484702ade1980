"""What keeps a log from being copied."""

from __future__ import annotations

from codebase.operations import OperationError


class CopyError(OperationError):
    """The copy stopped; what was committed of it stays, and the next run goes on from there."""
