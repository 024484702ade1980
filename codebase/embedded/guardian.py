"""The process that ends what a killed supervisor left behind.

It is run as a plain script, needs nothing but the standard library, and reads lines on its standard
input, which is a pipe that only its supervisor can write to:

    start GROUP SIGNAL STAGE SECONDS   a process group exists, and how it wants to end
    ended GROUP                        it is gone

The kernel closes the pipe whenever the supervisor goes, also at kill -9. Then the groups are ended,
stage by stage, each with its signal and, when that did not help within its seconds, with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

POLL_SECONDS = 0.02


class Charge(NamedTuple):
    """How a process group wants to be ended."""

    signal_number: int
    stage: int
    patience_seconds: float


def read_charges(lines: Iterable[str]) -> dict[int, Charge]:
    """Follow the supervisor until it is gone; the groups that were running at that moment."""
    charges: dict[int, Charge] = {}
    for line in lines:
        match line.split():
            case ["start", group, name, stage, seconds]:
                charges[int(group)] = Charge(
                    signal.Signals[f"SIG{name}"], int(stage), float(seconds)
                )
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


def is_zombie(process_id: int) -> bool:
    """Whether a process has ended and waits for its new parent, init, to take note.

    In a container that may be never. Without /proc (macOS) init is known to be quick.
    """
    try:
        with open(f"/proc/{process_id}/stat", "rb") as file:  # noqa: PTH123 - quick to start
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_stage(groups: Mapping[int, Charge]) -> None:
    """Ask every group to end, wait, and kill what is left."""
    started = time.monotonic()
    alive = {group for group, charge in groups.items() if signal_group(group, charge.signal_number)}
    while alive:
        # These are not our children, and no portable call waits for a stranger: so look often.
        time.sleep(POLL_SECONDS)
        waited = time.monotonic() - started
        for group in list(alive):
            if waited > groups[group].patience_seconds:
                signal_group(group, signal.SIGKILL)
                alive.remove(group)
            elif is_zombie(group) or not signal_group(group, 0):
                alive.remove(group)


def main() -> None:
    """Wait for the supervisor's end, then end what it started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    charges = read_charges(sys.stdin)
    for stage in sorted({charge.stage for charge in charges.values()}):
        end_stage({group: charge for group, charge in charges.items() if charge.stage == stage})


if __name__ == "__main__":
    main()
