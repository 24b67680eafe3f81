"""Names of the files that `gonogo certify` writes into a bundle."""

from gonogo.validity import EVIDENCE

__all__ = ["EVIDENCE"]
