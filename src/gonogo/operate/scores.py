"""The scores that an operating point was certified on, kept in the bundle so that anybody can count again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from gonogo.bundle import Bundle
from gonogo.config import Strict
from gonogo.dataset import Split
from gonogo.errors import BundleError
from gonogo.evaluate import Evaluation
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


def scores_file(
    request: object, calibrate: Evaluation, *, val: Evaluation | None = None, bad_share: float | None = None
) -> dict[str, bytes]:
    """The file to put into a bundle, by name.

    Args:
        request: A dataclass: what was asked.
        calibrate: What the operating point was certified on, near-duplicates merged as they were counted.
        val: What costs chose the limits on, where they did.
        bad_share: See `StoredScores.bad_share`.
    """
    record = {
        "format": 1,
        "request": asdict(request),  # type: ignore[call-overload]
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
