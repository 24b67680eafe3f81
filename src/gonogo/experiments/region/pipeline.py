"""The article's central comparison: no region, classical vision and a network before the judging network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Evaluation, Rate, evaluate
from gonogo.inspector import Inspector
from gonogo.schema import Label, State
from gonogo.workflow import TrainingOptions, train_inspector


@dataclass(frozen=True, kw_only=True)
class PipelineRow:
    """One way to the region, and what the whole inspector did with it on test parts."""

    region: str
    """``none``, ``CV + DL`` or ``DL + DL``."""
    judged: Evaluation
    recall: Rate
    """Bad parts not passed: judged no-go or sent to a person, of all bad parts."""
    precision: Rate
    """Bad parts among those judged no-go."""

    def to_json(self) -> dict[str, object]:
        """Flat, with the intervals."""
        return {
            "region": self.region,
            "auroc": self.judged.auroc,
            "average_precision": self.judged.average_precision,
            **self.recall.to_json("recall"),
            **self.precision.to_json("precision"),
            **self.judged.escape.to_json("escape_rate"),
            **self.judged.overkill.to_json("overkill_rate"),
            **self.judged.review.to_json("review_rate"),
            **self.judged.fault.to_json("fault_rate"),
            "pointing_game": self.judged.localisation.pointing.value,
            "pointing_game_centre": self.judged.localisation.centre.value,
        }


def compare_pipelines(
    dataset: Dataset, options: TrainingOptions, recipe: Path, out: Path
) -> list[tuple[PipelineRow, Inspector]]:
    """Train and test an inspector with each kind of region; nothing else differs.

    Args:
        dataset: Boards, split.
        options: How to train; the region is replaced.
        recipe: The tuned classical recipe.
        out: Where the bundles go.
    """
    rows = []
    for name, region in (("none", "none"), ("CV + DL", str(recipe)), ("DL + DL", "learned")):
        bundle = out / f"{name.replace(' ', '').replace('+', '-').lower()}.inspector"
        train_inspector(dataset, bundle, replace(options, roi=region), overwrite=True)
        inspector = Inspector.load(bundle)
        rows.append((_row(name, evaluate(inspector, dataset, (Split.TEST,))), inspector))
    return rows


def _row(name: str, judged: Evaluation) -> PipelineRow:
    bad = [part for part in judged.parts if part.label is Label.BAD]
    rejected = [part for part in judged.parts if part.state is State.NO_GO]
    return PipelineRow(
        region=name,
        judged=judged,
        recall=_rate(part.state is not State.GO for part in bad),
        precision=_rate(part.label is Label.BAD for part in rejected),
    )


def _rate(hits: Iterable[bool]) -> Rate:
    outcomes = list(hits)
    return Rate(count=sum(outcomes), of=len(outcomes))
