"""Data sets of labelled pictures: read, import, check, split and export."""

from gonogo.dataset.chain import Revision
from gonogo.dataset.changes import Change, Changes, describe_counts
from gonogo.dataset.checking import Check, check_dataset, counts, require_trainable
from gonogo.dataset.exporting import Exported, Format, export_dataset
from gonogo.dataset.history import catch_up, compare, record_change, records_at, revision_of, revisions
from gonogo.dataset.importing import Imported, ImportOptions, add_folder, import_folder
from gonogo.dataset.layouts import label_named
from gonogo.dataset.reading import with_groups
from gonogo.dataset.records import Dataset, Sample, Split, fingerprint, locked, write_metadata
from gonogo.dataset.restoring import Pruned, Restored, prune, remove_pictures, restore_revision
from gonogo.dataset.splits import Fractions, assign_splits, choose_splits, groups_of, resplit

__all__ = [
    "Change",
    "Changes",
    "Check",
    "Dataset",
    "Exported",
    "Format",
    "Fractions",
    "ImportOptions",
    "Imported",
    "Pruned",
    "Restored",
    "Revision",
    "Sample",
    "Split",
    "add_folder",
    "assign_splits",
    "catch_up",
    "check_dataset",
    "choose_splits",
    "compare",
    "counts",
    "describe_counts",
    "export_dataset",
    "fingerprint",
    "groups_of",
    "import_folder",
    "label_named",
    "locked",
    "prune",
    "record_change",
    "records_at",
    "remove_pictures",
    "require_trainable",
    "resplit",
    "restore_revision",
    "revision_of",
    "revisions",
    "with_groups",
    "write_metadata",
]
