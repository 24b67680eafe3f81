"""Long work: what runs, what waits, what was interrupted and what has ended, on every page."""
