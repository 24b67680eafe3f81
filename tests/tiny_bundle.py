"""A real bundle without training: a graph whose score is the mean red of the picture, and parts to match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op

from gonogo import bundle, runtime
from gonogo.bundle import Bundle
from gonogo.config import Recipe
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.heatmap import HeatScale
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier, Golden, Manifest
from gonogo.schema import Frame, Label

SIDE = 32
GOOD_RED, BAD_RED, SPREAD = 60.0, 120.0, 28.0


def graph() -> ov.Model:
    """Score: mean red. Map: red in a 4 x 4 grid. Features: every colour in a 4 x 4 grid."""
    picture = op.parameter([1, SIDE, SIDE, 3], np.uint8, name="picture")
    planes = op.transpose(op.convert(picture, "f32"), op.constant(np.array([0, 3, 1, 2])))
    grid = op.avg_pool(planes, [8, 8], [0, 0], [0, 0], [8, 8], exclude_pad=True)
    red = op.slice(grid, np.array([0]), np.array([1]), np.array([1]), np.array([1]))
    heat = op.reshape(red, np.array([1, 4, 4]), special_zero=False)
    score = op.reduce_mean(heat, np.array([1, 2]))
    features = op.reshape(grid, np.array([1, 48]), special_zero=False)
    for node, name in ((score, "score"), (heat, "heatmap"), (features, "feature_vector")):
        node.output(0).get_tensor().set_names({name})
    return ov.Model([score, heat, features], [picture], "red")


def make_frame(red: float, rng: np.random.Generator, *, light: float = 1.0) -> Frame:
    """A part of which the gauge sees the red; its texture tells nothing."""
    frame = rng.uniform(60, 140, (SIDE, SIDE, 3))
    frame[..., 0] = red + rng.uniform(-30, 30, (SIDE, SIDE))
    return np.clip(frame * light, 0, 255).astype(np.uint8)


def make_parts(root: Path, rng: np.random.Generator, *, kinds: tuple[str, ...] = ("crack", "hole")) -> Dataset:
    """Good and bad parts: 30 to train, 60 to choose, 200 to certify, 60 to test; half of each bad, four lots."""
    samples = []
    (root / "images").mkdir(parents=True)
    for split, count in ((Split.TRAIN, 30), (Split.VAL, 60), (Split.CALIBRATE, 200), (Split.TEST, 60)):
        for number in range(count):
            bad = number % 2 == 1
            name = f"images/{split}-{number:03d}.png"
            frame = make_frame(rng.normal(BAD_RED if bad else GOOD_RED, SPREAD), rng)
            (root / name).write_bytes(encode_png(frame))
            samples.append(
                Sample(
                    file_name=name,
                    label=Label.BAD if bad else Label.GOOD,
                    defect=kinds[number // 2 % len(kinds)] if bad else None,
                    part=f"{split}-{number}",
                    lot=f"{split}-{number // 20}",
                    split=split,
                )
            )
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset


def make_bundle(
    root: Path,
    dataset: Dataset,
    model: ov.Model | None = None,
    *,
    recipe: Recipe | None = None,
    cameras: tuple[str, ...] = (),
) -> Bundle:
    """Sealed, with one golden frame and no operating point."""
    root.mkdir(parents=True)
    ov.save_model(model or graph(), root / bundle.CLASSIFIER, compress_to_fp16=False)
    draft = Manifest(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        gonogo_version="0",
        recipe=recipe or Recipe(size_wh=(SIDE, SIDE)),
        classifier=Classifier(backbone="red", cuts=("grid",), pool="mean", sharpness=1.0, bias=0.0, weights="none"),
        proven_on=runtime.runtime_environment(),
        heat_scale=HeatScale(cold=GOOD_RED, hot=BAD_RED),
        cameras=cameras,
        data_fingerprint=fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL)),
    )
    (root / bundle.GOLDEN).mkdir()
    first = dataset.samples[0]
    data = encode_png(dataset.load(first)) if dataset.depth is None else dataset.path(first).read_bytes()
    (root / bundle.GOLDEN / "good.png").write_bytes(data)
    judge = Inspector(bundle.write_manifest(root, draft), runtime.compile_graph(root / bundle.CLASSIFIER))
    score = judge.inspect_encoded(data).score
    assert score is not None
    return bundle.write_manifest(
        root, draft.model_copy(update={"golden": (Golden(file="golden/good.png", score=score),)})
    )
