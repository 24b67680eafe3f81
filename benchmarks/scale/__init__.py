"""Does it carry a company: many stations on one centre, a large migration, and everything of ``make test-scale``."""
