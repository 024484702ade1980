"""Orderly: commands into a log, the log to a broker, the broker to read models."""
