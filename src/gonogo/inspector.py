"""The inspector: one picture in, one verdict out. All of gonogo judges pictures through this class."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import replace
from pathlib import Path

from gonogo import bundle, codes, devices, drift, images, roi, rules, runtime, signing, tiling
from gonogo.bundle import Bundle
from gonogo.bundle_graphs import BundleGraphs
from gonogo.cascade import Cascade, Outputs
from gonogo.config import CELL_PX, Recipe, Settings, settings
from gonogo.defect_kinds import UNLIKE
from gonogo.devices import DeviceUse
from gonogo.errors import BundleError, ImageError
from gonogo.heatmap import HeatScale
from gonogo.images import Photograph
from gonogo.images.geometry import relocated, scaled_region
from gonogo.images.health import require_healthy
from gonogo.images.zones import Place
from gonogo.judgement import Timed, UnreproducedError, check_distribution, decide, fault, reproduce, require_part
from gonogo.names import readable
from gonogo.roi import Roi
from gonogo.runtime import Graph, Picture
from gonogo.schema import (
    Box,
    Frame,
    Located,
    OperatingPoint,
    PartIdentity,
    Region,
    State,
    Verdict,
)
from gonogo.signing import Signature, SignaturePolicy
from gonogo.tiling import Grid
from gonogo.zoning import Numbers, Prepared, prepared, worst_zone, zone_numbers, zone_verdicts


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
        self,
        opened: Bundle,
        graph: Graph,
        search: Roi | None = None,
        *,
        cascade: Cascade | None = None,
        device: DeviceUse = DeviceUse(),  # noqa: B008  immutable
    ) -> None:
        self.bundle = opened
        self.device = device
        self.roi = search or roi.WholeRoi()
        self.cascade = cascade
        self.signature: Signature | None = None
        """The bundle's signature, if the policy required one when it was loaded."""
        self._graph = graph
        self.drift = drift.read_sealed_reference(opened)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        machine: Settings | None = None,
        replay: bool = True,
        policy: SignaturePolicy | None = None,
    ) -> Inspector:
        """Open a bundle, compile its graphs and replay its golden frames.

        Graphs compiled at an earlier start are taken from the cache if they are authentic. If they do not reproduce the
        golden scores, they are compiled again from the sealed files and the golden frames are replayed once more.

        Another device than the CPU must be there, compile every graph, and reproduce the golden frames, whatever
        ``replay`` says. If it does not, the inspector runs on the CPU, and `device` and a line on standard error say
        why.

        Args:
            path: The bundle's folder.
            machine: Device, threads and cache; defaults to `gonogo.config.settings`.
            replay: Judge the golden frames and refuse a bundle that does not reproduce their scores.
            policy: Whether the bundle must be signed, and by whom; defaults to the settings of the machine.

        Raises:
            BundleError: The bundle was changed, cannot be compiled, or does not reproduce its golden scores.
            InputError: There is no device of that name.
            SignatureError: The policy requires a signature, and the bundle has none that this machine trusts.
        """
        machine = machine or settings()
        asked = devices.device_name(machine.device)
        opened = bundle.read_bundle(path)
        if opened.manifest.recipe.code_zones:
            codes.require_reader()
        signature = signing.verify_bundle(opened, policy or signing.machine_policy(machine))  # before OpenVINO sees it
        inspector = cls._on_device(asked, opened, machine, replay=replay)
        inspector.signature = signature
        return inspector

    @classmethod
    def _on_device(cls, asked: str, opened: Bundle, machine: Settings, *, replay: bool) -> Inspector:
        """Assemble an inspector on the device that was asked for, or else on the CPU."""
        if asked == devices.CPU:
            return cls._on(DeviceUse(), opened, machine, replay=replay)
        reason = devices.missing(asked) or ("" if opened.manifest.golden else "the bundle has no golden frames")
        if not reason:
            try:
                return cls._on(DeviceUse(asked=asked, used=asked), opened, machine, replay=True)
            except BundleError as error:
                reason = error.short if isinstance(error, UnreproducedError) else str(error)
        inspector = cls._on(DeviceUse(asked=asked, reason=readable(reason)), opened, machine, replay=replay)
        _warn(f"{opened.root}: device {inspector.device}")
        return inspector

    @classmethod
    def _on(cls, use: DeviceUse, opened: Bundle, machine: Settings, *, replay: bool) -> Inspector:
        """Assemble an inspector on a device, and replay its golden frames there."""
        graphs = BundleGraphs(opened, machine.model_copy(update={"device": use.used}))
        inspector = cls._assembled(opened, graphs, use)
        if not replay:
            return inspector
        environment = runtime.runtime_environment(device=use.used, threads=machine.threads)
        try:
            reproduce(inspector.inspect, opened, environment)
        except BundleError:
            if not graphs.discard_cached():
                raise
            inspector = cls._assembled(opened, graphs, use)
            reproduce(inspector.inspect, opened, environment)
        return inspector

    @classmethod
    def of_draft(cls, opened: Bundle) -> Inspector:
        """Create an inspector on the CPU from an unsealed bundle, see `gonogo.bundle.draft`; nothing is replayed."""
        machine = settings().on_cpu()
        return cls._assembled(opened, BundleGraphs(opened, machine), DeviceUse())

    def revised(self, opened: Bundle) -> Inspector:
        """Return an inspector with the same graphs and another manifest."""
        return Inspector(opened, self._graph, self.roi, cascade=self.cascade, device=self.device)

    @classmethod
    def _assembled(cls, opened: Bundle, graphs: BundleGraphs, use: DeviceUse) -> Inspector:
        """Build an inspector from sealed bytes, or from graphs that were compiled from them earlier."""
        search = cascade = None
        if opened.manifest.recipe.roi != "none":
            text = opened.data(bundle.ROI_RECIPE).decode(errors="replace")
            search = roi.open_roi(opened.roi, text=text, compiled=lambda network: graphs(network.name))
        if (rule := opened.manifest.cascade) is not None:
            cascade = Cascade.of(opened, graphs(bundle.TEACHER, rule.precision))
        graph = graphs(bundle.CLASSIFIER)
        if devices.is_group(use.used):
            use = replace(use, chosen=", ".join(graph.devices))
        return cls(opened, graph, search, cascade=cascade, device=use)

    @property
    def path(self) -> Path:
        """Folder of the bundle."""
        return self.bundle.root

    @property
    def bundle_sha256(self) -> str:
        """Identity of the exact bundle."""
        return self.bundle.sha256

    @property
    def recipe(self) -> Recipe:
        """The bundle's recipe."""
        return self.bundle.manifest.recipe

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The thresholds and their evidence; ``None`` if nothing was certified yet."""
        return self.bundle.manifest.operating_point

    @property
    def graph(self) -> Graph:
        """The compiled network, for programs that want scores instead of verdicts; not thread-safe either."""
        return self._graph

    @property
    def heat_scale(self) -> HeatScale:
        """The fixed colour scale of the heat maps."""
        return self.bundle.manifest.heat_scale

    @property
    def has_map(self) -> bool:
        """Whether verdicts have a heat map; a classifier imported from another framework may lack one."""
        return self.bundle.manifest.classifier.pool != "none"

    @property
    def bias(self) -> float:
        """``score = pool(heatmap) + bias``."""
        return self.bundle.manifest.classifier.bias if self.cascade is None else self.cascade.bias

    def inspect(self, picture: Frame | Photograph, *, located: Located | None = None) -> Verdict:
        """Judge one picture.

        Args:
            picture: A raw frame (uint8 RGB, height x width x 3) or a photograph, raw or encoded.
            located: Position of the part, in pixels of the full-size picture, if known; omit to search for it.

        Returns:
            The verdict, with positions in pixels of the full-size picture. This method does not raise: it returns a
            ``fault`` with a reason if the picture cannot be decoded, the part was not found, the judgement could not be
            completed, or the picture is a raw frame and the bundle is certified for encoded pictures only.
        """
        recipe, timings_ms = self.recipe, dict[str, float]()
        try:
            photograph = picture if isinstance(picture, Photograph) else Photograph(picture)
            if photograph.data is not None:
                with Timed(timings_ms, "decode"):
                    photograph.unpacked(recipe)
            frame = photograph.judged(recipe)
            require_healthy(frame, recipe.health)
        except ImageError as error:
            return fault(error, timings_ms)
        except Exception as error:  # noqa: BLE001  the edge of judging: any error becomes a fault
            return fault(f"not judged: {error}", timings_ms)
        if located is not None and recipe.reduction > 1:
            located = relocated(located, 1 / recipe.reduction)
        verdict = self._judge(frame, located, photograph.size_wh, timings_ms)
        if rules.has_rules(recipe):
            with Timed(timings_ms, "rules"):
                scale, point, size_wh = self.heat_scale, self.operating_point, photograph.size_wh
                verdict = rules.apply_or_fault(verdict, frame, recipe, heat_scale=scale, point=point, size_wh=size_wh)
            timings_ms["total"] += timings_ms["rules"]
        if recipe.code_zones and verdict.region is not None and verdict.score is not None:
            with Timed(timings_ms, "codes"):
                verdict = codes.identified(verdict, photograph, recipe.code_zones)
            timings_ms["total"] += timings_ms["codes"]
        timings_ms["total"] += timings_ms.get("decode", 0.0)
        return verdict

    def identify(self, photograph: Photograph) -> PartIdentity | None:
        """Read the codes on a part without judging it; ``None`` if the recipe has no code zone, or no part is found."""
        recipe = self.recipe
        if not recipe.code_zones:
            return None
        try:
            found = relocated(self.roi.locate(photograph.judged(recipe)), recipe.reduction)
            return codes.read_identity(photograph.frame, Place.of(found), recipe.code_zones)[0]
        except ImageError:
            return None

    def inspect_encoded(self, data: bytes, *, name: str = "picture") -> Verdict:
        """Judge one encoded picture, such as the bytes of a file or of a camera that sends JPEG.

        If the recipe reduces pictures in the decoder, a JPEG is never decoded at its full size.

        Args:
            data: A whole JPEG, PNG, BMP, TIFF or WebP file.
            name: Name of the picture in the reason of a fault.

        Returns:
            See `inspect`.
        """
        return self.inspect(Photograph(data, name=name))

    def inspect_file(self, path: str | os.PathLike[str]) -> tuple[Photograph | None, Verdict]:
        """Read and judge one file; a file that cannot be read or decoded gives a ``fault`` with the reason.

        Returns:
            The photograph (``None`` if it could not be decoded) and the verdict. The photograph's ``frame`` is decoded
            at its full size on first access.
        """
        try:
            data = images.read_bytes(path, limits=self.recipe.limits)
        except ImageError as error:
            return None, fault(error)
        photograph = Photograph(data, name=str(path), limits=self.recipe.limits)
        verdict = self.inspect(photograph)
        return photograph if photograph.readable else None, verdict

    def _judge(
        self, frame: Frame, located: Located | None, size_wh: tuple[int, int], timings_ms: dict[str, float]
    ) -> Verdict:
        """Judge a frame that was reduced according to the recipe; the verdict uses full-size pixels.

        Args:
            frame: The reduced frame.
            located: Position of the part in that frame, if known.
            size_wh: Width and height at full size.
            timings_ms: Durations of the preceding stages.
        """
        box: Box | None = None
        region: Region | None = None
        try:
            with Timed(timings_ms, "total"):
                with Timed(timings_ms, "roi"):
                    located = located or self.roi.locate(frame)
                    box, cut_out = self._at_full_size(located.box, size_wh), require_part(located)
                with Timed(timings_ms, "resize"):
                    place = Place(region=cut_out, margin=located.margin)
                    ready = prepared(frame, place, self.recipe.zones)
                    region = scaled_region(ready.region, self.recipe.reduction, self.recipe.reduction)
                    grid = (
                        None if self.recipe.tiling is None else tiling.grid_in(ready.frame, ready.region, self.recipe)
                    )
                    seen_wh = self.recipe.size_wh if grid is None else grid.size_wh
                    picture = images.cut(ready.frame, ready.region, seen_wh)
                with Timed(timings_ms, "network"):
                    outputs = self._graph(picture) if grid is None else self._judge_windows(picture, grid, place.margin)
                outputs, doubt = self._second_opinion(outputs, ready, timings_ms)
                score = float(outputs["score"][0])
                zones = zone_verdicts(self.recipe.zones, outputs, self.operating_point)
                decided = decide(self.operating_point, score, zones)
                state, reason = check_distribution(self.drift, *decided, outputs["feature_vector"][0])
                kind, kind_share = self._kind(state, outputs, strange=state is not decided[0], asked=bool(doubt))
        except Exception as error:  # noqa: BLE001  the edge of judging: any error becomes a fault
            return replace(fault(f"not judged: {error}", timings_ms), box=box, region=region)
        return Verdict(
            state=state,
            score=score,
            reason=f"{reason}; the second network was asked because {doubt}" if doubt else reason,
            box=box,
            region=region,
            margin=place.margin,
            zones=zones,
            zone=worst_zone(zones),
            zone_numbers=self._numbers(seen_wh, place.margin, outputs, asked=bool(doubt)),
            heatmap=outputs["heatmap"][0] if "heatmap" in outputs else None,
            shift_xy=self._shift_xy(asked=bool(doubt)),
            feature_vector=outputs["feature_vector"][0],
            kind=kind,
            kind_share=kind_share,
            doubt=doubt,
            out_of_distribution=state is not decided[0],
            windows=1 if grid is None else len(grid.corners),
            timings_ms=timings_ms,
        )

    def _judge_windows(self, picture: Picture, grid: Grid, margin: float) -> Outputs:
        if self.cascade is not None:
            raise ValueError("a cascade judges whole regions, but this bundle's recipe has tiling")
        return tiling.judge_windows(self._graph, picture, grid, self.window_zones(grid, margin)).outputs

    def window_zones(self, grid: Grid, margin: float) -> Numbers | None:
        """Zone of every cell of a region that is judged in windows; ``None`` if the recipe has no zones.

        Args:
            grid: The windows.
            margin: Margin of the region.
        """
        width, height = grid.size_wh
        shape = (height // CELL_PX, width // CELL_PX)
        return zone_numbers(self.recipe.zones, margin, grid.size_wh, shape, self.heat_scale.shift_xy)

    def _numbers(self, seen_wh: tuple[int, int], margin: float, outputs: Outputs, *, asked: bool) -> Numbers | None:
        """Zone of every cell of the heat map."""
        if "heatmap" not in outputs or self.bundle.manifest.classifier.imported is not None:
            return None  # an imported network pools what is blanked, too
        rows, columns = outputs["heatmap"].shape[1:]
        seen_wh = self.cascade.rule.size_wh if self.cascade is not None and asked else seen_wh
        return zone_numbers(self.recipe.zones, margin, seen_wh, (rows, columns), self._shift_xy(asked=asked))

    def _shift_xy(self, *, asked: bool) -> tuple[float, float]:
        """Offset of the cells of the network that decided; in a cascade the second one if it was asked."""
        return self.heat_scale.shift_xy if self.cascade is None or asked else self.cascade.rule.student_shift_xy

    def _at_full_size(self, box: Box | None, size_wh: tuple[int, int]) -> Box | None:
        """Convert a box on the reduced frame to full-size pixels, clipped to the picture."""
        if box is None or (reduction := self.recipe.reduction) == 1:
            return box
        return box.scaled(reduction, reduction).intersection(Box.whole_of(*size_wh))

    def _second_opinion(self, outputs: Outputs, ready: Prepared, timings_ms: dict[str, float]) -> tuple[Outputs, str]:
        """In a cascade, return the final outputs, and the reason to ask the teacher if it was asked."""
        if self.cascade is None:
            return outputs, ""
        if not (doubt := self.cascade.doubt(outputs)):
            return self.cascade.in_teacher_unit(outputs), ""
        with Timed(timings_ms, "teacher"):
            return self.cascade.ask(ready, outputs), doubt

    def _kind(
        self, state: State, outputs: Outputs, *, strange: bool, asked: bool
    ) -> tuple[str, float | None] | tuple[None, None]:
        """Return the likeliest defect kind and its share, if the bundle knows kinds; never for a go.

        Args:
            state: The verdict.
            outputs: Outputs of the network that decided.
            strange: Whether the part is out of distribution.
            asked: Whether, in a cascade, the second network decided.
        """
        rule = self.bundle.manifest.cascade
        known = (rule.teacher if rule is not None and asked else self.bundle.manifest.classifier).defect_kinds
        if known is None or state is State.GO:
            return None, None
        return (UNLIKE, None) if strange else known.name(outputs["kinds"][0])


@functools.cache
def _warn(text: str) -> None:
    """Print a warning on standard error, once in each process."""
    print(f"warning: {text}", file=sys.stderr, flush=True)  # noqa: T201
