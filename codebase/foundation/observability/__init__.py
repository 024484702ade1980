"""What a process says of itself: logs, metrics, traces, and how they leave it."""

import sys

# structlog loads rich when it finds it, for a console that no service has: five times its own time.
# Whoever wants rich imports it as always.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python says: not to be found
    import structlog  # noqa: F401

    del sys.modules["rich"]
