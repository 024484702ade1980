"""The append-only log of events: written under one lock, read in order."""
