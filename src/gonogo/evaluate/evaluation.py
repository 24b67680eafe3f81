"""The outcome of judging a data set: the verdicts, what judged what, and every figure computed from them."""

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
    """A picture that could not be judged, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evaluation(Verdicts):
    """How an inspector judged a data set. Rates are over *parts*; localisation is over pictures with a mask."""

    faults: tuple[Fault, ...]
    timings_ms: Mapping[str, Float64[np.ndarray, " pictures"]]
    """Durations of each stage of the judgements, as the inspector names them."""
    splits: tuple[Split, ...]
    unlabelled: int
    """Pictures left out because nobody has judged their part."""
    data_fingerprint: str
    bundle_sha256: str
    operating_point: OperatingPoint | None
    regions: Regions = field(default_factory=Regions)
    """Where the part was found, beside where it really is; empty where the whole picture is judged."""

    @cached_property
    def kinds(self) -> tuple[KindResult, ...]:
        """What became of the bad parts of each defect kind."""
        return kind_results(self.parts, self.confidence)

    @cached_property
    def naming(self) -> Naming | None:
        """The defect kinds that verdicts name against the labelled ones; ``None`` where no verdict names any."""
        return naming(self.parts, self.confidence)

    @cached_property
    def localisation(self) -> Localisation:
        """Over all bad pictures with a mask, whatever their verdict."""
        return localisation(self.pictures, self.confidence)

    @cached_property
    def localisation_rejected(self) -> Localisation:
        """Over those judged no-go, the ones whose heat map a person gets to see."""
        return localisation([p for p in self.pictures if p.state is State.NO_GO], self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Every figure under a flat name, ready for ``json.dumps``; what is undefined is ``None``."""
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
    """Median and 99 % quantile."""
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
