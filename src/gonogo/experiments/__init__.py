"""Experiments that the documentation quotes, each a command away."""

from gonogo.experiments.seeds import SeedResult, seed_study, summary

__all__ = ["SeedResult", "seed_study", "summary"]
