"""What an inspector sees: its feature maps, the map of each kind of evidence, and the heat map, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo import images, runtime, tiling
from gonogo.errors import UnfitError
from gonogo.evidence import pool
from gonogo.images.zones import Place
from gonogo.inspector import Inspector
from gonogo.look.seen import PlaceMap, Seen, Stage
from gonogo.manifest import ZoneBias
from gonogo.schema import Frame, Mask, Verdict
from gonogo.zoning import LEFT_OUT, Numbers, prepared

_STAGE = "stage_"


def look_with_bundle(bundle: Path, photo: Path) -> Seen:
    """Show what an inspector sees in a photograph: the region that it judges, or the worst window of a tiled one.

    Raises:
        BundleError: The bundle cannot be opened.
        UnfitError: The photograph could not be judged.
    """
    inspector = Inspector.load(bundle)
    photograph, verdict = inspector.inspect_file(photo)
    if photograph is None or verdict.region is None or verdict.score is None:
        raise UnfitError(f"{photo}: could not be judged ({verdict.reason}). Choose another photograph.")
    recipe = inspector.recipe
    place = Place(region=verdict.region, margin=verdict.margin).scaled(1 / recipe.reduction)
    ready = prepared(photograph.judged(recipe), place, recipe.zones)
    graph = runtime.compile_graph(_with_stages(inspector), precision=inspector.bundle.manifest.precision)
    notes = []
    if recipe.tiling is None:
        picture = images.cut(ready.frame, ready.region, recipe.size_wh)
        cells, numbers = None, verdict.zone_numbers
    else:
        grid = tiling.grid_in(ready.frame, ready.region, recipe)
        whole = images.cut(ready.frame, ready.region, grid.size_wh)
        numbers = inspector.window_zones(grid, place.margin)
        worst = tiling.judge_windows(graph, whole, grid, numbers).worst
        picture = np.ascontiguousarray([*tiling.cut_windows(whole, grid)][worst])
        numbers = cells = None if numbers is None else np.ascontiguousarray(numbers[grid.cells(worst)])
        notes.append(f"Shown is the worst of {len(grid.corners)} windows.")
    if inspector.cascade is not None:
        notes.append("Shown is the first network of this cascade.")
    outputs = graph(picture, cells)
    pooled = _Pooled.of(inspector, outputs, numbers)
    return Seen(
        network=bundle.name,
        weights=f"bundle {inspector.bundle_sha256[:16]}",
        picture=picture,
        answer=_answer(verdict),
        stages=tuple(_stages(outputs, picture)),
        places=tuple(_places(inspector, outputs, pooled)),
        notes=(pooled.note, *notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Pooled:
    """What the score of a picture is pooled from."""

    zone: ZoneBias | None
    """The zone that decides; ``None`` without inspect zones."""
    own: Mask | None
    """Its cells, or all that are not left out; ``None`` for all."""
    bias: float

    @classmethod
    def of(cls, inspector: Inspector, outputs: dict[str, np.ndarray], numbers: Numbers | None) -> _Pooled:
        """Find the zone that decides for the first network."""
        stated = inspector.bundle.manifest.classifier
        if not stated.zones:
            return cls(zone=None, own=None if numbers is None else numbers != LEFT_OUT, bias=stated.bias)
        worst = int(outputs["zones"][0].argmax())
        assert numbers is not None, "a recipe with zones numbers all cells"
        return cls(zone=stated.zones[worst], own=numbers == worst + 1, bias=stated.zones[worst].bias)

    @property
    def note(self) -> str:
        """What the score is, in one sentence."""
        cells = "the heat map is" if self.zone is None else f"the cells of zone {self.zone.name} are"
        return f"The score is what {cells} pooled to, plus the bias {self.bias:+.2f}."


def _answer(verdict: Verdict) -> str:
    return f"{verdict.state.value.replace('_', '-')}, score {verdict.score:+.2f}"


def _with_stages(inspector: Inspector) -> ov.Model:
    """The sealed graph with outputs for the maps that its feature vector is pooled from."""
    opened = inspector.bundle
    name = opened.classifier.relative_to(opened.root)
    model = ov.Core().read_model(opened.data(str(name)), opened.data(str(name.with_suffix(".bin"))))
    vector = model.output("feature_vector").get_node().input_value(0)
    for number, output in enumerate(dict.fromkeys(_maps_before(vector)), start=1):
        output.get_tensor().set_names({f"{_STAGE}{number}"})
        model.add_results([ops.result(output)])
    return model


def _maps_before(value: ov.Output) -> Iterator[ov.Output]:
    """The maps (1 x channels x rows x columns) that a pooled value is computed from, in their order."""
    shape = value.partial_shape
    if shape.rank.get_length() == 4 and int(shape[2].get_length()) * int(shape[3].get_length()) > 1:
        yield value
        return
    for source in value.get_node().input_values():
        if source.get_node().get_type_name() != "Constant":
            yield from _maps_before(source)


def _stages(outputs: dict[str, np.ndarray], picture: Frame) -> Iterator[Stage]:
    names = sorted(name for name in outputs if name.startswith(_STAGE))
    for number, name in enumerate(names, start=1):
        maps = outputs[name][0]
        yield Stage(name=f"feature map {number}", stride=round(picture.shape[0] / maps.shape[1]), maps=maps)


def _places(inspector: Inspector, outputs: dict[str, np.ndarray], pooled: _Pooled) -> Iterator[PlaceMap]:
    stated, scale = inspector.bundle.manifest.classifier, inspector.heat_scale
    rule = inspector.bundle.manifest.cascade
    shift_xy = scale.shift_xy if rule is None else rule.student_shift_xy
    weights = {each.kind: each.weight for each in stated.evidence}
    for kind, cells in zip(weights, outputs["evidence"][0] if weights else (), strict=True):
        counted = cells if pooled.own is None else cells[pooled.own]
        factor = 1.0 if pooled.zone is None else pooled.zone.factor
        adds = pool(kind, counted, factor * weights.get("cells", 0.0))
        yield PlaceMap(title=f"{kind}: adds {adds:+.2f}", cells=cells, value=adds, shift_xy=shift_xy)
    score = float(outputs["score"][0])
    yield PlaceMap(
        title=f"heat map: {score - pooled.bias:+.2f}",
        cells=outputs["heatmap"][0],
        value=score - pooled.bias,
        scale=scale if rule is None else None,
        shift_xy=shift_xy,
    )
