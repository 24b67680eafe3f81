"""Mutation testing of the parts that decide: see `mutants.__main__`."""
