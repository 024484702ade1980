"""What ends a rebuild."""

from __future__ import annotations

from codebase.operations import OperationError


class RebuildError(OperationError):
    """The rebuild was given up; the old tables serve on."""
