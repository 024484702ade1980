"""The rival of the forked start: the same embedded run, each service an interpreter of its own."""

from __future__ import annotations

import sys

from codebase.embedded import local_stack
from codebase.foundation.settings import load_settings
from codebase.registry import SYSTEM


def main() -> int:
    """Run until it is told to stop; the exit status of `orderly up`."""
    settings = load_settings(*SYSTEM.settings, embedded_home=False)
    services = SYSTEM.on_one_machine()
    needs = {name: SYSTEM.needs_of([name]) for name in services}
    return local_stack.up(settings, services, needs, SYSTEM.contexts, orderly=None)


if __name__ == "__main__":
    sys.exit(main())
