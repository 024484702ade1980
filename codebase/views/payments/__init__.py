"""Card transactions as queries show them, and what their services have in common."""
