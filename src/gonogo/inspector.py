"""The inspector: one picture in, one verdict out. The only way anything in gonogo judges a picture."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gonogo import bundle, drift, images, roi, runtime, tiling
from gonogo.bundle import Bundle
from gonogo.cascade import Cascade, Outputs
from gonogo.compiled import CompiledCache
from gonogo.config import Recipe, Settings, settings
from gonogo.defect_kinds import UNLIKE
from gonogo.errors import BundleError, ImageError, UnlocatedError
from gonogo.heatmap import HeatScale
from gonogo.images import Photograph
from gonogo.images.geometry import relocated, scaled_region
from gonogo.operating_point import without_promise
from gonogo.roi import Roi
from gonogo.runtime import Graph, Picture
from gonogo.schema import Box, FeatureVector, Frame, Located, OperatingPoint, Region, State, Verdict
from gonogo.tiling import Grid


class Inspector:
    """Turns frames into verdicts with one bundle. Not thread-safe: give each thread or process its own.

    Example:
        >>> from gonogo import Inspector
        >>> from gonogo.testing import fake_frame, write_fake_bundle
        >>> _ = write_fake_bundle(Path("red.inspector"))
        >>> inspector = Inspector.load("red.inspector")
        >>> inspector.inspect(fake_frame(1)).state.value, inspector.inspect(fake_frame(2, bad=True)).state.value
        ('go', 'no_go')
    """

    def __init__(
        self, opened: Bundle, graph: Graph, search: Roi | None = None, *, cascade: Cascade | None = None
    ) -> None:
        self.bundle = opened
        self.roi = search or roi.WholeRoi()
        self.cascade = cascade
        self._graph = graph
        self.drift = drift.read_sealed_reference(opened)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, machine: Settings | None = None, replay: bool = True) -> Inspector:
        """Open a bundle, compile its graphs and replay its golden frames.

        A graph compiled at an earlier start is taken from the cache where it proves to be this bundle's own; one that
        does not reproduce the golden frames is compiled anew from the sealed file, which then decides.

        Args:
            path: The bundle's folder.
            machine: Device, threads and cache; the process's settings where omitted.
            replay: Judge the golden frames and refuse a bundle that does not reproduce their scores.

        Raises:
            BundleError: the bundle was changed, cannot be compiled, or does not reproduce its golden scores.
        """
        machine = machine or settings()
        opened = bundle.read_bundle(path)
        graphs = _Graphs(opened, machine)
        inspector = cls._assembled(opened, graphs)
        if not replay:
            return inspector
        environment = runtime.runtime_environment(device=machine.device, threads=machine.threads)
        try:
            inspector._replay(environment)
        except BundleError:
            if not graphs.forget_kept():
                raise
            inspector = cls._assembled(opened, graphs)
            inspector._replay(environment)
        return inspector

    @classmethod
    def of_draft(cls, opened: Bundle) -> Inspector:
        """What judges with a bundle that is still being made, see `gonogo.bundle.draft`; nothing is replayed."""
        return cls._assembled(opened, _Graphs(opened, settings()))

    def revised(self, opened: Bundle) -> Inspector:
        """The same graphs under another manifest."""
        return Inspector(opened, self._graph, self.roi, cascade=self.cascade)

    @classmethod
    def _assembled(cls, opened: Bundle, graphs: _Graphs) -> Inspector:
        """Everything that judges, from sealed bytes or compiled from them earlier."""
        search = cascade = None
        if opened.manifest.recipe.roi != "none":
            text = opened.data(bundle.ROI_RECIPE).decode(errors="replace")
            search = roi.open_roi(opened.roi, text=text, compiled=lambda network: graphs(network.name))
        if (rule := opened.manifest.cascade) is not None:
            cascade = Cascade.of(opened, graphs(bundle.TEACHER, rule.precision))
        return cls(opened, graphs(bundle.CLASSIFIER), search, cascade=cascade)

    @property
    def path(self) -> Path:
        """Where the bundle lies."""
        return self.bundle.root

    @property
    def bundle_sha256(self) -> str:
        """Names the exact bundle."""
        return self.bundle.sha256

    @property
    def recipe(self) -> Recipe:
        """How the product is inspected."""
        return self.bundle.manifest.recipe

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The thresholds and their evidence."""
        return self.bundle.manifest.operating_point

    @property
    def heat_scale(self) -> HeatScale:
        """The fixed colour scale of the heat maps."""
        return self.bundle.manifest.heat_scale

    @property
    def bias(self) -> float:
        """``score = pool(heatmap) + bias``."""
        return self.bundle.manifest.classifier.bias if self.cascade is None else self.cascade.bias

    def inspect(self, picture: Frame | Photograph, *, located: Located | None = None) -> Verdict:
        """Judge one picture.

        Args:
            picture: A raw frame (uint8 RGB, height x width x 3) or a photograph, raw or encoded.
            located: Where the part is, in pixels of the full size, for a caller who knows; searched for where omitted.

        Returns:
            The verdict, with places in pixels of the full size. A picture that cannot be decoded, a raw frame where the
            bundle is proven for encoded pictures only, a judgement that could not be completed and a part that was not
            found are each a ``fault`` with its reason, never an exception.
        """
        recipe, timings_ms = self.recipe, dict[str, float]()
        try:
            photograph = picture if isinstance(picture, Photograph) else Photograph(picture)
            if photograph.data is not None:
                with _Timed(timings_ms, "decode"):
                    photograph.unpacked(recipe)
            frame = photograph.judged(recipe)
        except ImageError as error:
            return _fault(error, timings_ms)
        if located is not None and recipe.reduction > 1:
            located = relocated(located, 1 / recipe.reduction)
        verdict = self._judge(frame, located, photograph.size_wh, timings_ms)
        timings_ms["total"] += timings_ms.get("decode", 0.0)
        return verdict

    def inspect_encoded(self, data: bytes, *, name: str = "picture") -> Verdict:
        """Judge one encoded picture from its bytes, as they come from a file or a camera that sends JPEG.

        Where the decoder reduces pictures, a JPEG is never unpacked at its full size.

        Args:
            data: A whole JPEG, PNG, BMP, TIFF or WebP file.
            name: What to call it in the reason of a fault.

        Returns:
            As `inspect`.
        """
        return self.inspect(Photograph(data, name=name))

    def inspect_file(self, path: str | os.PathLike[str]) -> tuple[Photograph | None, Verdict]:
        """Read and judge one file; one that cannot be read or decoded is a ``fault`` that says why.

        Returns:
            The photograph (``None`` where it could not be decoded), whose ``frame`` is unpacked at its full size only
            when somebody looks at it, and the verdict.
        """
        try:
            data = images.read_bytes(path, limits=self.recipe.limits)
        except ImageError as error:
            return None, _fault(error)
        photograph = Photograph(data, name=str(path), limits=self.recipe.limits)
        verdict = self.inspect(photograph)
        return photograph if photograph.readable else None, verdict

    def _judge(
        self, frame: Frame, located: Located | None, size_wh: tuple[int, int], timings_ms: dict[str, float]
    ) -> Verdict:
        """Judge a frame, reduced as the recipe says; the verdict's places are those of the full size.

        Args:
            frame: The frame that is judged.
            located: Where the part is on it, for a caller who knows.
            size_wh: The frame's full width and height.
            timings_ms: What was done before took so long.
        """
        box: Box | None = None
        region: Region | None = None
        try:
            with _Timed(timings_ms, "total"):
                with _Timed(timings_ms, "roi"):
                    located = located or self.roi.locate(frame)
                    box, cut_out = self._at_full_size(located.box, size_wh), _require_part(located)
                    region = scaled_region(cut_out, self.recipe.reduction, self.recipe.reduction)
                with _Timed(timings_ms, "resize"):
                    grid = None if self.recipe.tiling is None else tiling.grid_in(frame, cut_out, self.recipe)
                    picture = images.cut(frame, cut_out, self.recipe.size_wh if grid is None else grid.size_wh)
                with _Timed(timings_ms, "network"):
                    outputs = self._graph(picture) if grid is None else self._judge_windows(picture, grid)
                outputs, doubt = self._second_opinion(outputs, frame, cut_out, timings_ms)
                score = float(outputs["score"][0])
                decided = self._decide(score)
                state, reason = self._guarded(*decided, outputs["feature_vector"][0])
                kind, kind_share = self._kind(state, outputs, strange=state is not decided[0], asked=bool(doubt))
        except Exception as error:  # noqa: BLE001  the edge of judging: whatever went wrong, the answer is a fault
            return replace(_fault(f"not judged: {error}", timings_ms), box=box, region=region)
        return Verdict(
            state=state,
            score=score,
            reason=f"{reason}; the second network was asked because {doubt}" if doubt else reason,
            box=box,
            region=region,
            heatmap=outputs["heatmap"][0],
            shift_xy=self.heat_scale.shift_xy if self.cascade is None or doubt else self.cascade.rule.student_shift_xy,
            feature_vector=outputs["feature_vector"][0],
            kind=kind,
            kind_share=kind_share,
            doubt=doubt,
            windows=1 if grid is None else len(grid.corners),
            timings_ms=timings_ms,
        )

    def _judge_windows(self, picture: Picture, grid: Grid) -> Outputs:
        if self.cascade is not None:
            raise ValueError("a cascade judges whole regions, and this bundle's recipe asks for windows")
        return tiling.judge_windows(self._graph, picture, grid).outputs

    def _at_full_size(self, box: Box | None, size_wh: tuple[int, int]) -> Box | None:
        """A box found on the reduced frame, in pixels of the full-size one and inside it."""
        if box is None or (reduction := self.recipe.reduction) == 1:
            return box
        return box.scaled(reduction, reduction).intersection(Box.whole_of(*size_wh))

    def _second_opinion(
        self, outputs: Outputs, frame: Frame, region: Region, timings_ms: dict[str, float]
    ) -> tuple[Outputs, str]:
        """In a cascade: the answer that counts, and why the teacher was asked where it was."""
        if self.cascade is None:
            return outputs, ""
        if not (doubt := self.cascade.doubt(outputs)):
            return self.cascade.settled(outputs), ""
        with _Timed(timings_ms, "teacher"):
            return self.cascade.ask(frame, region, outputs), doubt

    def _decide(self, score: float) -> tuple[State, str]:
        if not math.isfinite(score):
            raise ValueError(f"the network gave a score of {score}")
        point = self.operating_point
        if point is None:
            return State.REVIEW, "no operating point is certified yet, so a person decides"
        state, reason = _stated(point, score)
        unpromised = without_promise(point)
        return state, f"{reason}; {unpromised}" if unpromised else reason

    def _guarded(self, state: State, reason: str, vector: FeatureVector) -> tuple[State, str]:
        """Turn go and no-go into review for a part unlike everything taught; never the other way round."""
        if self.drift is None or self.drift.guard is None or state is State.REVIEW:
            return state, reason
        guard, distance = self.drift.guard, self.drift.features.distance(vector)
        if not guard.stops(distance):
            return state, reason
        return (
            State.REVIEW,
            f"unlike everything taught (distance {distance:.3f}, ordinary parts stay within {guard.farthest:.3f}): "
            f"a person decides; otherwise {reason}",
        )

    def _kind(
        self, state: State, outputs: Outputs, *, strange: bool, asked: bool
    ) -> tuple[str, float | None] | tuple[None, None]:
        """The likeliest defect kind with its share, where kinds are known; never for a go.

        Args:
            state: The verdict.
            outputs: Of the network whose answer counts.
            strange: It was found unlike everything taught.
            asked: In a cascade: this is the second network's answer.
        """
        rule = self.bundle.manifest.cascade
        known = (rule.teacher if rule is not None and asked else self.bundle.manifest.classifier).defect_kinds
        if known is None or state is State.GO:
            return None, None
        return (UNLIKE, None) if strange else known.name(outputs["kinds"][0])

    def _replay(self, environment: dict[str, str]) -> None:
        """Judge the golden frames; bit-equal where the bundle was proven, within its tolerance elsewhere."""
        manifest = self.bundle.manifest
        exact = environment == dict(manifest.proven_on)
        for file, photograph, expected in self.bundle.golden():
            found = self.inspect(photograph).score
            off = math.inf if found is None else abs(found - expected)
            if off > (0.0 if exact else manifest.score_tolerance):
                raise BundleError(
                    f"{self.path}: {file} must score {expected!r}, found {found!r} "
                    f"({'on the same kind of machine' if exact else f'tolerance {manifest.score_tolerance:g}'}). "
                    f"This device ({environment['device']}) does not reproduce the bundle; certify it here anew."
                )


class _Graphs:
    """The compiled graphs of one bundle on this machine, by the name of their ``.xml``."""

    def __init__(self, opened: Bundle, machine: Settings) -> None:
        self._opened, self._machine = opened, machine
        self._cache = CompiledCache(folder=machine.cache_dir / "compiled", key_file=machine.key_file)
        self._kept: list[str] = []

    def __call__(self, name: str, precision: runtime.Precision | None = None) -> Graph:
        place = runtime.Place(
            name=str(self._opened.root.resolve() / name),
            bundle_sha256=self._opened.sha256,
            sealed=lambda: self._opened.graph(name),
            cache=self._cache,
        )
        graph = runtime.open_graph(
            place,
            device=self._machine.device,
            precision=precision or self._opened.manifest.precision,
            threads=self._machine.threads,
        )
        self._kept += [place.name] * graph.kept
        return graph

    def forget_kept(self) -> bool:
        """Remove the graphs that came from the cache, so that they are compiled anew; whether there were any."""
        for place in self._kept:
            self._cache.discard(place)
        found, self._kept = bool(self._kept), []
        return found


def _fault(reason: object, timings_ms: Mapping[str, float] | None = None) -> Verdict:
    return Verdict(state=State.FAULT, score=None, reason=str(reason), timings_ms=timings_ms or {})


def _stated(point: OperatingPoint, score: float) -> tuple[State, str]:
    """The verdict for a finite score, and why."""
    state = point.state(score)
    if state is State.GO:
        return state, f"score {score:.3f} is below the go threshold {point.go_below:.3f}"
    if state is State.NO_GO:
        return state, f"score {score:.3f} is above the no-go threshold {point.no_go_above:.3f}"
    if not point.escape.holds and not point.go_without_promise:
        missing = point.escape.parts_missing
        return state, f"{missing} more bad parts are needed before any part may pass, so a person decides"
    return state, f"score {score:.3f} is {_beyond(point)}: a person decides"


def _beyond(point: OperatingPoint) -> str:
    if math.isinf(point.no_go_above):
        return f"not below the go threshold {point.go_below:.3f}"
    return f"between the thresholds {point.go_below:.3f} and {point.no_go_above:.3f}"


def _require_part(located: Located) -> Region:
    if not located.present or located.region is None:
        raise UnlocatedError(located.reason or "the search for the part gave no region")
    return located.region


class _Timed:
    """Writes down how long its block took, whatever became of it."""

    def __init__(self, timings_ms: dict[str, float], stage: str) -> None:
        self._timings_ms, self._stage = timings_ms, stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings_ms[self._stage] = (time.perf_counter() - self._started) * 1e3
