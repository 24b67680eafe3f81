"""The result of an evaluation: verdicts, provenance and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gonogo import operating_point as points
from gonogo.array_types import Float64
from gonogo.dataset import Split
from gonogo.evaluate.naming import Naming, naming
from gonogo.evaluate.rates import KindResult, Localisation, kind_results, localisation
from gonogo.evaluate.regions import Regions
from gonogo.evaluate.verdicts import Verdicts
from gonogo.schema import Label, OperatingPoint, State


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A picture that could not be judged, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evaluation(Verdicts):
    """Verdicts of an inspector on a data set. Rates count *parts*; localisation counts pictures with a mask."""

    faults: tuple[Fault, ...]
    timings_ms: Mapping[str, Float64[np.ndarray, " pictures"]]
    """Durations of each stage of inspection, by the name of the stage."""
    splits: tuple[Split, ...]
    unlabelled: int
    """Number of pictures skipped because they have no label."""
    data_fingerprint: str
    bundle_sha256: str
    operating_point: OperatingPoint | None
    regions: Regions = field(default_factory=Regions)
    """Found and labelled regions of interest; empty if the whole picture is judged."""

    @cached_property
    def kinds(self) -> tuple[KindResult, ...]:
        """Results for the bad parts of each defect kind."""
        return kind_results(self.parts, self.confidence)

    @cached_property
    def naming(self) -> Naming | None:
        """Defect kinds named by verdicts compared with the labelled kinds; ``None`` if no verdict names any."""
        return naming(self.parts, self.confidence)

    @cached_property
    def localisation(self) -> Localisation:
        """Localisation on all bad pictures with a mask."""
        return localisation(self.pictures, self.confidence)

    @cached_property
    def localisation_rejected(self) -> Localisation:
        """Localisation on the bad pictures with a mask that were judged no-go."""
        return localisation([p for p in self.pictures if p.state is State.NO_GO], self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Return all metrics under flat names, ready for ``json.dumps``; undefined ones are ``None``."""
        operating_point = self.operating_point
        return {
            "splits": [split.value for split in self.splits],
            "bundle_sha256": self.bundle_sha256,
            "data_fingerprint": self.data_fingerprint,
            "confidence": self.confidence,
            "pictures": len(self.pictures),
            "pictures_unlabelled": self.unlabelled,
            "parts": len(self.parts),
            "parts_good": self.count(Label.GOOD),
            "parts_bad": self.count(Label.BAD),
            "auroc": self.auroc,
            "average_precision": self.average_precision,
            **self.escape.to_json("escape_rate"),
            **self.overkill.to_json("overkill_rate"),
            **self.review.to_json("review_rate"),
            **self.fault.to_json("fault_rate"),
            **self.out_of_distribution.to_json("out_of_distribution_rate"),
            "confusion": {
                label.value: {state.value: self.confusion(label, state).count for state in State} for label in Label
            },
            "kinds": [_kind_to_json(kind) for kind in self.kinds],
            "defect_kinds_named": None if self.naming is None else self.naming.to_json(),
            **_localisation_to_json(self.localisation, ""),
            **_localisation_to_json(self.localisation_rejected, "_rejected"),
            **self.regions.to_json(),
            "operating_point": None if operating_point is None else points.to_json(operating_point),
            "timings_ms": {stage: _timing_to_json(durations) for stage, durations in self.timings_ms.items()},
            "faults": [{"file": fault.file, "reason": fault.reason} for fault in self.faults],
        }


def quantiles_ms(durations: Float64[np.ndarray, " pictures"]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    median, p99 = np.quantile(durations, [0.5, 0.99])
    return float(median), float(p99)


def _timing_to_json(durations: Float64[np.ndarray, " pictures"]) -> dict[str, float]:
    median, p99 = quantiles_ms(durations)
    return {"median": median, "p99": p99}


def _kind_to_json(kind: KindResult) -> dict[str, Any]:
    return {
        "defect": kind.defect,
        "parts": kind.recall.of,
        **{state.value: count for state, count in kind.states.items()},
        **kind.recall.to_json("recall"),
        **kind.rejected.to_json("rejected_rate"),
        "auroc": kind.auroc,
    }


def _localisation_to_json(found: Localisation, suffix: str) -> dict[str, Any]:
    return {
        f"masked_pictures{suffix}": found.pointing.of,
        **found.pointing.to_json(f"pointing_game{suffix}"),
        **found.centre.to_json(f"pointing_game_centre{suffix}"),
        f"energy_inside{suffix}": found.energy_inside,
        f"energy_inside_flat{suffix}": found.energy_inside_flat,
    }
