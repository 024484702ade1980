"""What the parts of one embedded run share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from codebase.embedded.supervisor import Supervised, Supervisor
from codebase.embedded.terminal import Terminal
from codebase.foundation.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Run:
    """One embedded run.

    Args:
        home: the folder that everything is in.
        settings: of the run.
        terminal: what the operator reads.
        supervisor: runs its programs.
        stopping: set once the operator wants no more of it.
    """

    home: Path
    settings: Settings
    terminal: Terminal
    supervisor: Supervisor
    stopping: threading.Event

    def port(self, base: int) -> int:
        """The port that PORT_OFFSET makes of another one."""
        return base + self.settings.port_offset

    def waits_for(self, program: Supervised) -> bool:
        """Whether it makes sense to go on waiting for a program."""
        return not self.stopping.is_set() and program.is_hopeful
