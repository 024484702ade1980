"""Reproducible measurements against peers, in one run; see README.md beside this file."""
