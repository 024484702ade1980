"""Accounts and agents as queries show them."""
