"""A bundle without training, for tests: its score is the mean red value of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op

from gonogo import bundle, runtime
from gonogo.bundle import Bundle
from gonogo.config import Recipe
from gonogo.heatmap import HeatScale
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier, Golden, Manifest
from gonogo.schema import Claim, OperatingPoint
from gonogo.testing.model import fake_frame

GO_BELOW, NO_GO_ABOVE = -20.0, 20.0
_GREY = 128.0
_SIDE = 64


def write_fake_bundle(root: Path, *, name: str = "fake") -> Bundle:
    """Write and seal a bundle that judges pictures with little red as go, and with much red as no-go.

    It loads, replays its golden frame and judges like any other bundle, in a hundredth of the time. Its certified rates
    are invented.

    Args:
        root: Folder to create.
        name: Name of the bundle; another name gives another SHA-256.
    """
    root.mkdir(parents=True)
    ov.save_model(_graph(), root / bundle.CLASSIFIER, compress_to_fp16=False)
    escape, overkill = (
        Claim(error=error, max_rate=0.01, confidence=0.95, parts=299, allowed=0, parts_missing=0, best_rate=0.01)
        for error in ("escape", "overkill")
    )
    draft = Manifest(
        name=name,
        created="2026-01-01T00:00:00+00:00",
        gonogo_version="0",
        recipe=Recipe(size_wh=(_SIDE, _SIDE)),
        classifier=Classifier(backbone="red", cuts=("grid",), pool="mean", sharpness=1.0, bias=-_GREY, weights="none"),
        proven_on=runtime.runtime_environment(),
        heat_scale=HeatScale(cold=_GREY, hot=2 * _GREY),
        operating_point=OperatingPoint(go_below=GO_BELOW, no_go_above=NO_GO_ABOVE, escape=escape, overkill=overkill),
    )
    (root / bundle.GOLDEN).mkdir()
    frame = fake_frame(7)
    (root / bundle.GOLDEN / "good.png").write_bytes(encode_png(frame))
    judge = Inspector(bundle.write_manifest(root, draft), runtime.compile_graph(root / bundle.CLASSIFIER))
    score = judge.inspect(frame).score
    assert score is not None, "the golden frame can be judged"
    golden = Golden(file="golden/good.png", score=score)
    return bundle.write_manifest(root, draft.model_copy(update={"golden": (golden,)}))


def _graph() -> ov.Model:
    """Build the graph. Score: mean red minus 128. Heat map: red on an 8 x 8 grid. Features: all colours on the grid."""
    picture = op.parameter([1, _SIDE, _SIDE, 3], np.uint8, name="picture")
    planes = op.transpose(op.convert(picture, "f32"), op.constant(np.array([0, 3, 1, 2])))
    grid = op.avg_pool(planes, [8, 8], [0, 0], [0, 0], [8, 8], exclude_pad=True)
    red = op.slice(grid, np.array([0]), np.array([1]), np.array([1]), np.array([1]))
    heat = op.reshape(red, np.array([1, 8, 8]), special_zero=False)
    score = op.subtract(op.reduce_mean(heat, np.array([1, 2])), op.constant(np.float32(_GREY)))
    features = op.reshape(grid, np.array([1, 192]), special_zero=False)
    for node, output in ((score, "score"), (heat, "heatmap"), (features, "feature_vector")):
        node.output(0).get_tensor().set_names({output})
    return ov.Model([score, heat, features], [picture], "red")
