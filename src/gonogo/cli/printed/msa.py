"""What the studies of measurement systems print."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.cli.printed.build import Document, Printed, combined
from gonogo.msa import GrrReport
from gonogo.msa.paired import Difference


class ShareJson(Document):
    """A share with its exact 95 % interval."""

    rate: float | None
    low: float
    high: float
    count: int
    total: int


class KappaJson(Document):
    """A kappa with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class AppraiserJson(Document):
    """One appraiser."""

    name: str
    within: ShareJson | None
    within_kappa: KappaJson | None
    same_picture: bool | None
    effectiveness: ShareJson | None
    reference_kappa: KappaJson | None
    miss_rate: ShareJson | None
    missed_parts: ShareJson | None
    false_alarm_rate: ShareJson | None
    alarmed_parts: ShareJson | None
    rating: str | None


class PairJson(Document):
    """Two appraisers."""

    first: str
    second: str
    kappa: KappaJson | None


class GreyZoneJson(Document):
    """The range of values on which decisions differ."""

    side: str
    accepted_to: float | None
    rejected_from: float | None
    width: float | None


DifferenceJson = combined("DifferenceJson", Difference, {"difference": float | None, "finding": str})


class PersonBeside(Document):
    """One person beside the inspector."""

    name: str
    misses: DifferenceJson  # type: ignore[valid-type]
    false_alarms: DifferenceJson  # type: ignore[valid-type]


class BesideInspector(Document):
    """People beside an inspector on the same parts."""

    inspector: str
    review_rate: float
    people: list[PersonBeside]


class MsaStudy(Document):
    """An attribute agreement study."""

    appraisers: list[AppraiserJson]
    trials: int
    parts: int
    between: ShareJson | None
    between_kappa: KappaJson | None
    pairs: list[PairJson]
    all_right: ShareJson | None
    grey_zones: list[GreyZoneJson]
    notes: list[str]


class StationMsa(MsaStudy):
    """The study, and the comparison with ``--inspector``."""

    beside_inspector: BesideInspector | None


class _Grr(Document):
    operators: int
    trials: int
    parts: int
    gauge: float
    total: float
    share_of_total: float
    share_of_tolerance: float | None
    distinct_categories: int
    rating: str


StationGrr = combined("StationGrr", GrrReport, _Grr)

PRINTED: Mapping[str, Printed] = {
    "station msa": Printed(type=StationMsa),
    "station grr": Printed(type=StationGrr),
}
