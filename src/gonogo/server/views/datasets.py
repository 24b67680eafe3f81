"""Data sets: what there is, beginning one, handing over photographs, and starting a training run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from fastapi import Form, Request, UploadFile
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from gonogo.dataset import Sample, Split
from gonogo.dataset.checking import MIN_LABELLED, MIN_TRAIN_PER_LABEL
from gonogo.errors import DatasetError
from gonogo.schema import Label
from gonogo.server import pages
from gonogo.server.datasets import checked_name
from gonogo.server.labels import decided
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.recipes import BACKBONES, EFFORT_NAMES, EFFORT_WORDS, Effort
from gonogo.server.services import Here, Me, Services
from gonogo.server.uploads import MOST_BYTES, take
from gonogo.server.views.training import PHASE_NAMES

NEEDED = {Label.GOOD: 2 * MIN_TRAIN_PER_LABEL, Label.BAD: 2 * MIN_TRAIN_PER_LABEL}
"""Of each label, before training makes sense: half of them train."""
BOXES_FOR_ROI = 40
"""From here on the region can be learned: half of them train, and twenty is the least that teaches."""
SPLIT_NAMES = {
    Split.TRAIN: N_("for training"),
    Split.VAL: N_("for validation"),
    Split.CALIBRATE: N_("for calibration"),
    Split.TEST: N_("for testing"),
}

Line = Annotated[str, Form(max_length=200)]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A data set in numbers."""

    name: str
    pictures: int = 0
    good: int = 0
    bad: int = 0
    without_part: int = 0
    kinds: tuple[tuple[str, int], ...] = ()
    """Bad pictures by kind, most frequent first; ``""`` where none was named."""
    boxes: int = 0
    masks: int = 0
    splits: tuple[tuple[Split, int], ...] = ()
    first: str = ""
    """A picture to show."""
    problem: str = ""

    @property
    def open(self) -> int:
        """Pictures that nobody has judged."""
        return self.pictures - self.good - self.bad - self.without_part

    @property
    def missing(self) -> dict[Label, int]:
        """Labels still needed before training, by label."""
        have = {Label.GOOD: self.good, Label.BAD: self.bad}
        return {label: needed - have[label] for label, needed in NEEDED.items() if have[label] < needed}


class Kinds(BaseModel):
    """The list of kinds, in the order of their number keys."""

    model_config = ConfigDict(extra="forbid")
    kinds: list[Annotated[str, Field(max_length=400)]] = Field(max_length=200)


def datasets_page(request: Request, here: Here) -> Response:
    """All data sets."""
    return pages.page(request, "datasets.html", found=[overview(here, name) for name in here.datasets.names()])


def create(request: Request, here: Here, me: Me, name: Line) -> Response:
    """Begin a data set."""
    name = checked_name(name)
    if name in here.datasets.names():
        raise RefusedError(N_("The data set %(name)s already exists."), name=name)
    here.book.act("dataset_created", me.name, dataset=name)
    here.datasets.create(name)
    return RedirectResponse(f"/datasets/{name}", 303)


def dataset_page(request: Request, here: Here, name: str) -> Response:
    """One data set: its numbers, uploading, training."""
    found = overview(here, name)
    weights = here.jobs.weights_files()
    return pages.page(
        request,
        "dataset.html",
        found=found,
        suggested=here.jobs.free_name(name),
        efforts=[(effort, EFFORT_NAMES[effort], EFFORT_WORDS[effort]) for effort in Effort],
        weights=[file for file in weights if file.startswith(BACKBONES)],
        split_names=SPLIT_NAMES,
        phases=PHASE_NAMES,
        most=MOST_BYTES,
        least=MIN_LABELLED,
        each=NEEDED[Label.GOOD],
        boxes_for_roi=BOXES_FOR_ROI,
        jobs=[job for job in here.jobs.all() if job.asked.dataset == name][:5],
    )


def upload(
    here: Here, me: Me, name: str, files: list[UploadFile], by_folder: Annotated[bool, Form()] = False
) -> Response:
    """Take photographs and archives."""
    here.datasets.root_of(name)
    sent = [(file.filename or "picture", file.file) for file in files]
    taken = take(here, name, sent, who=me.name, by_folder=by_folder)
    tell = translations(me.language).gettext
    return pages.answer(
        added=taken.added,
        copies=taken.copies,
        labelled=taken.labelled,
        unknown_folders=taken.unknown_folders,
        refused=[{"name": refused.name, "reason": tell(refused.reason)} for refused in taken.refused],
    )


def set_kinds(here: Here, me: Me, name: str, body: Kinds) -> Response:
    """Set the defect kinds and their order."""
    here.datasets.root_of(name)
    here.book.act("kinds", me.name, dataset=name, kinds=[*body.kinds])
    return pages.answer(kinds=here.datasets.set_kinds(name, body.kinds))


def overview(here: Services, name: str) -> Overview:
    """Count a data set's pictures; a malformed one is named with its fault."""
    try:
        samples = list(here.datasets.read(name).samples.values())
    except DatasetError as error:
        return Overview(name=name, problem=str(error))
    labels = Counter(sample.label for sample in samples)
    kinds = Counter(sample.defect or "" for sample in samples if sample.label is Label.BAD)
    splits = Counter(sample.split for sample in samples)
    return Overview(
        name=name,
        pictures=len(samples),
        good=labels[Label.GOOD],
        bad=labels[Label.BAD],
        without_part=sum(decided(sample) and sample.label is None for sample in samples),
        kinds=tuple(kinds.most_common()),
        boxes=sum(sample.box_xyxy is not None for sample in samples),
        masks=sum(sample.mask_file_name is not None for sample in samples),
        splits=tuple((split, splits[split]) for split in Split if splits[split]),
        first=_shown(samples),
    )


def _shown(samples: list[Sample]) -> str:
    good = (sample.file_name for sample in samples if sample.label is not Label.BAD)
    return next(good, samples[0].file_name if samples else "")
