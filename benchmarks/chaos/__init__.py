"""Kills, trigger storms, failures and stray pictures: what a station does wrong under them. ``make chaos`` runs it."""
