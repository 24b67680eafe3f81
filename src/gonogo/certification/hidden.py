"""Bad parts whose whole defect lies in ignore zones: the inspector cannot see it, so a person decides what they are.

Judged, each of them is an escape that no threshold can prevent. With ignore zones they are good parts by intention, or
the zone is drawn wrongly. They are listed before training and certifying, and relabelled or kept on request only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gonogo.config import Zone
from gonogo.dataset import Dataset, Sample
from gonogo.dataset.records import locked
from gonogo.errors import DatasetError
from gonogo.images.zones import Place
from gonogo.progress import track
from gonogo.roi import Roi
from gonogo.schema import Label
from gonogo.zoning import hidden, ignored

RELABELLED = "relabelled"
"""Column of a record that was relabelled: what it was before, and why."""
_LISTED = 10


def hidden_defects(dataset: Dataset, search: Roi, zones: Sequence[Zone]) -> tuple[Sample, ...]:
    """Find the bad pictures with a mask that lies wholly in ignore zones.

    A picture of a part that shows its defect in another picture is not among them: that part is bad all the same.
    Pictures in which the part is not found are left out.

    Args:
        dataset: The data set; pictures of all splits are looked at, but nothing is judged.
        search: How the part is found.
        zones: The recipe's zones.

    Raises:
        ImageError: A picture or a mask is unreadable.
    """
    if not ignored(zones):
        return ()
    bad = [sample for sample in dataset.samples if sample.label is Label.BAD]
    masked = [sample for sample in bad if sample.mask_file_name is not None]
    found = [
        sample for sample in track(masked, "looking for hidden defects") if _is_hidden(dataset, sample, search, zones)
    ]
    names = {sample.file_name for sample in found}
    visible = {sample.part_id for sample in bad if sample.file_name not in names}
    return tuple(sample for sample in found if sample.part_id not in visible)


def refuse_hidden_defects(dataset: Dataset, search: Roi, zones: Sequence[Zone], *, keep: bool) -> None:
    """Raise if bad parts are hidden by ignore zones, unless they are kept on request.

    Raises:
        DatasetError: lists them, and says what to do.
    """
    found = () if keep else hidden_defects(dataset, search, zones)
    if not found:
        return
    listed = "\n  ".join(f"{sample.file_name} ({sample.split or 'no split'})" for sample in found[:_LISTED])
    more = f"\n  and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise DatasetError(
        f"{dataset.root}: expected no bad part whose whole defect lies in an ignore zone, found {len(found)}:\n"
        f"  {listed}{more}\nNo threshold can reject them. Relabel them good: gonogo zones hidden {dataset.root} "
        "--zones ZONES.TOML --relabel; draw the zone smaller; or count them as they are: --keep-hidden."
    )


def relabel_hidden_defects(dataset: Dataset, names: Sequence[str]) -> int:
    """Label pictures good, write the records, and note in each what it was before.

    Args:
        dataset: The data set.
        names: File names of the pictures, from `hidden_defects`.

    Returns:
        The number of relabelled pictures; those whose label changed meanwhile are left as they are.
    """
    wanted = set(names)
    with locked(dataset.root):
        now = Dataset.read(dataset.root)
        samples = [_good(sample) if sample.file_name in wanted else sample for sample in now.samples]
        replace(now, samples=tuple(samples)).write()
    return sum(before != after for before, after in zip(now.samples, samples, strict=True))


def _good(sample: Sample) -> Sample:
    if sample.label is not Label.BAD:
        return sample
    kind = "" if sample.defect is None else f" ({sample.defect})"
    note = f"was bad{kind}, mask {sample.mask_file_name}: the defect lies in an ignore zone"
    return sample.model_copy(update={"label": Label.GOOD, "defect": None, "mask_file_name": None, RELABELLED: note})


def _is_hidden(dataset: Dataset, sample: Sample, search: Roi, zones: Sequence[Zone]) -> bool:
    frame = dataset.load(sample)
    mask = dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
    located = search.locate(frame)
    if mask is None or not mask.any() or not located.present:
        return False
    hides = hidden(Place.of(located), zones, (frame.shape[1], frame.shape[0]))
    return not bool(np.any(mask & ~hides))
