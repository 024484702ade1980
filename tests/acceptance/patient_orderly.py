"""`orderly`, of which nothing is given up that a slow machine takes long for."""

from __future__ import annotations

import sys

from codebase.__main__ import main
from codebase.embedded import home, service_programs
from tests.patience import PATIENCE_SECONDS

if __name__ == "__main__":
    home.PREVIOUS_RUN_SECONDS = PATIENCE_SECONDS
    service_programs.READY_DEADLINE_SECONDS = PATIENCE_SECONDS
    sys.exit(main())
