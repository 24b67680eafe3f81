"""The sensitivity of a certificate to its lots; see `gonogo.operating_point.lots`."""

from __future__ import annotations

from gonogo.dataset import Dataset
from gonogo.evaluate import Evaluation
from gonogo.operating_point.lots import LotCheck, check_lots
from gonogo.operating_point.rule import risk
from gonogo.schema import Label, OperatingPoint


def lot_checks(calibrate: Evaluation, dataset: Dataset, point: OperatingPoint) -> tuple[LotCheck, ...]:
    """Check both claims of an operating point; empty where no calibration part names its lot."""
    samples = {sample.file_name: sample for sample in dataset.samples}
    lot_of: dict[str, str] = {}
    for picture in calibrate.pictures:
        lot = samples[picture.file].lot
        if lot is not None:
            lot_of.setdefault(picture.part, lot)
    found = []
    for claim, label in ((point.escape, Label.BAD), (point.overkill, Label.GOOD)):
        lots = [lot_of.get(part) for part in calibrate.calibration_parts(label)]
        delta = risk(claim.confidence, joint=point.joint)
        check = check_lots(claim, calibrate.calibration_scores(label), lots, delta=delta) if lots else None
        if check is not None:
            found.append(check)
    return tuple(found)
