"""Simulation test of the certified limits. Run it with ``make guarantee``."""
