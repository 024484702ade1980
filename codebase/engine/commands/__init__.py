"""From a command to its events: rounds of group commit."""
