"""What an inspector sees: its feature maps, the map of each kind of evidence, and the heat map, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo import images, runtime, tiling
from gonogo.errors import UnfitError
from gonogo.evidence import pool
from gonogo.images.geometry import scaled_region
from gonogo.inspector import Inspector
from gonogo.look.seen import PlaceMap, Seen, Stage
from gonogo.schema import Frame, Verdict

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
    frame = photograph.judged(recipe)
    region = scaled_region(verdict.region, 1 / recipe.reduction, 1 / recipe.reduction)
    graph = runtime.compile_graph(_with_stages(inspector), precision=inspector.bundle.manifest.precision)
    notes = [
        f"The score is what the heat map is pooled to, plus the bias {inspector.bundle.manifest.classifier.bias:+.2f}."
    ]
    if recipe.tiling is None:
        picture = images.cut(frame, region, recipe.size_wh)
    else:
        grid = tiling.grid_in(frame, region, recipe)
        whole = images.cut(frame, region, grid.size_wh)
        windows = [np.ascontiguousarray(each) for each in tiling.cut_windows(whole, grid)]
        picture = max(windows, key=lambda window: float(graph(window)["score"][0]))
        notes.append(f"Shown is the worst of {len(windows)} windows.")
    if inspector.cascade is not None:
        notes.append("Shown is the first network of this cascade.")
    outputs = graph(picture)
    return Seen(
        network=bundle.name,
        weights=f"bundle {inspector.bundle_sha256[:16]}",
        picture=picture,
        answer=_answer(verdict),
        stages=tuple(_stages(outputs, picture)),
        places=tuple(_places(inspector, outputs)),
        notes=tuple(notes),
    )


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


def _places(inspector: Inspector, outputs: dict[str, np.ndarray]) -> Iterator[PlaceMap]:
    stated, scale = inspector.bundle.manifest.classifier, inspector.heat_scale
    rule = inspector.bundle.manifest.cascade
    shift_xy = scale.shift_xy if rule is None else rule.student_shift_xy
    weights = {each.kind: each.weight for each in stated.evidence}
    for kind, cells in zip(weights, outputs["evidence"][0] if weights else (), strict=True):
        adds = pool(kind, cells, weights.get("cells", 0.0))
        yield PlaceMap(title=f"{kind}: adds {adds:+.2f}", cells=cells, value=adds, shift_xy=shift_xy)
    score = float(outputs["score"][0])
    yield PlaceMap(
        title=f"heat map: {score - stated.bias:+.2f}",
        cells=outputs["heatmap"][0],
        value=score - stated.bias,
        scale=scale if rule is None else None,
        shift_xy=shift_xy,
    )
