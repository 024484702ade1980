"""Tells people of transactions that were flagged."""
