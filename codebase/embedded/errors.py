"""Why an embedded run cannot start, or does not want to any more."""

from __future__ import annotations


class StackError(Exception):
    """The embedded run cannot start; the text says why and what to change."""


class ServerError(StackError):
    """A private server cannot be found or started; the text says what to do about it."""


class HomeInUseError(StackError):
    """Another run holds the home; the text says which and what to do."""


class Stopped(Exception):  # noqa: N818 - not an error: the operator asked for it
    """The operator stopped the run while it was starting."""
