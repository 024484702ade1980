"""Places where a test can make the process die, as a power cut would."""

from __future__ import annotations

import os

EXIT_STATUS = 86


def failpoint(name: str) -> None:
    """End the process at once, without any clean-up, if the environment armed this place."""
    if name == os.environ.get("ORDERLY_FAILPOINT"):
        os._exit(EXIT_STATUS)
