"""The process that ends what a killed supervisor left behind.

It is run as a plain script, needs nothing but the standard library, and reads lines on its standard
input, which is a pipe that only its supervisor can write to:

    start GROUP SIGNAL STAGE   a process group exists and wants this signal to end
    ended GROUP                it is gone

The kernel closes the pipe whenever the supervisor goes, also at kill -9. Then the groups of stage 0
(the services) are ended, after them those of stage 1 (the servers), and the guardian itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

GRACE_SECONDS = 5.0
"""How long a stage may take to end by itself before it is killed."""
POLL_SECONDS = 0.02


class Charge(NamedTuple):
    """How a process group wants to be ended."""

    signal_number: int
    stage: int


def read_charges(lines: Iterable[str]) -> dict[int, Charge]:
    """Follow the supervisor until it is gone; the groups that were running at that moment."""
    charges: dict[int, Charge] = {}
    for line in lines:
        match line.split():
            case ["start", group, name, stage]:
                charges[int(group)] = Charge(signal.Signals[f"SIG{name}"], int(stage))
            case ["ended", group]:
                charges.pop(int(group), None)
            case _:
                sys.stderr.write(f"guardian: what is {line!r}?\n")
    return charges


def signal_group(group: int, signal_number: int) -> bool:
    """Signal a process group; False when nobody is left in it."""
    try:
        os.killpg(group, signal_number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group that holds nothing but zombies.
        return False
    return True


def end_stage(groups: Mapping[int, Charge]) -> None:
    """Ask every group to end, wait, and kill what is left."""
    alive = {group for group, charge in groups.items() if signal_group(group, charge.signal_number)}
    deadline = time.monotonic() + GRACE_SECONDS
    while alive and time.monotonic() < deadline:
        # These are not our children, and no portable call waits for a stranger: so look often.
        time.sleep(POLL_SECONDS)
        alive = {group for group in alive if signal_group(group, 0)}
    for group in alive:
        signal_group(group, signal.SIGKILL)


def main() -> None:
    """Wait for the supervisor's end, then end what it started, services before servers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    charges = read_charges(sys.stdin)
    for stage in sorted({charge.stage for charge in charges.values()}):
        end_stage({group: charge for group, charge in charges.items() if charge.stage == stage})


if __name__ == "__main__":
    main()
