"""What a process says of itself: logs, metrics, traces, and how they leave it."""
