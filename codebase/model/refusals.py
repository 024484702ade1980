"""Why a command is not carried out, in words for its sender."""

from __future__ import annotations


class Rejected(Exception):  # noqa: N818 - a refusal is a business answer, not an error
    """A rule says no; the command changed nothing.

    Args:
        detail: a sentence for the caller.
        facts: what the caller can act on, such as what is left of a budget; values are strings.
    """

    problem = "rejected"
    """The stable name of this refusal, a URI path segment in what clients see."""

    def __init__(self, detail: str, **facts: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class Conflict(Rejected):
    """Not in the present state; something may have to happen first."""

    problem = "conflict"


class NotFound(Rejected):
    """What the command is about does not exist."""

    problem = "not-found"


class KeyReused(Rejected):
    """The idempotence key already stands for another command."""

    problem = "idempotence-key-reused"


class Unavailable(Rejected):
    """Something needed is missing at the moment; the same command may be sent again."""

    problem = "unavailable"
