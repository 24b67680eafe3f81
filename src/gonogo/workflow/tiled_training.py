"""Training on windows: pictures are cut like in the inspector, and each window is a training sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gonogo import images, runtime
from gonogo.backbone import Backbone
from gonogo.config import CELL_PX, Reduction, Tiling, settings
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError, UnfitError
from gonogo.evidence import (
    FeatureTable,
    OutOfFold,
    classifier_graph,
    fit_defect_kinds,
    fit_evidence,
    losses_out_of_fold,
    out_of_fold,
    part_numbers,
    store_features,
)
from gonogo.evidence.table import ZonedCells
from gonogo.images.geometry import scaled_region, side_lengths
from gonogo.inspector import Inspector
from gonogo.prefetch import prefetch
from gonogo.progress import console, track
from gonogo.runtime import Picture
from gonogo.schema import Frame, Label
from gonogo.source import SourceView, TrainingSource, generator_of
from gonogo.tiling import Grid, cut_windows, grid_of
from gonogo.workflow.evidence_training import (
    PARITY_PICTURES,
    Trial,
    check_pictures,
    described,
    open_backbones,
    usual_shift,
)
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.picture_size import CELL, usual_region_wh
from gonogo.workflow.sealing import Built, Unseen
from gonogo.zoning import LEFT_OUT, Numbers, require_cells, sensitivities, zone_numbers, zones_digest

USUAL_SIDE = 320
"""Default side of a window in pixels, if the region is large enough."""
MOST_WINDOWS = 1200
"""Maximum number of training windows, at most half of them bad; if there are more, a random subset is used."""
MOST_LEFT_OUT = 0.9
"""Largest share of the cells of a training window that ignore zones leave out."""
LEAST_MARKED = 64
"""Fewest marked pixels for a window to be bad; the rim of a defect alone is not enough. If no window of a picture has
as many, the one with the most is bad."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The training windows of one picture."""

    sample: Sample
    grid: Grid
    chosen: tuple[int, ...]
    """Indices of the windows, ascending."""


@dataclass(frozen=True, kw_only=True)
class WindowSource:
    """Yields upright regions at full resolution, and the windows to cut out of them."""

    source: TrainingSource
    window_wh: tuple[int, int]
    tiling: Tiling
    reduction: Reduction

    def upright(self, sample: Sample) -> tuple[Picture, Grid]:
        """The upright region of a sample, and its windows."""
        return self._upright(sample, self.source.load(sample))

    def marks(self, sample: Sample) -> tuple[Picture, Grid] | None:
        """The mask of a bad sample, 255 inside and 0 outside, cut like its picture; ``None`` if it has none."""
        mask = self.source.load_pair(sample)[1]
        return None if mask is None else self._upright(sample, mask)

    def numbers(self, grid: Grid, shift_xy: tuple[float, float] = (0.0, 0.0)) -> Numbers | None:
        """Zone of every cell of an upright region; ``None`` without zones."""
        width, height = grid.size_wh
        shape = (height // CELL_PX, width // CELL_PX)
        return zone_numbers(self.source.zones, self.source.margin, grid.size_wh, shape, shift_xy)

    def of_windows(self, cuts: Sequence[Cut], shift_xy: tuple[float, float]) -> list[Numbers | None]:
        """Zone of every cell of the chosen windows, in order."""
        found: list[Numbers | None] = []
        for cut in cuts:
            numbers = self.numbers(cut.grid, shift_xy)
            found += [None if numbers is None else numbers[cut.grid.cells(number)] for number in cut.chosen]
        return found

    def to_judge(self, grid: Grid) -> list[int]:
        """Indices of the windows of which ignore zones leave out at most `MOST_LEFT_OUT`."""
        numbers = self.numbers(grid)
        return [
            index
            for index in range(len(grid.corners))
            if numbers is None or (numbers[grid.cells(index)] == LEFT_OUT).mean() <= MOST_LEFT_OUT
        ]

    def pictures(self, cuts: Sequence[Cut]) -> Iterator[Picture]:
        """The chosen windows of every picture, in order."""
        return (view.picture for view in self.views(cuts))

    def views(self, cuts: Sequence[Cut], *, masks: bool = False) -> Iterator[SourceView]:
        """The chosen windows of every picture, in order, optionally with their part of the mask."""
        width, height = self.window_wh

        def make(cut: Cut) -> list[SourceView]:
            source, sample = self.source, cut.sample
            frame, mask = source.load_pair(sample) if masks else (source.load(sample), None)
            pictures = _chosen(self._upright(sample, frame)[0], cut)
            if mask is None:
                marks = [np.zeros((height, width), np.uint8) if masks else None] * len(pictures)
            else:
                marks = [window[..., 0] for window in _chosen(self._upright(sample, mask)[0], cut)]
            return [SourceView(picture=each, marks=marked) for each, marked in zip(pictures, marks, strict=True)]

        for windows in prefetch(make, cuts, workers=1):
            yield from windows

    def _upright(self, sample: Sample, frame: Frame) -> tuple[Picture, Grid]:
        region = self.source.region(sample, frame)
        if self.reduction > 1:
            frame, region = (
                images.reduce(frame, self.reduction),
                scaled_region(region, 1 / self.reduction, 1 / self.reduction),
            )
        seen = side_lengths(images.seen_region(frame, region))
        grid = grid_of(seen, self.window_wh, self.tiling.overlap_px)
        return images.cut(frame, region, grid.size_wh), grid


def _unseen(table: FeatureTable, aurocs: dict[str, float]) -> Unseen | None:
    """AUROC on parts left out, each scored by its worst window."""
    if "all" not in aurocs:
        return None
    bad = {part for part, is_bad in zip(table.groups, table.bad, strict=True) if is_bad}
    return Unseen(auroc=aurocs["all"], good=len(set(table.groups) - bad), bad=len(bad))


def train_tiled(source: TrainingSource, options: TrainingOptions, tiling: Tiling) -> Built:
    """Fit the evidence on windows of train and val, and build the graph of one window.

    All windows of a good part are good. For a bad part with a mask, windows with marked pixels are bad and the others
    are skipped, because a mask may be incomplete. Bad parts without a mask are skipped, because it is unknown which of
    their windows are bad.

    Args:
        source: Source of the training pictures.
        options: Training options; ``size_wh`` is the window size.
        tiling: How the windows overlap.

    Raises:
        InputError: the backbone is unknown, its package is not installed, or the windows do not fit the pictures.
    """
    samples = source.dataset.split(Split.TRAIN, Split.VAL)
    windows = _window_source(source, samples, options, tiling)
    cuts = choose_windows(windows, samples, seed=options.seed)
    trials = [_try(backbone, windows, cuts, options) for backbone in open_backbones(options)]
    best = trials[0] if len(trials) == 1 else min(trials, key=_loss)
    weighted = fit_evidence(best.table, best.tried, seed=options.seed)
    weighted = replace(weighted, defect_kinds=fit_defect_kinds(best.table, seed=options.seed))
    aurocs = aurocs_by_part(best.tried, best.table)
    usual = int(np.median([len(cut.grid.corners) for cut in cuts]))
    console.print(_sentence(windows, usual, best.table, aurocs))
    shown = _for_parity(cuts)
    return Built(
        graph=classifier_graph(
            best.backbone.graph(windows.window_wh), weighted, labels=(Label.GOOD.value, Label.BAD.value)
        ),
        source=best.source,
        classifier=described(best, weighted, aurocs),
        shift_xy=best.shift_xy,
        check=lambda graph: check_pictures(
            weighted, best.backbone, graph, windows.pictures(shown), windows.of_windows(shown, best.shift_xy)
        ),
        unseen=_unseen(best.table, aurocs),
        facts={
            "auroc_on_parts_left_out": dict(aurocs),
            "memory_strides": list(best.tried.memory_strides),
            "pictures": len(cuts),
            "windows_learned_from": len(best.table.bad),
            "bad_windows": int(best.table.bad.sum()),
            "windows_of_a_picture": usual,
        },
        tiling=tiling,
        left_out=_worst_left_out(cuts, best.tried),
    )


def _worst_left_out(cuts: Sequence[Cut], tried: OutOfFold) -> dict[str, float]:
    """Out-of-fold score of each picture by file name: that of its worst training window."""
    ends = np.cumsum([len(cut.chosen) for cut in cuts])
    windows = np.split(tried.blended, ends[:-1])
    return {cut.sample.file_name: float(scores.max()) for cut, scores in zip(cuts, windows, strict=True)}


def choose_windows(windows: WindowSource, samples: Sequence[Sample], *, seed: int) -> list[Cut]:
    """Choose the training windows, at most about `MOST_WINDOWS`.

    Raises:
        UnfitError: there are no good pictures.
    """
    good = [sample for sample in samples if sample.label is Label.GOOD]
    marked = [sample for sample in samples if sample.label is Label.BAD and sample.mask_file_name is not None]
    if unknown := sum(sample.label is Label.BAD for sample in samples) - len(marked):
        console.print(
            f"{unknown} bad pictures have no mask and are skipped: it is unknown which of their windows are bad."
        )
    if not good:
        raise UnfitError("--tile: expected good pictures in train and val, found none. Import good pictures.")

    def cut_marked(sample: Sample) -> Cut:
        found = windows.marks(sample)
        assert found is not None, "only called for samples with a mask"
        judged = windows.to_judge(found[1])
        return Cut(
            sample=sample, grid=found[1], chosen=tuple(number for number in bad_windows(*found) if number in judged)
        )

    def cut_good(sample: Sample) -> Cut:
        grid = windows.upright(sample)[1]
        drawn = generator_of(seed, sample).permutation(windows.to_judge(grid))[:each]
        return Cut(sample=sample, grid=grid, chosen=tuple(sorted(map(int, drawn))))

    found = [
        cut for cut in track(prefetch(cut_marked, marked), "cutting bad pictures", total=len(marked)) if cut.chosen
    ]
    bad = _fewer(found, MOST_WINDOWS // 2, seed)
    each = max(1, (MOST_WINDOWS - sum(len(cut.chosen) for cut in bad)) // len(good))
    return [*track(prefetch(cut_good, good), "cutting good pictures", total=len(good)), *bad]


def bad_windows(marks: Picture, grid: Grid) -> tuple[int, ...]:
    """Indices of the windows with enough marked pixels."""
    seen = np.array([int((window[..., 0] > 127).sum()) for window in cut_windows(marks, grid)])
    if not seen.any():
        return ()
    return tuple(map(int, np.flatnonzero(seen >= min(LEAST_MARKED, int(seen.max())))))


def aurocs_by_part(tried: OutOfFold, table: FeatureTable) -> dict[str, float]:
    """AUROC of each kind of evidence alone and of all together, with parts scored by their worst window."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(table.bad)) < 2:
        return {}
    parts, of_part = np.unique(table.groups, return_inverse=True)
    bad = np.zeros(len(parts), np.int64)
    np.maximum.at(bad, of_part, table.bad)
    columns = {kind: tried.scores[:, number] for number, kind in enumerate(tried.kinds)}
    found = {}
    for name, scores in {**columns, "all": tried.blended}.items():
        worst = np.full(len(parts), -np.inf)
        np.maximum.at(worst, of_part, scores)
        found[name] = float(roc_auc_score(bad, worst))
    return found


def report_windows(inspector: Inspector, dataset: Dataset) -> None:
    """Print the number of windows per picture and the time to judge them on this machine."""
    path = dataset.path(dataset.split(Split.VAL, Split.TRAIN)[0])
    photograph, verdict = inspector.inspect_file(path)
    if photograph is None:
        return
    took_ms = verdict.timings_ms["total"] - verdict.timings_ms["decode"]
    (width, height), (across, down) = inspector.recipe.size_wh, photograph.size_wh
    console.print(
        f"A picture of {across} x {down} pixels is judged in {verdict.windows} windows of {width} x "
        f"{height}, in {took_ms:.0f} ms on this machine."
    )


def _window_source(
    source: TrainingSource, samples: Sequence[Sample], options: TrainingOptions, tiling: Tiling
) -> WindowSource:
    own = usual_region_wh(source, samples, options.reduction)
    window_wh = options.size_wh or _usual_window(own)
    if any(side % CELL for side in window_wh) or 2 * tiling.overlap_px > min(window_wh):
        raise InputError(
            f"--tile: expected windows whose sides are multiples of {CELL} and at least twice their overlap of "
            f"{tiling.overlap_px} pixels, found {window_wh[0]} x {window_wh[1]}. Change --size or --overlap."
        )
    if all(side <= window for side, window in zip(own, window_wh, strict=True)) or any(
        side < window - CELL_PX for side, window in zip(own, window_wh, strict=True)
    ):
        raise InputError(
            f"--tile: the median region has {own[0]:.0f} x {own[1]:.0f} pixels, which is too small for windows of "
            f"{window_wh[0]} x {window_wh[1]}. Choose a smaller --size, or omit --tile."
        )
    return WindowSource(source=source, window_wh=window_wh, tiling=tiling, reduction=options.reduction)


def _usual_window(region_wh: tuple[float, float]) -> tuple[int, int]:
    width, height = (min(USUAL_SIDE, max(CELL, int(side) // CELL * CELL)) for side in region_wh)
    return width, height


def _try(backbone: Backbone, windows: WindowSource, cuts: Sequence[Cut], options: TrainingOptions) -> Trial:
    """Train one backbone and compute out-of-fold scores."""
    shift_xy = usual_shift(backbone)
    width, height = windows.window_wh
    graph = runtime.compile_graph(backbone.graph(windows.window_wh), many=True)
    counts = [len(cut.chosen) for cut in cuts]
    message = f"features of windows of {width} x {height}"
    scratch = settings().cache_dir / "scratch"
    bad = np.repeat([int(cut.sample.label is Label.BAD) for cut in cuts], counts)
    masks = bool(options.masks and bad.any())
    views = windows.views(cuts, masks=masks)
    zoned = _zoned(windows, cuts, shift_xy)
    stored = store_features(
        graph, views, sum(counts), scratch, message, shift_xy=shift_xy if masks else None, zoned=zoned
    )
    table = FeatureTable(
        vectors=stored.vectors,
        joined=stored.joined,
        widths=stored.widths,
        bad=bad,
        groups=tuple(np.repeat(part_numbers([cut.sample for cut in cuts]), counts).tolist()),
        targets=stored.targets,
        defects=tuple(cut.sample.defect for cut in cuts for _ in cut.chosen),
        numbers=zoned.numbers,
        sensitivities=zoned.sensitivities,
        zone_vectors=stored.zone_vectors,
    )
    return Trial(
        backbone=backbone,
        source=replace(windows.source, size_wh=windows.window_wh),
        shift_xy=shift_xy,
        table=table,
        tried=out_of_fold(table, seed=options.seed),
    )


def _zoned(windows: WindowSource, cuts: Sequence[Cut], shift_xy: tuple[float, float]) -> ZonedCells:
    """The zones of the cells of all chosen windows.

    Raises:
        InputError: A zone lies outside the inspected region, or nothing is left to inspect.
    """
    zones, margin = windows.source.zones, windows.source.margin
    if not zones_digest(zones):
        return ZonedCells()
    whole = windows.numbers(cuts[0].grid, shift_xy)
    assert whole is not None, "there are zones"
    require_cells(whole, zones, margin, cuts[0].grid.size_wh)
    found = [each for each in windows.of_windows(cuts, shift_xy) if each is not None]
    return ZonedCells(numbers=np.stack(found), sensitivities=sensitivities(zones))


def _loss(trial: Trial) -> float:
    bad = trial.table.bad
    return float(losses_out_of_fold(trial.tried, bad).mean()) if len(np.unique(bad)) > 1 else 0.0


def _fewer(cuts: Sequence[Cut], most: int, seed: int) -> list[Cut]:
    """Reduce the total number of windows to ``most``, by the same share for each picture."""
    total = sum(len(cut.chosen) for cut in cuts)
    if total <= most:
        return list(cuts)
    fewer = []
    for cut in cuts:
        kept = max(1, int(len(cut.chosen) * most / total))
        drawn = generator_of(seed, cut.sample).permutation(cut.chosen)[:kept]
        fewer.append(replace(cut, chosen=tuple(sorted(map(int, drawn)))))
    return fewer


def _for_parity(cuts: Sequence[Cut]) -> list[Cut]:
    """One window each of a few good and bad pictures."""
    half = PARITY_PICTURES // 2
    chosen = cuts if len(cuts) <= PARITY_PICTURES else [*cuts[:half], *cuts[-half:]]
    return [replace(cut, chosen=cut.chosen[:1]) for cut in chosen]


def _chosen(upright: Picture, cut: Cut) -> list[Picture]:
    windows = list(cut_windows(upright, cut.grid))
    return [np.ascontiguousarray(windows[number]) for number in cut.chosen]


def _sentence(windows: WindowSource, usual: int, table: FeatureTable, aurocs: dict[str, float]) -> str:
    width, height = windows.window_wh
    seen = (
        f"The network sees {usual} windows of {width} x {height} pixels in a typical picture, and was trained on "
        f"{len(table.bad)} windows, {int(table.bad.sum())} of them bad."
    )
    if not aurocs:
        return f"{seen} There are no bad windows to learn from: parts are judged by their distance to good parts alone."
    kinds = ", ".join(f"{kind} {value:.3f}" for kind, value in aurocs.items() if kind != "all")
    return f"{seen} AUROC on parts left out, by their worst window: {aurocs['all']:.3f} ({kinds} alone)."
