"""Stands for the outside world that moves money, where there is none."""
