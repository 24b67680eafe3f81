"""Brings pictures of the line back into a data set, by rule or as a designated random sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from gonogo import images
from gonogo.dataset import Dataset, Sample, Split, catch_up, locked, record_change, records_at, write_metadata
from gonogo.dataset.collected import COLUMN, FOLDER, Collected, Why, provenance
from gonogo.dataset.history import file_sha256
from gonogo.dataset.records import METADATA
from gonogo.errors import GonogoError, InputError
from gonogo.files import write_beside
from gonogo.progress import track
from gonogo.schema import State

if TYPE_CHECKING:
    from gonogo.ledger import Ledger, Row, VerdictRecord

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}
SUFFIXES |= {"MPO": ".jpg", "GIF": ".gif", "AVIF": ".avif", "HEIF": ".heic"}
_VALUE = {why: number for number, why in enumerate(Why)}
_SEED = "gonogo dataset collect"


@dataclass(frozen=True, kw_only=True)
class CollectRules:
    """Which parts are collected."""

    no_go: bool = True
    review: bool = True
    go_one_in: int = 500
    """One go in this many, drawn by the hash of its row; 0 for none."""
    near: float = 0.0
    """Largest distance of a score from a threshold; 0 for none."""
    most_mb: float = 2000.0
    """Disk budget of collected pictures that nobody has labelled yet, in MB."""
    sample: str | None = None
    """Name of a designated random sample; the other rules do not count then."""

    def why(self, row: Row[VerdictRecord]) -> Why | None:
        """Return the most valuable rule that selects a part; ``None`` if none does."""
        from gonogo.ledger.sampling import drawn

        record, score = row.record, row.record.score
        limits = [limit for limit in (record.go_below, record.no_go_above) if limit is not None]
        if self.review and record.state is State.REVIEW:
            return Why.REVIEW
        if self.no_go and record.state is State.NO_GO:
            return Why.NO_GO
        judged = score is not None and record.state is not State.FAULT
        if judged and self.near > 0 and any(abs((score or 0.0) - limit) <= self.near for limit in limits):
            return Why.NEAR
        if record.state is State.GO and self.go_one_in and drawn(_SEED, row.sha256, self.go_one_in):
            return Why.GO
        return None


@dataclass(frozen=True, kw_only=True)
class CollectedFrom:
    """Result of collecting."""

    added: tuple[Sample, ...]
    dropped: tuple[Sample, ...]
    """Unlabelled pictures that were removed for the disk budget, the least valuable and oldest first."""
    known: int
    """Selected pictures that the data set has or had before."""
    held_back: int
    """Selected pictures of parts that are in val, calibrate or test."""
    gone: int
    """Selected pictures that were deleted by retention, or cannot be read."""
    over_budget: int
    """Selected pictures that were not added, because the budget is full of more valuable ones."""

    @property
    def by_rule(self) -> dict[str, int]:
        """Number of added pictures by rule."""
        return dict(Counter(str(_of(sample).why) for sample in self.added))


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    sample: Sample
    size: int
    data_from: Ledger | None
    """Where to read the picture; ``None`` if it is in the data set."""
    digest: str


@dataclass
class _Known:
    """What the data set has, and ever had."""

    dataset: Dataset
    digests: set[str] = field(default_factory=set)
    proving: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, root: Path) -> _Known:
        dataset, last = Dataset.read(root), catch_up(root)
        ever = {} if last is None else records_at(root, last.number).files
        digests = set(ever.values()) | {Path(name).stem for name in ever if name.startswith(f"{FOLDER}/")}
        unknown = [sample for sample in dataset.samples if sample.file_name not in ever]
        digests |= {found for sample in unknown if (found := file_sha256(dataset.path(sample)))}
        proving = {s.part for s in dataset.samples if s.part is not None and s.split not in (None, Split.TRAIN)}
        return cls(dataset=dataset, digests=digests, proving=proving)


def collect_parts(
    ledgers: Sequence[Path], root: Path, rules: CollectRules, *, who: str | None = None, dry_run: bool = False
) -> CollectedFrom:
    """Add pictures of judged parts to a data set, unlabelled and with their provenance.

    Parts selected by a rule go into train, because they are no random sample of the line; those of a designated random
    sample go into no split, and their records do not say the verdict. No picture is added twice, not even one that was
    removed since.

    Args:
        ledgers: The ledgers to read.
        root: The data set; for a designated sample it is created if it does not exist.
        rules: What to collect.
        who: The person; default: the user of this process.
        dry_run: Change nothing.

    Raises:
        InputError: A ledger or the data set cannot be read, there is no such sample, or the disk is full.
        MissingExtraError: The package that reads ledgers is not installed.
    """
    if rules.sample is not None and not (root / METADATA).exists():
        write_metadata(root, ())
    known, tally = _Known.of(root), Counter[str]()
    from gonogo.ledger import Ledger  # apsw, of the extra line

    with ExitStack() as stack:
        opened = [stack.enter_context(Ledger.open(path, create=False, read_only=True)) for path in ledgers]
        new = [each for ledger in opened for each in _candidates(ledger, rules, known, tally)]
        kept, dropped = _within_budget(known.dataset, new, rules)
        tally["over_budget"] = len(new) - len(kept)
        written = [] if dry_run else _write_all(root, kept, tally)
    if dry_run:
        written = [each.sample for each in kept]
    elif written or dropped:
        dropped = _record(root, written, dropped, rules, who)
    return CollectedFrom(
        added=tuple(written),
        dropped=tuple(dropped),
        known=tally["known"],
        held_back=tally["held_back"],
        gone=tally["gone"],
        over_budget=tally["over_budget"],
    )


def _selected(ledger: Ledger, rules: CollectRules) -> Iterator[tuple[Row[VerdictRecord], Why]]:
    from gonogo.ledger.sampling import find_schedule, sampled_parts

    if rules.sample is not None:
        yield from ((row, Why.SAMPLE) for row in sampled_parts(ledger, find_schedule(ledger, rules.sample)))
        return
    for row in track(ledger.verdicts(), f"Reading {Path(ledger.name).name}", total=ledger.count()):
        if (why := rules.why(row)) is not None:
            yield row, why


def _candidates(ledger: Ledger, rules: CollectRules, known: _Known, tally: Counter[str]) -> Iterator[_Candidate]:
    for row, why in _selected(ledger, rules):
        part = row.record.part or f"{row.record.station} {row.record.trigger_id}"
        for view in row.record.views:
            digest = view.frame_sha256
            if digest is None or (why is not Why.SAMPLE and part in known.proving):
                tally["gone" if digest is None else "held_back"] += 1
                continue
            if digest in known.digests:
                tally["known"] += 1
                continue
            try:
                data = ledger.frames.read(digest)
                suffix = SUFFIXES[images.read_header(data).format]
            except (GonogoError, KeyError):
                tally["gone"] += 1
                continue
            known.digests.add(digest)
            sample = _sample(row, why, part, f"{FOLDER}/{digest}{suffix}", rules.sample)
            yield _Candidate(sample=sample, size=len(data), data_from=ledger, digest=digest)


def _sample(row: Row[VerdictRecord], why: Why, part: str, file: str, name: str | None) -> Sample:
    from gonogo.ledger.records import iso

    record, blind = row.record, why is Why.SAMPLE
    found = Collected(
        why=why,
        station=record.station,
        row=row.seq,
        row_sha256=row.sha256,
        at=iso(row.at),
        bundle_sha256=None if blind else record.bundle_sha256,
        state=None if blind else record.state.value,
        score=None if blind else record.score,
        sample=name,
    )
    content = {"file_name": file, "part": part, "lot": record.lot, "split": None if blind else Split.TRAIN}
    return Sample.model_validate(content | {COLUMN: found.model_dump(mode="json", exclude_none=True)})


def _within_budget(
    dataset: Dataset, new: Sequence[_Candidate], rules: CollectRules
) -> tuple[list[_Candidate], list[Sample]]:
    """The new pictures to add, and the old ones to drop; a designated sample has no budget."""
    if rules.sample is not None:
        return [*new], []
    old = [
        _Candidate(sample=sample, size=path.stat().st_size, data_from=None, digest="")
        for sample in dataset.samples
        if _disposable(sample) and (path := dataset.path(sample)).is_file()
    ]
    left, kept, dropped = int(rules.most_mb * 1e6), [], []
    for each in sorted(
        (*old, *new), key=lambda each: (_VALUE[_of(each.sample).why], _of(each.sample).at), reverse=True
    ):
        left -= each.size
        if left < 0:
            dropped.append(each)
        elif each.data_from is not None:
            kept.append(each)
    kept.sort(key=lambda each: (_of(each.sample).at, each.digest))
    return kept, [each.sample for each in reversed(dropped) if each.data_from is None]


def _write_all(root: Path, kept: Sequence[_Candidate], tally: Counter[str]) -> list[Sample]:
    written = []
    for each in track(kept, "Copying pictures"):
        assert each.data_from is not None, "these are new"
        try:
            data = each.data_from.frames.read(each.digest)
        except GonogoError:  # deleted by retention in the meantime
            tally["gone"] += 1
            continue
        write_beside(root / each.sample.file_name, data)
        written.append(each.sample)
    return written


def _record(
    root: Path, written: Sequence[Sample], dropped: Sequence[Sample], rules: CollectRules, who: str | None
) -> list[Sample]:
    """Write the records, and delete what was dropped unless somebody labelled it in the meantime."""
    with locked(root):
        now = Dataset.read(root)
        going = {sample.file_name for sample in dropped}
        going = {sample.file_name for sample in now.samples if sample.file_name in going and _disposable(sample)}
        names = {sample.file_name for sample in now.samples}
        after = [sample for sample in now.samples if sample.file_name not in going]
        after += [sample for sample in written if sample.file_name not in names]
        details: dict[str, JsonValue] = {
            "dropped": len(going),
            **({} if rules.sample is None else {"sample": rules.sample}),
        }
        record_change(root, after, what="collect", who=who, details=details, before=now.samples)
        for name in going:
            (root / name).unlink(missing_ok=True)
    return [sample for sample in dropped if sample.file_name in going]


def _disposable(sample: Sample) -> bool:
    """Whether a picture was collected by a rule, and nobody has said anything about it."""
    found = provenance(sample)
    undecided = sample.label is None and sample.present is None and sample.box_xyxy is None
    return found is not None and found.why is not Why.SAMPLE and undecided


def _of(sample: Sample) -> Collected:
    found = provenance(sample)
    if found is None:
        raise InputError(f"{sample.file_name}: expected a collected picture, found another one.")
    return found
