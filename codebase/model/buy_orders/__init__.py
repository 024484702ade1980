"""Buying bitcoin: orders, and the prices that they are placed at."""
