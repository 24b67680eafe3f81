"""Labelled pictures: reading, importing, checking and splitting them."""

from gonogo.dataset.records import Dataset, Sample, Split, fingerprint, write_metadata

__all__ = ["Dataset", "Sample", "Split", "fingerprint", "write_metadata"]
