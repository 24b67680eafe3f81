"""How well parts were located, and how verdicts on the regions found differ from those on labelled regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gonogo.evaluate.curves import auroc
from gonogo.evaluate.placement import Placement
from gonogo.evaluate.rates import Rate, mean_of
from gonogo.evaluate.verdicts import Verdicts
from gonogo.schema import Label, State


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Region metrics over the readable pictures with a labelled box. A part not found has IoU 0 and is fully missed.

    Regions are counted per picture; `end_to_end` and `labelled` count parts, like all verdicts.
    """

    placements: tuple[Placement, ...] = ()
    refused: Rate = field(default_factory=lambda: Rate(count=0, of=0))
    """Refused share of the pictures without exactly one whole part, excluding those used to train the locator."""
    confidence: float = 0.95

    @property
    def found(self) -> Rate:
        """Share of pictures in which the part was found."""
        return self._rate([each.found for each in self.placements])

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the tight boxes."""
        return mean_of(each.iou for each in self.placements)

    def above(self, iou: float) -> Rate:
        """Share of pictures with an IoU above ``iou``."""
        return self._rate([each.iou > iou for each in self.placements])

    @property
    def whole_inside(self) -> Rate:
        """Share of pictures in which the region contains the whole part."""
        return self._rate([each.whole_inside for each in self.placements])

    @property
    def missed_of_picture(self) -> float | None:
        """Mean area of the part outside the region, as a share of the picture."""
        return mean_of(each.missed_of_picture for each in self.placements)

    @property
    def missed_of_truth(self) -> float | None:
        """The same as a share of the part."""
        return mean_of(each.missed_of_truth for each in self.placements)

    @property
    def excess_of_truth(self) -> float | None:
        """Mean area of the region outside the part, as a share of the part, over pictures in which it was found."""
        return mean_of(each.excess_of_truth for each in self.placements)

    @cached_property
    def end_to_end(self) -> Verdicts:
        """The verdicts on the region found."""
        return Verdicts(pictures=tuple(each.judged for each in self.placements), confidence=self.confidence)

    @cached_property
    def labelled(self) -> Verdicts:
        """The verdicts on the labelled region with the same margin, on the same pictures."""
        return Verdicts(pictures=tuple(each.labelled for each in self.placements), confidence=self.confidence)

    @cached_property
    def auroc_gained(self) -> float | None:
        """AUROC on the region found minus AUROC on the labelled region, over parts with a score in both.

        Negative if errors in locating the part degrade the score. Parts that were not found have no score and count as
        faults instead.
        """
        given, exact = ({part.part: part for part in each.parts} for each in (self.end_to_end, self.labelled))
        both = [name for name, part in given.items() if part.score is not None and exact[name].score is not None]
        areas = [
            auroc(*(np.array([row[n].score for n in both if row[n].label is label], np.float64) for label in Label))
            for row in (given, exact)
        ]
        return _difference(areas[0], areas[1])

    @property
    def escape_added(self) -> float | None:
        """Escape rate on the region found minus that on the labelled region."""
        return _difference(self.end_to_end.escape.value, self.labelled.escape.value)

    @property
    def overkill_added(self) -> float | None:
        """Overkill rate on the region found minus that on the labelled region."""
        return _difference(self.end_to_end.overkill.value, self.labelled.overkill.value)

    @property
    def fault_added(self) -> float | None:
        """Fault rate on the region found minus that on the labelled region; mostly parts that were not found."""
        return _difference(self.end_to_end.fault.value, self.labelled.fault.value)

    def only_once(self, state: State, label: Label | None = None) -> tuple[int, int]:
        """Numbers of parts with this verdict only on the region found, and only on the labelled region."""
        given, exact = (
            {part.part for part in each.parts if part.state is state and label in (None, part.label)}
            for each in (self.end_to_end, self.labelled)
        )
        return len(given - exact), len(exact - given)

    @property
    def decided(self) -> bool:
        """Whether any picture was judged go or no-go; otherwise no verdict can be wrong."""
        return any(each.judged.state in (State.GO, State.NO_GO) for each in self.placements)

    def right_verdicts(self, *, region_right: bool) -> Rate:
        """Share of right verdicts, see `Placement`, among pictures whose region is right or wrong."""
        return self._rate([each.verdict_right for each in self.placements if each.region_right is region_right])

    def to_json(self) -> dict[str, Any]:
        """Return all metrics under flat names; undefined ones are ``None``."""
        return {
            "roi_pictures": len(self.placements),
            **self.found.to_json("roi_found"),
            "roi_iou": self.mean_iou,
            "roi_share_above_095": self.above(0.95).value,
            "roi_share_above_09": self.above(0.9).value,
            **self.whole_inside.to_json("roi_whole_inside"),
            "roi_missed_of_picture": self.missed_of_picture,
            "roi_missed_of_truth": self.missed_of_truth,
            "roi_excess_of_truth": self.excess_of_truth,
            "roi_pictures_to_refuse": self.refused.of,
            **self.refused.to_json("roi_refused"),
            **_verdicts_to_json(self.end_to_end, "found_region"),
            **_verdicts_to_json(self.labelled, "labelled_region"),
            "auroc_found_less_labelled": self.auroc_gained,
            "escape_rate_found_less_labelled": self.escape_added,
            "overkill_rate_found_less_labelled": self.overkill_added,
            "fault_rate_found_less_labelled": self.fault_added,
            **self._crossed_to_json(),
        }

    def _crossed_to_json(self) -> dict[str, int | None]:
        counts: dict[str, int | None] = {}
        for name, region_right in (("right", True), ("wrong", False)):
            rate = self.right_verdicts(region_right=region_right)
            counts[f"roi_{name}_verdict_right"] = rate.count if self.decided else None
            counts[f"roi_{name}_verdict_wrong"] = rate.of - rate.count if self.decided else None
        return counts

    def _rate(self, hits: list[bool]) -> Rate:
        return Rate.of_outcomes(hits, confidence=self.confidence)


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _verdicts_to_json(verdicts: Verdicts, name: str) -> dict[str, float | None]:
    return {
        f"auroc_{name}": verdicts.auroc,
        **verdicts.escape.to_json(f"escape_rate_{name}"),
        **verdicts.overkill.to_json(f"overkill_rate_{name}"),
        **verdicts.fault.to_json(f"fault_rate_{name}"),
    }
