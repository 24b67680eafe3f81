"""Hostile inputs: mutated pictures, decoding bombs, changed bundles and archives; ``make fuzz`` runs them all."""
