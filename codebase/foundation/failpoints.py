"""Places where a test can make the process die, as a power cut would, or stand still."""

from __future__ import annotations

import os
import signal
import threading
from functools import cache
from itertools import count

EXIT_STATUS = 86

_arrivals = count(1)


def failpoint(name: str) -> None:
    """End the process at once, without any clean-up, if the environment armed this place.

    `ORDERLY_FAILPOINT=PLACE` ends it. `ORDERLY_FAILPOINT=PLACE:3` stops it there (SIGSTOP), the
    third time and each time after that: whoever waits for that may look around, and then kill it,
    let it go on, or have it end in order.
    """
    armed = _armed()
    if armed is None:
        return
    place, _, nth = armed.partition(":")
    if name != place:
        return
    if not nth:
        os._exit(EXIT_STATUS)
    if next(_arrivals) >= int(nth):
        # Sent to this thread: a signal to the process might stop it a moment later.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


@cache
def _armed() -> str | None:
    """Read once, by the process that goes through such a place: each request does many times."""
    return os.environ.get("ORDERLY_FAILPOINT")
