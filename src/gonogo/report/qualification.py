"""The qualification report: what an auditor needs before an inspector may decide alone, on one printable page."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gonogo import bundle as bundles
from gonogo import runtime
from gonogo.certification import EVIDENCE, recount
from gonogo.config import settings
from gonogo.dataset import Check, Dataset, Sample, Split, check_dataset, fingerprint
from gonogo.drift.alarm import RISK
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, Judge, Rate, evaluate, quantiles_ms
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.operating_point import bad_among_accepted, clopper_pearson, vacuous
from gonogo.report import phrases, svg
from gonogo.report.page import render_page
from gonogo.report.pictures import Card, PictureAlbum, data_uri, thumbnails
from gonogo.schema import Claim, Label, OperatingPoint, Prediction, State
from gonogo.validity import read_validity, standing

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "msedge")
_PRINTING_S = 120
_EXAMPLES, _LIMIT_SAMPLES = 3, 6
_DIFFERENCES = 4


@dataclass(frozen=True, kw_only=True)
class SplitCount:
    """Counts of one split, labelled pictures only."""

    name: str
    pictures: int
    parts: int
    good: int
    """Good parts."""
    bad: int
    lots: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class ExaminationFinding:
    """Result of one check of the qualification."""

    what: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Qualification:
    """Result of a qualification."""

    findings: tuple[ExaminationFinding, ...]
    test: Evaluation
    splits: tuple[SplitCount, ...]
    checked: Check

    @property
    def qualified(self) -> bool:
        """Whether every check passed."""
        return all(finding.passed for finding in self.findings)


def examine_bundle(inspector: Inspector, dataset: Dataset) -> Qualification:
    """Examine an inspector: its certificate, its splits, and the test split against the certificate.

    Raises:
        DatasetError: the test split has no labelled pictures.
    """
    test = evaluate(inspector, dataset, (Split.TEST,))
    checked = check_dataset(dataset)
    splits = tuple(_count(dataset, split) for split in Split)
    point = inspector.operating_point
    return Qualification(
        findings=(
            *_certificate(point),
            *_recounted(inspector, dataset),
            *_valid(inspector),
            _same_data(point, splits),
            *_leaks(checked, dataset),
            *_against(point, test),
        ),
        test=test,
        splits=splits,
        checked=checked,
    )


def write_qualification(found: Qualification, inspector: Inspector, dataset: Dataset, path: Path) -> None:
    """Write the report as one self-contained HTML page.

    Raises:
        InputError: the file cannot be written; no partial file is left behind.
    """
    write_beside(path, render_page("qualification.html", **_values(found, inspector, dataset)).encode())


def print_pdf(page: Path, pdf: Path) -> None:
    """Print an HTML page to PDF with an installed Chromium-based browser.

    Raises:
        InputError: no such browser is installed, or printing failed.
    """
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise InputError(
            f"--pdf: expected an installed browser ({', '.join(_BROWSERS)}), found none. Install chromium, or open "
            f"{page} in any browser and print it to PDF."
        )
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "page.pdf"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={scratch}/profile",
        ]
        command += ["--no-sandbox"] * (
            hasattr(os, "geteuid") and os.geteuid() == 0
        )  # Chromium does not start as root with its sandbox
        command += [f"--print-to-pdf={target}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PRINTING_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(
                f"--pdf: {browser} could not print {page} ({error}). Open it in a browser and print it to PDF."
            ) from error
        if not target.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                f"--pdf: {browser} produced no PDF ({last}). Open {page} in a browser and print it to PDF."
            )
        write_beside(pdf, target.read_bytes())


def _certificate(point: OperatingPoint | None) -> list[ExaminationFinding]:
    if point is None:
        return [
            ExaminationFinding(
                what="Certified limits", passed=False, detail="The bundle has no operating point. Run gonogo certify."
            )
        ]
    return [
        ExaminationFinding(
            what=f"{title} certified",
            passed=claim.holds and not vacuous(point, claim),
            detail=phrases.promise(claim, point),
        )
        for title, claim in (("Escape limit", point.escape), ("Overkill limit", point.overkill))
    ]


def _valid(inspector: Inspector) -> list[ExaminationFinding]:
    validity = read_validity(inspector.bundle)
    if inspector.operating_point is None or validity is None:
        return []
    found = standing(validity, now=datetime.now(UTC))
    detail = f"{validity.sentence()}{f' {found.sentence[0].upper()}{found.sentence[1:]}.' if found.sentence else ''}"
    return [ExaminationFinding(what="Certificate still valid", passed=not found.expired, detail=detail)]


def _recounted(inspector: Inspector, dataset: Dataset) -> list[ExaminationFinding]:
    if inspector.operating_point is None:
        return []
    thresholds, scores = "Thresholds match the stored scores", "Calibration scores can be reproduced"
    found = recount(inspector, dataset)
    if found is None:
        detail = (
            "The bundle has no stored calibration scores because an earlier version of gonogo certified it, so its "
            "thresholds cannot be recomputed. Run gonogo certify."
        )
        return [ExaminationFinding(what=thresholds, passed=False, detail=detail)]
    tolerance = inspector.bundle.manifest.score_tolerance
    return [
        _no_difference(
            thresholds,
            found.thresholds,
            "Certifying again with the stored scores and options gives the same operating point.",
        ),
        _no_difference(
            scores,
            found.scores,
            f"{found.pictures} pictures were judged again: same parts, same labels, scores within {tolerance:g}.",
        ),
    ]


def _no_difference(what: str, differences: Sequence[str], same: str) -> ExaminationFinding:
    listed = "; ".join(differences[:_DIFFERENCES])
    more = f"; and {len(differences) - _DIFFERENCES} more" if len(differences) > _DIFFERENCES else ""
    detail = f"{listed}{more}. Find out who changed the bundle, then run gonogo certify." if differences else same
    return ExaminationFinding(what=what, passed=not differences, detail=detail)


def _same_data(point: OperatingPoint | None, splits: Sequence[SplitCount]) -> ExaminationFinding:
    found = next(split for split in splits if split.name == Split.CALIBRATE)
    stated = "" if point is None else point.data_fingerprint
    if point is None or not stated or stated != found.fingerprint:
        passed, detail = False, "is not the one the certificate was made with. Run gonogo certify."
    elif point.escape.parts > found.bad or point.overkill.parts > found.good:
        passed, detail = (
            False,
            (
                f"holds {found.good} good and {found.bad} bad parts, but the certificate counts "
                f"{point.overkill.parts} and {point.escape.parts}: several pictures of one part were counted as "
                "separate parts. Run gonogo certify."
            ),
        )
    else:
        passed, detail = (
            True,
            "has the fingerprint recorded in the certificate, and at least as many parts as it counts.",
        )
    return ExaminationFinding(what="Calibration data unchanged", passed=passed, detail=f"The calibrate split {detail}")


def _leaks(checked: Check, dataset: Dataset) -> list[ExaminationFinding]:
    leaks = [problem for problem in checked.problems if " splits: " in problem]
    others = [problem for problem in checked.problems if problem not in leaks]
    return [
        ExaminationFinding(
            what="No part in two splits",
            passed=not leaks,
            detail=(
                f"All {len(dataset.samples)} pictures were compared: no part, lot or near-duplicate group is in more "
                "than one split."
                if not leaks
                else f"{len(leaks)} leaks found. First: {leaks[0]}"
            ),
        ),
        ExaminationFinding(
            what="Data set valid",
            passed=not others,
            detail="All pictures and masks can be read, and no labels contradict each other."
            if not others
            else f"{len(others)} problems found. First: {others[0]}",
        ),
    ]


def _against(point: OperatingPoint | None, test: Evaluation) -> list[ExaminationFinding]:
    if point is None:
        return []
    return [
        _contradiction(claim, rate, what)
        for claim, rate, what in (
            (point.escape, test.escape, "bad parts were passed"),
            (point.overkill, test.overkill, "good parts were rejected"),
        )
        if claim.holds and not vacuous(point, claim)
    ]


def _contradiction(claim: Claim, rate: Rate, what: str) -> ExaminationFinding:
    low = clopper_pearson(rate.count, rate.of, confidence=rate.confidence)[0] if rate.of else 0.0
    passed = rate.of > 0 and low <= claim.max_rate
    return ExaminationFinding(
        what=f"Test does not contradict the {claim.error} limit",
        passed=passed,
        detail=(
            f"{rate.count} of {rate.of} {what} in the test. The true rate is at least {phrases.percent(low)} "
            f"({phrases.level(rate.confidence)}, lower end of the exact interval), which is "
            f"{'not ' if passed else ''}above the promised {phrases.level(claim.max_rate)}."
            if rate.of
            else "The test split has no such parts, so the limit was not tested."
        ),
    )


def _count(dataset: Dataset, split: Split) -> SplitCount:
    samples = [sample for sample in dataset.split(split) if sample.label is not None]
    bad = {sample.part_id for sample in samples if sample.label is Label.BAD}
    parts = {sample.part_id for sample in samples}
    return SplitCount(
        name=split.value,
        pictures=len(samples),
        parts=len(parts),
        good=len(parts - bad),
        bad=len(bad),
        lots=len({sample.lot for sample in samples if sample.lot is not None}),
        fingerprint=fingerprint(dataset, samples),
    )


def _values(found: Qualification, inspector: Inspector, dataset: Dataset) -> dict[str, Any]:
    test, manifest = found.test, inspector.bundle.manifest
    machine = settings()
    scores = test.scores(Label.GOOD), test.scores(Label.BAD)
    return {
        "found": found,
        "test": test,
        "point": inspector.operating_point,
        "manifest": manifest,
        "bundle_name": inspector.path.name,
        "bundle_sha256": inspector.bundle_sha256,
        "dataset_name": dataset.root.resolve().name,
        "evidence": _evidence(inspector.path),
        "catalogue": _catalogue(inspector, dataset),
        "limit_samples": _limit_samples(inspector, dataset, test),
        "histogram": svg.histogram(*scores, inspector.operating_point, title="Scores of the test parts")
        if len(scores[0]) + len(scores[1])
        else None,
        "timings": {stage: quantiles_ms(durations) for stage, durations in test.timings_ms.items()},
        "environment": {
            **runtime.runtime_environment(device=inspector.device.used, threads=machine.threads),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "drift": inspector.drift,
        "drift_risk": RISK,
        "promised_among_accepted": _promised_among_accepted(inspector.operating_point, test, _evidence(inspector.path)),
        "files": (inspector.path / bundles.SEAL).read_text().splitlines(),
        "State": State,
        "Label": Label,
    }


def _evidence(root: Path) -> dict[str, Any] | None:
    path = root / EVIDENCE
    return json.loads(path.read_bytes()) if path.is_file() else None


def _promised_among_accepted(
    point: OperatingPoint | None, test: Evaluation, evidence: dict[str, Any] | None
) -> float | None:
    """The promised share of bad parts among accepted parts, which audits test."""
    share = evidence and evidence["request"]["bad_share"]  # the share in the val split says nothing about the line
    good = test.confusion(Label.GOOD, State.GO).value
    if point is None or not point.escape.holds or not share or not good:
        return None
    accepted = (1.0 - share) * good
    return bad_among_accepted(max_escape=point.escape.max_rate, bad_share=share, accepted_share=accepted)


def _catalogue(inspector: Judge, dataset: Dataset) -> tuple[PictureAlbum, ...]:
    """Examples of each defect kind; parts with a marked defect come first, then those of the test split."""
    kinds = sorted({s.defect or "" for s in dataset.samples if s.label is Label.BAD})
    albums = []
    for kind in kinds:
        members = [s for s in dataset.samples if s.label is Label.BAD and (s.defect or "") == kind]
        ranked = sorted(members, key=lambda s: (s.mask_file_name is None, s.split is not Split.TEST, s.file_name))
        shown: dict[str, Sample] = {}
        for sample in ranked:
            shown.setdefault(sample.part_id, sample)
        cards = [_card(inspector, dataset, sample) for sample in list(shown.values())[:_EXAMPLES]]
        by_split = ", ".join(
            f"{sum(s.split is split for s in members)} {split.value}"
            for split in Split
            if any(s.split is split for s in members)
        )
        albums.append(_album(kind or "unnamed kind", f"Pictures: {by_split or 'in no split'}.", len(members), cards))
    return tuple(albums)


def _limit_samples(inspector: Judge, dataset: Dataset, test: Evaluation) -> tuple[PictureAlbum, ...]:
    """The test parts nearest to each threshold: the hardest ones to decide."""
    point = test.operating_point
    by_name = {sample.file_name: sample for sample in dataset.samples}
    lines = () if point is None else (("go", point.go_below), ("no-go", point.no_go_above))
    albums = []
    for name, line in lines:
        judged = [part for part in test.parts if part.score is not None]
        if not (abs(line) < float("inf")):
            continue
        near: list[Prediction] = sorted(judged, key=lambda p: (abs((p.score or 0.0) - line), p.file))[:_LIMIT_SAMPLES]
        near.sort(key=lambda p: (p.score or 0.0, p.file))
        cards = [_card(inspector, dataset, by_name[part.file]) for part in near]
        albums.append(_album(f"Nearest to the {name} threshold at {line:.3f}", "Sorted by score.", len(near), cards))
    return tuple(albums)


def _album(title: str, note: str, total: int, cards: Sequence[Card | None]) -> PictureAlbum:
    kept = tuple(card for card in cards if card is not None)
    return PictureAlbum(title=title, note=note, parts=tuple(card.part for card in kept), total=total, cards=kept)


def _card(inspector: Judge, dataset: Dataset, sample: Sample) -> Card | None:
    photograph, verdict = inspector.inspect_file(dataset.path(sample))
    if photograph is None or sample.label is None:
        return None
    mask = dataset.load_mask(sample, photograph.shape_hw)
    plain, heat = thumbnails(photograph.frame, verdict, mask, inspector.heat_scale)
    return Card(
        part=Prediction(
            file=sample.file_name,
            part=sample.part_id,
            label=sample.label,
            defect=sample.defect,
            state=verdict.state,
            score=verdict.score,
        ),
        verdict=verdict,
        photograph=data_uri(plain),
        heat=data_uri(heat),
        marked=mask is not None and bool(mask.any()),
    )
