"""From the log to rows: projections, and the projectors that move them."""
