"""What everybody may have to say went wrong; `web.problems` tells clients, workers their logs."""

from __future__ import annotations

from collections.abc import Mapping

Errors = Mapping[str, list[str]]
"""Field name -> sentences that say what is wrong with it; never what was sent."""


class ConfigurationError(Exception):
    """The environment asks for something that cannot be; the text names each variable."""


class InvalidInputError(Exception):
    """What somebody sent does not fit; nothing of it is repeated.

    Args:
        errors: what is wrong with which field.
    """

    def __init__(self, errors: Errors) -> None:
        super().__init__("; ".join(f"{name}: {', '.join(said)}" for name, said in errors.items()))
        self.errors = errors


class ServiceUnavailable(Exception):  # noqa: N818 - the status that it leads to
    """Something that the answer needs is away. What was asked for may or may not have happened.

    Args:
        dependency: what is away, such as `write_model`.
        detail: what it does, as the end of a sentence.
        retry_after_seconds: when it is worth trying again.
    """

    def __init__(self, dependency: str, detail: str = "", retry_after_seconds: float = 1) -> None:
        super().__init__(f"{dependency}: {detail}" if detail else dependency)
        self.dependency = dependency
        self.retry_after_seconds = retry_after_seconds


def invalid(field: str, sentence: str) -> InvalidInputError:
    """What to raise about one field that does not fit; `sentence` says why without its value."""
    return InvalidInputError({field: [sentence]})
