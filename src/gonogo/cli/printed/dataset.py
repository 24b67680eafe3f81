"""What ``gonogo dataset``, ``roi``, ``zones`` and ``presence`` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gonogo.certification.planning import Plan
from gonogo.cli.printed.build import Document, Printed, combined
from gonogo.config import Depth, Scale
from gonogo.dataset import Revision
from gonogo.dataset.changes import Changes
from gonogo.schema import Label

DatasetLevels = Depth
DatasetPlan = combined("DatasetPlan", Plan)
RevisionRow = combined("RevisionRow", Revision, without=("changed", "removed", "files", "order"))


class PictureCount(Document):
    """Number of pictures of one kind."""

    split: str
    """``-`` for pictures without a split."""
    label: str
    defect: str
    pictures: int


class DatasetCheck(Document):
    """Whether a data set can be trained on."""

    fit: bool
    pictures: int
    counts: list[PictureCount]
    problems: Sequence[str]
    """Why it is unfit; empty if it is fit."""
    warnings: Sequence[str]
    exact_duplicates: Sequence[Sequence[str]]
    """Groups of files with the same content."""
    near_duplicates: Sequence[Sequence[str]]
    """Groups of pictures that look the same."""


class DatasetExport(Document):
    """What was exported."""

    out: str
    format: str
    pictures: int
    boxes: int
    masks: int
    notes: Sequence[str]
    """What the format cannot carry."""


class DoubtRow(Document):
    """A picture whose label the evidence contradicts."""

    file: str
    part: str
    split: str | None
    label: Label | None
    defect: str | None
    score: float
    """Out-of-fold score: positive for bad, negative for good."""
    likely: Label


class DatasetDoubts(Document):
    """Labels that are probably wrong."""

    pictures: int
    bad_pictures: int
    auroc: float | None
    doubts: int
    """Number of doubtful labels; ``shown`` lists the first ones."""
    shown: list[DoubtRow]
    unreadable: list[str]


class DatasetCollect(Document):
    """Pictures of judged parts that were added."""

    into: str
    dry_run: bool
    added: int
    by_rule: dict[str, int]
    dropped: list[str]
    """Unlabelled pictures that were removed for the disk budget."""
    known: int
    held_back: int
    gone: int
    over_budget: int


class DatasetRevisions(Document):
    """The revisions of a data set, the latest first."""

    dataset: str
    revisions: list[RevisionRow]  # type: ignore[valid-type]
    faults: list[str] | None
    """Differences that ``--check`` found; ``null`` without ``--check``."""


class _Compared(Document):
    dataset: str
    counts: dict[str, int]
    """Number of pictures in each list that is not empty."""


DatasetCompare = combined("DatasetCompare", _Compared, {"from": int, "to": int}, Changes)


class _Restored(Document):
    restored: int
    """Number of the revision that is back."""
    left_out: list[str]
    """Pictures that are gone."""
    changed: bool


DatasetRestore = combined("DatasetRestore", RevisionRow, _Restored)


class DatasetPrune(Document):
    """Files that only older revisions named."""

    files: list[str]
    freed_bytes: int
    dry_run: bool


class _Calibrated(Document):
    checks_file: str
    residual_px: float
    residual_mm: float
    residual_px_without_tilt: float


RoiCalibrate = combined("RoiCalibrate", Scale, _Calibrated)


class RoiScoreJson(Document):
    """How well labelled boxes were found."""

    pictures: int
    found: int
    mean_iou: float
    share_above_090: float


class UnseenRoiScore(RoiScoreJson):
    """The same on pictures that the search did not use."""

    how: str


class RoiTune(Document):
    """The best ROI config."""

    recipe_file: str
    unseen: UnseenRoiScore
    seen: RoiScoreJson
    trials: int
    complete: bool
    """Whether the search ended by itself."""
    locate_ms: float
    decode_ms: float


class HiddenDefect(Document):
    """A bad picture whose whole defect lies in an ignore zone."""

    file: str
    split: str | None
    defect: str | None


class ZonesHidden(Document):
    """Bad parts that no inspector can reject."""

    hidden: list[HiddenDefect]
    relabelled: int


class PresenceItem(Document):
    """One item that was found."""

    centre_xy: tuple[float, float]
    """In frame pixels."""
    correlation: float


class PresenceLearn(Document):
    """A new presence zone."""

    checks_file: str
    zone: str
    count: int
    items: list[PresenceItem]
    strongest_other: float
    """Highest correlation in the zone besides the items."""
    least_correlation: float
    """The limit: an item correlates at least this much."""


PRINTED: Mapping[str, Printed] = {
    "dataset check": Printed(type=DatasetCheck),
    "dataset export": Printed(type=DatasetExport),
    "dataset doubts": Printed(type=DatasetDoubts),
    "dataset levels": Printed(type=DatasetLevels),
    "dataset collect": Printed(type=DatasetCollect),
    "dataset plan": Printed(type=DatasetPlan),
    "dataset revisions": Printed(type=DatasetRevisions),
    "dataset compare": Printed(type=DatasetCompare),
    "dataset restore": Printed(type=DatasetRestore),
    "dataset remove": Printed(type=RevisionRow),
    "dataset prune": Printed(type=DatasetPrune),
    "roi calibrate": Printed(type=RoiCalibrate),
    "roi tune": Printed(type=RoiTune),
    "zones hidden": Printed(type=ZonesHidden),
    "presence learn": Printed(type=PresenceLearn),
}
