"""How well the part was found, how well it would be judged had it been found exactly, and the two together."""

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
    """Over the readable pictures with a labelled box. A part that was not found has IoU 0 and is wholly missed.

    Regions are counted over pictures; `end_to_end` and `labelled` count parts, as every verdict is counted.
    """

    placements: tuple[Placement, ...] = ()
    refused: Rate = field(default_factory=lambda: Rate(count=0, of=0))
    """Pictures labelled as not showing exactly one whole part that were refused; only of those that taught nothing."""
    confidence: float = 0.95

    @property
    def found(self) -> Rate:
        """Pictures in which the part was found at all."""
        return self._rate([each.found for each in self.placements])

    @property
    def mean_iou(self) -> float | None:
        """Mean intersection over union of the tight boxes."""
        return mean_of(each.iou for each in self.placements)

    def above(self, iou: float) -> Rate:
        """Pictures with a higher IoU than this."""
        return self._rate([each.iou > iou for each in self.placements])

    @property
    def whole_inside(self) -> Rate:
        """Pictures in which the region contains the whole part."""
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
        """Mean area of the region outside the part, as a share of the part, where it was found."""
        return mean_of(each.excess_of_truth for each in self.placements)

    @cached_property
    def end_to_end(self) -> Verdicts:
        """The verdicts as they were given, on the region found."""
        return Verdicts(pictures=tuple(each.judged for each in self.placements), confidence=self.confidence)

    @cached_property
    def labelled(self) -> Verdicts:
        """The verdicts on the labelled region with the recipe's margin, on the same pictures."""
        return Verdicts(pictures=tuple(each.labelled for each in self.placements), confidence=self.confidence)

    @cached_property
    def auroc_gained(self) -> float | None:
        """AUROC on the region found less that on the labelled region, over the parts that have a score on both.

        Negative where the search's mistakes cost something.

        Parts that were not found have no score; what they cost is in the faults.
        """
        given, exact = ({part.part: part for part in each.parts} for each in (self.end_to_end, self.labelled))
        both = [name for name, part in given.items() if part.score is not None and exact[name].score is not None]
        areas = [
            auroc(*(np.array([row[n].score for n in both if row[n].label is label], np.float64) for label in Label))
            for row in (given, exact)
        ]
        return _less(areas[0], areas[1])

    @property
    def escape_added(self) -> float | None:
        """Escape rate on the region found less that on the labelled region; negative where the search helps."""
        return _less(self.end_to_end.escape.value, self.labelled.escape.value)

    @property
    def overkill_added(self) -> float | None:
        """The same of the overkill rate."""
        return _less(self.end_to_end.overkill.value, self.labelled.overkill.value)

    @property
    def fault_added(self) -> float | None:
        """The same of the parts that could not be judged: mostly those that were not found."""
        return _less(self.end_to_end.fault.value, self.labelled.fault.value)

    def only_once(self, state: State, label: Label | None = None) -> tuple[int, int]:
        """Parts (with this label) that got a verdict on the region found alone, and on the labelled region alone."""
        given, exact = (
            {part.part for part in each.parts if part.state is state and label in (None, part.label)}
            for each in (self.end_to_end, self.labelled)
        )
        return len(given - exact), len(exact - given)

    @property
    def decided(self) -> bool:
        """Whether any picture was judged go or no-go; where all are left to a person, no verdict can be wrong."""
        return any(each.judged.state in (State.GO, State.NO_GO) for each in self.placements)

    def right_verdicts(self, *, region_right: bool) -> Rate:
        """Pictures judged right, see `Placement`, among those whose region is right, or is not."""
        return self._rate([each.verdict_right for each in self.placements if each.region_right is region_right])

    def to_json(self) -> dict[str, Any]:
        """Every figure under a flat name; what is undefined is ``None``."""
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


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _verdicts_to_json(verdicts: Verdicts, name: str) -> dict[str, float | None]:
    return {
        f"auroc_{name}": verdicts.auroc,
        **verdicts.escape.to_json(f"escape_rate_{name}"),
        **verdicts.overkill.to_json(f"overkill_rate_{name}"),
        **verdicts.fault.to_json(f"fault_rate_{name}"),
    }
