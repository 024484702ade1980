"""The row types that projections write and queries return, one module per view."""
