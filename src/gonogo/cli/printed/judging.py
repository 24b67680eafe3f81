"""What ``certify``, ``evaluate``, ``inspect``, ``devices``, ``look`` and ``experiment`` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired

from gonogo.cli.printed.build import Document, Printed, combined, rate
from gonogo.cli.printed.values import OperatingPointJson
from gonogo.devices import Device
from gonogo.drift import OutOfDistributionCheck
from gonogo.manifest import ModelOrigin
from gonogo.operating_point.lots import LotCheck
from gonogo.schema import ItemCount, Label, Measurement, PartIdentity, State
from gonogo.validity import Validity


class KindCertified(Document):
    """The claim of one defect kind."""

    certified: bool
    parts: int
    parts_missing: int


class TradeoffJson(Document):
    """One point of the trade-off curve."""

    max_escape: float
    max_overkill: float
    certifiable: bool
    bad_parts_missing: int
    good_parts_missing: int
    review_rate: float | None
    escape_rate: float | None
    overkill_rate: float | None


GuardJson = combined("GuardJson", OutOfDistributionCheck, {"false_alarm_interval": tuple[float, float] | None})
LotJson = combined("LotJson", LotCheck, {"sentence": str})


class Certify(Document):
    """The certified operating point."""

    bundle: str
    bundle_sha256: str
    revision: int
    certified: bool
    max_escape: float
    max_overkill: float
    review_rate: float | None
    bad_share: float | None
    operating_point: OperatingPointJson
    kinds: dict[str, KindCertified]
    tradeoff: list[TradeoffJson]
    guard: GuardJson | None  # type: ignore[valid-type]
    """The out-of-distribution check; ``null`` if there is none."""
    validity: Validity
    lots: list[LotJson]  # type: ignore[valid-type]
    drift_watches: int
    refusals: list[str]
    """Requested rates that cannot be certified."""
    warnings: list[str]


class PointRevision(Document):
    """One revision of the thresholds."""

    revision: int
    replaced: str | None
    """When it was replaced; ``null`` for the one in force."""
    bundle_sha256: str
    promises: list[str]
    operating_point: OperatingPointJson


class CertifyRevisions(Document):
    """The revisions of the thresholds, with ``--revisions`` or ``--restore``."""

    bundle: str
    bundle_sha256: str
    revisions: list[PointRevision]


class CountedJson(Document):
    """Errors among parts of a sample, and the exact bounds of their rate."""

    errors: int
    """Unlabelled parts included, where they could be errors."""
    parts: int
    at_least: float
    at_most: float


class CertifySample(Document):
    """What a sample of production says about a certificate, with ``--sample``."""

    sample: str
    confirmed: bool
    drawn: int
    escape: CountedJson
    overkill: CountedJson
    accepted: CountedJson
    unlabelled: int
    refusals: list[str]
    validity: Validity | None
    """The new validity; ``null`` if it was not renewed."""


KindRow = combined(
    "KindRow",
    {"defect": str | None, "parts": int, "auroc": float | None},
    dict.fromkeys([state.value for state in State], int),
    rate("recall", "rejected_rate"),
)


class NamedRow(Document):
    """Verdicts on the parts of one labelled kind."""

    labelled: str
    named: dict[str, int]
    not_named: int


NamingJson = combined("NamingJson", rate("right", "unlike"), {"rows": list[NamedRow]})


class TimingJson(Document):
    """Durations in milliseconds."""

    median: float
    p99: float


class FaultRow(Document):
    """A picture that could not be judged."""

    file: str
    reason: str


class _Evaluated(Document):
    splits: list[str]
    bundle_sha256: str
    data_fingerprint: str
    confidence: float
    pictures: int
    pictures_unlabelled: int
    parts: int
    parts_good: int
    parts_bad: int
    auroc: float | None
    average_precision: float | None
    confusion: dict[Label, dict[State, int]]
    kinds: list[KindRow]  # type: ignore[valid-type]
    defect_kinds_named: NamingJson | None  # type: ignore[valid-type]
    roi_pictures: int
    roi_iou: float | None
    roi_share_above_095: float | None
    roi_share_above_09: float | None
    roi_missed_of_picture: float | None
    roi_missed_of_truth: float | None
    roi_excess_of_truth: float | None
    roi_pictures_to_refuse: int
    roi_right_verdict_right: int | None
    roi_right_verdict_wrong: int | None
    roi_wrong_verdict_right: int | None
    roi_wrong_verdict_wrong: int | None
    auroc_found_less_labelled: float | None
    escape_rate_found_less_labelled: float | None
    overkill_rate_found_less_labelled: float | None
    fault_rate_found_less_labelled: float | None
    operating_point: OperatingPointJson | None
    timings_ms: dict[str, TimingJson]
    faults: list[FaultRow]
    device: str
    summary: str


def _localised(suffix: str) -> dict[str, Any]:
    return {
        f"masked_pictures{suffix}": int,
        **rate(f"pointing_game{suffix}", f"pointing_game_centre{suffix}"),
        f"energy_inside{suffix}": float | None,
        f"energy_inside_flat{suffix}": float | None,
    }


def _placed(name: str) -> dict[str, Any]:
    return {f"auroc_{name}": float | None, **rate(*(f"{each}_rate_{name}" for each in ("escape", "overkill", "fault")))}


Evaluate = combined(
    "Evaluate",
    _Evaluated,
    rate("escape_rate", "overkill_rate", "review_rate", "fault_rate", "out_of_distribution_rate"),
    rate("roi_found", "roi_whole_inside", "roi_refused"),
    _localised(""),
    _localised("_rejected"),
    _placed("found_region"),
    _placed("labelled_region"),
)


class ZoneRow(Document):
    """The judgement of one zone."""

    name: str
    score: float
    state: State


class Thresholds(Document):
    """The bundle that judged."""

    bundle_sha256: str
    go_below: float | None
    no_go_above: float | None
    go_without_promise: bool


class InspectedPicture(Thresholds):
    """The verdict on one picture."""

    file: str
    state: State
    score: float | None
    """Raw score, higher is worse; ``null`` for a fault."""
    kind: str | None
    kind_share: float | None
    box_xyxy: tuple[float, float, float, float] | None
    region_xy: list[tuple[float, float]] | None
    zone: str
    zones: list[ZoneRow]
    heatmap_file: str | None
    reason: str
    measurements: list[Measurement]
    counts: list[ItemCount]
    notes: list[str]
    identity: PartIdentity | None
    windows: int
    device: str
    timings_ms: dict[str, float]


class _Summary(Document):
    summary: bool
    """Always true: the last line."""
    pictures: int
    bundle: str
    device: str
    other_processors: NotRequired[dict[str, int]]
    """With ``--engine ray``: pictures by kind of processor, where it is not that of this machine."""


InspectSummary = combined("InspectSummary", _Summary, Thresholds, dict.fromkeys([each.value for each in State], int))
Inspect = InspectedPicture | InspectSummary


class _Tried(Document):
    default: bool
    precision: str
    """What it computes in."""
    reproduces: bool | None
    """Whether it reproduces the golden frames; ``null`` without a bundle."""
    reason: str


DeviceRow = combined("DeviceRow", Device, _Tried)


class Devices(Document):
    """The devices of this machine."""

    bundle: str | None
    devices: list[DeviceRow]  # type: ignore[valid-type]


class StageRow(Document):
    """Feature maps after one stage."""

    name: str
    stride: int
    channels: int
    cells: list[int]
    """Rows and columns."""


class MapRow(Document):
    """One map of where the network looks."""

    title: str
    value: float | None
    cells: list[int]


class Look(Document):
    """What a network sees."""

    sheet: str
    network: str
    weights: str
    answer: str | None
    size_wh: tuple[int, int]
    stages: list[StageRow]
    maps: list[MapRow]
    notes: list[str]


class _Imported(Document):
    bundle: str
    bundle_sha256: str
    largest_difference: float
    """Largest difference between the scores of the bundle and of the framework."""
    auroc_val: float | None
    operating_point: OperatingPointJson


ImportModel = combined("ImportModel", ModelOrigin, _Imported)


class _Cell(Document):
    approach: str
    topology: str
    initialisation: str
    crops: int
    rotations: int
    augmentation: str
    side_px: int
    seed: int
    epochs: int
    reduced: str
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    best_epoch: int | None
    test_parts: int | None
    train_pictures: int | None
    shown_whole: int | None
    normalisation: str | None
    seconds: float | None
    parameters: int | None
    size_mb: float | None
    torch_ms: float | None
    openvino_ms: float | None
    ratio: float | None
    device: str | None
    threads: int | None
    versions: str | None
    key: str
    empty_because: str
    """Why the cell has no figures; empty if it has."""


ExperimentRow = combined("ExperimentRow", _Cell, rate("accuracy", "precision", "recall", "fnr", "fpr"))


class ExperimentDifference(Document):
    """A paired difference between two values of one option."""

    compared: str
    approach: str
    topology: str
    augmentation: str
    initialisation: str
    figure: str
    seeds: int
    baseline_mean: float
    mean: float
    difference: float
    low: float | None
    high: float | None


class Experiment(Document):
    """The table of a study."""

    study: str
    rows: list[ExperimentRow]  # type: ignore[valid-type]
    differences: list[ExperimentDifference]


PRINTED: Mapping[str, Printed] = {
    "certify": Printed(type=Certify | CertifyRevisions | CertifySample),
    "evaluate": Printed(type=Evaluate),
    "inspect": Printed(type=Inspect, lines=True),
    "devices": Printed(type=Devices),
    "look": Printed(type=Look),
    "import-model": Printed(type=ImportModel),
    "experiment": Printed(type=Experiment),
}
