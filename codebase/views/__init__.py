"""The read side, one folder per context: rows, projections, queries, what an answer looks like."""
