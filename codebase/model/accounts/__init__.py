"""Accounts and the agents who work for them."""
