"""How services meet their clients: HTTP, callers, problems, pages."""
