"""Scores behind an operating point, stored in the bundle so that the thresholds can be recomputed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from gonogo.bundle import Bundle
from gonogo.config import Strict
from gonogo.dataset import Split
from gonogo.errors import BundleError, InputError
from gonogo.evaluate import Evaluation
from gonogo.operating_point import Costs, Promise
from gonogo.schema import Label, Prediction, State

SCORES = "scores.json"


class Judged(Strict):
    """One picture as it was judged when the operating point was certified."""

    file: str
    part: str
    """Part it was counted as; near-duplicates may have been merged."""
    label: Label = Field(strict=False)
    defect: str | None
    state: State = Field(strict=False)
    """State under the previous operating point; only faults matter."""
    score: float | None = Field(allow_inf_nan=False)
    """``None`` for a fault."""
    rejected_by_rule: bool = False
    """Counted as a part with a score above every threshold, see `gonogo.rules`."""


class StoredScores(Strict):
    """Contents of ``scores.json``: the requested promise, and every score that the thresholds follow from."""

    format: Literal[1] = 1
    request: Mapping[str, JsonValue]
    bad_share: float | None
    """Share of bad parts used to compare costs."""
    data_fingerprint: str
    """Fingerprint of the calibrate split."""
    calibrate: tuple[Judged, ...] = Field(strict=False)
    val: tuple[Judged, ...] = Field(default=(), strict=False)
    """Val pictures, if costs chose the limits."""

    @property
    def promise(self) -> Promise:
        """The requested promise.

        Raises:
            BundleError: the stored request is malformed.
        """
        request: dict[str, Any] = dict(self.request)
        try:
            costs = None if request.get("costs") is None else Costs(**request["costs"])
            return Promise(**{**request, "costs": costs})
        except TypeError as error:
            raise BundleError(
                f"{SCORES}: the stored certification request cannot be read ({error}). Run gonogo certify again."
            ) from error

    def evaluation(self, split: Split) -> Evaluation:
        """Rebuild the evaluation of calibrate or val from the stored scores."""
        rows = self.val if split is Split.VAL else self.calibrate
        return Evaluation(
            pictures=tuple(Prediction(**row.model_dump()) for row in rows),
            faults=(),
            timings_ms={},
            splits=(split,),
            unlabelled=0,
            data_fingerprint=self.data_fingerprint,
            bundle_sha256="",
            operating_point=None,
        )


def promise_in_force(opened: Bundle) -> Promise:
    """The promise a bundle was certified for; limits chosen by costs become fixed limits.

    Raises:
        InputError: the bundle is not certified.
        BundleError: the stored scores are malformed.
    """
    stored, point = read_scores(opened), opened.manifest.operating_point
    if point is None:
        raise InputError(f"{opened.root}: expected certified limits, found none. Run gonogo certify first.")
    limits: dict[str, Any] = {"max_escape": point.escape.max_rate, "max_overkill": point.overkill.max_rate}
    if stored is None:  # certified before scores were kept
        return Promise(**limits, confidence=point.escape.confidence, joint=point.joint, guard=None)
    promise = stored.promise
    return promise if promise.costs is None else replace(promise, costs=None, **limits)


def scores_file(
    promise: Promise, calibrate: Evaluation, *, val: Evaluation | None = None, bad_share: float | None = None
) -> dict[str, bytes]:
    """The scores file to add to a bundle, by name.

    Args:
        promise: The requested promise.
        calibrate: The evaluation that was certified on, with near-duplicates merged if they were.
        val: The evaluation that costs chose the limits on, if they did.
        bad_share: See `StoredScores.bad_share`.
    """
    record = {
        "format": 1,
        "request": asdict(promise),
        "bad_share": bad_share,
        "data_fingerprint": calibrate.data_fingerprint,
        "calibrate": _rows(calibrate),
        "val": [] if val is None else _rows(val),
    }
    return {SCORES: json.dumps(record, allow_nan=False, indent=1).encode() + b"\n"}


def read_scores(opened: Bundle) -> StoredScores | None:
    """Read the stored scores; ``None`` if the bundle was certified before scores were stored.

    Raises:
        BundleError: the file is malformed.
    """
    if SCORES not in opened.digests:
        return None
    try:
        return StoredScores.model_validate_json(opened.data(SCORES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(
            f"{opened.root / SCORES}: malformed ({where}: {first['msg']}). Run gonogo certify again."
        ) from error


def _rows(judged: Evaluation) -> list[dict[str, object]]:
    return [
        {
            "file": picture.file,
            "part": picture.part,
            "label": picture.label.value,
            "defect": picture.defect,
            "state": picture.state.value,
            "score": picture.score,
            "rejected_by_rule": picture.rejected_by_rule,
        }
        for picture in judged.pictures
    ]
