"""Data sets of labelled pictures: read, import, check, split and export."""

from gonogo.dataset.checking import Check, check_dataset, counts, require_trainable
from gonogo.dataset.exporting import Exported, Format, export_dataset
from gonogo.dataset.importing import Imported, ImportOptions, add_folder, import_folder
from gonogo.dataset.layouts import label_named
from gonogo.dataset.reading import with_groups
from gonogo.dataset.records import Dataset, Sample, Split, fingerprint, locked, write_metadata
from gonogo.dataset.splits import Fractions, assign_splits, groups_of, resplit

__all__ = [
    "Check",
    "Dataset",
    "Exported",
    "Format",
    "Fractions",
    "ImportOptions",
    "Imported",
    "Sample",
    "Split",
    "add_folder",
    "assign_splits",
    "check_dataset",
    "counts",
    "export_dataset",
    "fingerprint",
    "groups_of",
    "import_folder",
    "label_named",
    "locked",
    "require_trainable",
    "resplit",
    "with_groups",
    "write_metadata",
]
