"""The scores that an operating point was certified on, kept in the bundle so that anybody can count again."""

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
    """What it counted as: near-duplicates may have been merged."""
    label: Label = Field(strict=False)
    defect: str | None
    state: State = Field(strict=False)
    """Under the operating point before; only a fault matters."""
    score: float | None = Field(allow_inf_nan=False)
    """``None`` for a fault."""


class StoredScores(Strict):
    """``scores.json``: what was asked, and every judgement that the thresholds follow from."""

    format: Literal[1] = 1
    request: Mapping[str, JsonValue]
    bad_share: float | None
    """Share of bad parts that the costs were weighed with."""
    data_fingerprint: str
    """Of the calibrate split."""
    calibrate: tuple[Judged, ...] = Field(strict=False)
    val: tuple[Judged, ...] = Field(default=(), strict=False)
    """Where costs chose the limits: the pictures they were weighed on."""

    @property
    def promise(self) -> Promise:
        """What was asked.

        Raises:
            BundleError: it cannot be read.
        """
        asked: dict[str, Any] = dict(self.request)
        try:
            costs = None if asked.get("costs") is None else Costs(**asked["costs"])
            return Promise(**{**asked, "costs": costs})
        except TypeError as error:
            raise BundleError(
                f"{SCORES}: what was asked at the certification cannot be read ({error}). Run gonogo certify again."
            ) from error

    def evaluation(self, split: Split) -> Evaluation:
        """The judgements of calibrate or val, as the evaluation that they were."""
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
    """What a bundle was certified for; limits that costs chose are kept as they are.

    Raises:
        InputError: it is not certified.
        BundleError: what it stores is malformed.
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
    """The file to put into a bundle, by name.

    Args:
        promise: What was asked.
        calibrate: What the operating point was certified on, near-duplicates merged as they were counted.
        val: What costs chose the limits on, where they did.
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
    """The stored scores; ``None`` where the operating point was certified before scores were kept.

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
        }
        for picture in judged.pictures
    ]
