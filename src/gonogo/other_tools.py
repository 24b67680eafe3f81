"""A bundle's network as files for Model API and DL Streamer.

    chip.xml, chip.bin    OpenVINO IR; outputs ``logits``, ``saliency_map`` and ``feature_vector``
    chip.json             model-proc for DL Streamer's ``gvaclassify``

Model API knows an output by only one of its names, and takes at most five outputs. In the sealed ``classifier.xml`` the
map is named ``heatmap``, and there may be six outputs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.bundle import CLASSIFIER, Bundle
from gonogo.errors import InputError
from gonogo.evidence import describe_classifier
from gonogo.files import folder_beside
from gonogo.model_repository import plain_name
from gonogo.openvino_import import ov
from gonogo.schema import Label

LABELS = (Label.GOOD.value, Label.BAD.value)
"""Names of the two classes, in the order of the logits."""


@dataclass(frozen=True, kw_only=True)
class ClassifierFiles:
    """What was written."""

    model: Path
    model_proc: Path
    precision: str
    """Precision in which the thresholds were certified, for ``INFERENCE_PRECISION_HINT``."""
    one_window: bool
    """Whether the network judges one window of a part, not the part."""


def classifier_model(bundle: Bundle) -> ov.Model:
    """Return the network of a bundle as Model API reads it, see `as_classifier`.

    Raises:
        InputError: the bundle is a cascade, or its network has a second input.
        BundleError: a file of the bundle was changed.
    """
    if bundle.manifest.cascade is not None:
        raise InputError(
            f"{bundle.root}: expected a bundle with one network, found a cascade: another tool would run only the "
            "small one. Export the bundles that it was made from."
        )
    model = ov.Core().read_model(*bundle.graph(CLASSIFIER))
    if len(model.inputs) != 1:
        raise InputError(
            f"{bundle.root}: expected a network with one input, found one that also takes the zone of every cell, "
            "because the bundle judges windows of a part with zones. Judge such parts with gonogo."
        )
    return as_classifier(model)


def as_classifier(model: ov.Model) -> ov.Model:
    """Give the network of a bundle the outputs and the metadata that Model API looks for; changes ``model``.

    Outputs: ``logits`` (1 x 2: minus and plus half the score, so that their softmax is that of 0 and the score),
    ``saliency_map`` (1 x rows x columns, the heat map unscaled; missing where the network has none) and
    ``feature_vector``. Not ``(0, score)``: Model API takes numbers between 0 and 1 that add up to 1 for
    probabilities, which 0 and a score of 1 do.
    """
    from openvino import opset13 as ops

    column = ops.reshape(_source(model, "score"), ops.constant(np.array([1, 1])), False)
    half = ops.multiply(column, ops.constant(np.float32(0.5)))
    outputs = {"logits": ops.concat([ops.negative(half), half], axis=1).output(0)}
    known = {name for output in model.outputs for name in output.names}
    for name, own in (("saliency_map", "heatmap"), ("feature_vector", "feature_vector")):
        if own in known:
            outputs[name] = _source(model, own)
    model.inputs[0].get_tensor().set_names({"frame"})
    for output in model.outputs:
        output.get_node().input_value(0).get_tensor().set_names(set())
    for name, output in outputs.items():
        output.get_tensor().set_names({name})
    reduced = ov.Model([ops.result(output) for output in outputs.values()], model.get_parameters(), "gonogo")
    describe_classifier(reduced, LABELS)
    return reduced


def model_proc() -> dict[str, Any]:
    """Return the model-proc of DL Streamer (schema 2.2.0): resize, RGB, and the likelier of the two labels."""
    return {
        "json_schema_version": "2.2.0",
        "input_preproc": [
            {
                "layer_name": "frame",
                "format": "image",
                "params": {"resize": "no-aspect-ratio", "color_space": "RGB"},
            }
        ],
        "output_postproc": [
            {
                "layer_name": "logits",
                "attribute_name": "inspection",
                "converter": "label",
                "method": "max",
                "labels": list(LABELS),
            }
        ],
    }


def write_classifier(bundle: Bundle, folder: Path, name: str) -> ClassifierFiles:
    """Write the network and the model-proc into a new folder, which appears complete.

    Raises:
        InputError: the name is no plain name, the folder exists, or `classifier_model` refuses the bundle.
        BundleError: a file of the bundle was changed.
    """
    plain = plain_name(name)
    model = classifier_model(bundle)
    with folder_beside(folder) as partial:
        ov.save_model(model, partial / f"{plain}.xml", compress_to_fp16=False)
        (partial / f"{plain}.json").write_text(json.dumps(model_proc(), indent=2) + "\n", encoding="utf-8")
    return ClassifierFiles(
        model=folder / f"{plain}.xml",
        model_proc=folder / f"{plain}.json",
        precision=bundle.manifest.precision,
        one_window=bundle.manifest.recipe.tiling is not None,
    )


def _source(model: ov.Model, name: str) -> ov.Output:
    return model.output(name).get_node().input_value(0)
