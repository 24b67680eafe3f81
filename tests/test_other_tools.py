"""The network of a bundle as Model API and DL Streamer read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from torch import nn
from typer.testing import CliRunner

from gonogo import bundle, runtime
from gonogo.cli import app
from gonogo.errors import InputError
from gonogo.evidence import classifier_graph, fit_defect_kinds, fit_evidence, out_of_fold
from gonogo.export import export_classifier
from gonogo.imported import Declaration, classifier_of, imported_net
from gonogo.manifest import CascadeRule
from gonogo.other_tools import as_classifier, classifier_model, model_proc, write_classifier
from gonogo.testing import write_fake_bundle
from tests.test_evidence import features_as_input
from tests.test_import_model import HEADS, STATED, backbone, opened
from tests.test_kinds import kinds_table
from tests.test_train import SIZE_WH, small_network

MOST_OUTPUTS = 5
"""Model API's classifier refuses a network with more."""


def imported(head: str) -> ov.Model:
    module = nn.Sequential(*backbone(), *HEADS[head]())
    net = imported_net(opened(module), Declaration(**STATED, bad_class=(1,), head="softmax"))
    return classifier_of(net, None)


def evidence(*, kinds: bool, rng: np.random.Generator) -> ov.Model:
    table = kinds_table(rng)
    weighted = fit_evidence(table, out_of_fold(table, seed=0), seed=0)
    if kinds:
        weighted = replace(weighted, defect_kinds=fit_defect_kinds(table, seed=0))
    return classifier_graph(features_as_input(), weighted, labels=("good", "bad"))


def require_classifier(model: ov.Model, folder: Path, rng: np.random.Generator) -> None:
    """Compare a saved network with its form for other tools on random input."""
    ov.save_model(model, folder / "classifier.xml", compress_to_fp16=False)
    plain, sealed = (ov.Core().read_model(folder / "classifier.xml") for _ in range(2))
    found = as_classifier(sealed)
    has_map = "heatmap" in {name for output in plain.outputs for name in output.names}
    names = [output.get_any_name() for output in found.outputs]
    assert names == ["logits", *(["saliency_map"] if has_map else []), "feature_vector"]
    assert len(names) <= MOST_OUTPUTS
    assert {each: found.get_rt_info(["model_info", each]).astype(str) for each in ("model_type", "labels")} == {
        "model_type": "Classification",
        "labels": "good bad",
    }
    assert found.get_rt_info(["model_info", "reverse_input_channels"]).astype(str) == "True"
    assert found.get_rt_info(["model_info", "interpolation_mode"]).astype(str) == "LINEAR"
    before, after = runtime.compile_graph(plain), runtime.compile_graph(found)
    for _ in range(3):
        picture = rng.integers(0, 256, before.input_shape[1:]).astype(np.uint8)
        expected, got = before(picture), after(picture)
        logits = got["logits"].astype(np.float64)
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        score = float(expected["score"][0])
        assert shares[0, 1] == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-6)
        assert (logits.argmax() == 1) == (score > 0)
        np.testing.assert_allclose(got["feature_vector"], expected["feature_vector"], atol=1e-5)
        if has_map:
            np.testing.assert_allclose(got["saliency_map"], expected["heatmap"], atol=1e-4)


@pytest.mark.slow
def test_a_fine_tuned_network_becomes_a_classifier(tmp_path: Path, rng: np.random.Generator) -> None:
    require_classifier(export_classifier(small_network(), SIZE_WH, labels=("good", "bad")), tmp_path, rng)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [False, True])
def test_an_evidence_network_becomes_a_classifier(kinds: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    require_classifier(evidence(kinds=kinds, rng=rng), tmp_path, rng)


def test_a_bundle_without_metadata_becomes_a_classifier(tmp_path: Path, rng: np.random.Generator) -> None:
    made = write_fake_bundle(tmp_path / "old.inspector")
    require_classifier(ov.Core().read_model(*made.graph(bundle.CLASSIFIER)), tmp_path, rng)


@pytest.mark.parametrize("head", ["mean", "softmax"])
def test_an_imported_network_becomes_a_classifier(head: str, tmp_path: Path, rng: np.random.Generator) -> None:
    require_classifier(imported(head), tmp_path, rng)


@pytest.mark.slow
def test_the_command_writes_model_and_model_proc_once(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "chip.inspector")
    words = ["bundle", "export", f"{tmp_path}/chip.inspector", "--out", f"{tmp_path}/out", "--form", "classifier"]
    ran = CliRunner().invoke(app, [*words, "--json"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.output)
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["chip.bin", "chip.json", "chip.xml"]
    assert (told["precision"], told["one_window"]) == ("f32", False)
    graph = runtime.compile_graph(Path(told["model"]))
    assert set(graph(np.zeros(graph.input_shape[1:], np.uint8))) == {"logits", "saliency_map", "feature_vector"}
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, InputError)
    assert "already exists" in str(again.exception)


def test_the_model_proc_names_layers_and_labels_of_the_model(tmp_path: Path) -> None:
    model = classifier_model(write_fake_bundle(tmp_path / "chip.inspector"))
    proc = model_proc()
    assert set(proc) == {"json_schema_version", "input_preproc", "output_postproc"}
    assert proc["json_schema_version"] == "2.2.0"
    (before,), (after,) = proc["input_preproc"], proc["output_postproc"]
    assert before["layer_name"] in model.inputs[0].names
    assert before["params"] == {"resize": "no-aspect-ratio", "color_space": "RGB"}
    assert after["layer_name"] in model.outputs[0].names
    assert (after["converter"], after["method"]) == ("label", "max")
    assert " ".join(after["labels"]) == model.get_rt_info(["model_info", "labels"]).astype(str)


def test_a_cascade_and_an_odd_name_are_refused(tmp_path: Path) -> None:
    made = write_fake_bundle(tmp_path / "chip.inspector")
    with pytest.raises(InputError, match="plain name"):
        write_classifier(made, tmp_path / "out", "a/b")
    teacher, size_wh = made.manifest.classifier, made.manifest.recipe.size_wh
    band = {"ask_from": -1.0, "ask_to": 1.0, "good_shift": 0.0, "bad_shift": 0.0}
    rule = CascadeRule(student_sha256="0" * 64, teacher=teacher, size_wh=size_wh, **band)
    cascade = bundle.draft(made.root, made.manifest.model_copy(update={"cascade": rule}))
    with pytest.raises(InputError, match="found a cascade"):
        write_classifier(cascade, tmp_path / "out", "chip")
    assert not (tmp_path / "out").exists()
