"""`orderly verify`: recompute everything from the log, by other ways, and say what differs."""

from codebase.operations.verify.run import verify

__all__ = ["verify"]
