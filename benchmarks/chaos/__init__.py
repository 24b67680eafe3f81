"""Chaos test of a station: kills, trigger storms, failures and stray pictures. Run it with ``make chaos``."""
