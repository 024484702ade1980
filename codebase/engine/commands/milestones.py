"""The states of a long stream at some of its versions, to fold on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EVERY = 256
"""Versions from one milestone to the next, at first."""
MILESTONES_MAX = 256
"""When there are more, every second one is left out."""


class Milestones:
    """States at versions of equal distance: what was so at any version is a short fold away."""

    def __init__(self) -> None:
        self._every = EVERY
        self._states: dict[int, Any] = {}

    def __len__(self) -> int:
        """How many states are kept."""
        return len(self._states)

    def pass_by(self, states: Mapping[int, Any]) -> None:
        """Keep what stands at a milestone; `states` go on where those before ended."""
        for version, state in states.items():
            if version and version % self._every == 0:
                self._states[version] = state
        while len(self._states) > MILESTONES_MAX:
            self._every *= 2
            kept = {each: self._states[each] for each in self._states if each % self._every == 0}
            self._states = kept

    def before(self, version: int) -> tuple[int, Any]:
        """The last milestone before `version`, which was passed, and the state there."""
        milestone = (version - 1) // self._every * self._every
        return milestone, self._states[milestone] if milestone else None
