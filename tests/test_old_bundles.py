"""Bundles that 0.1.0 wrote are opened, judge as they did, and are certified again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gonogo.bundle import read_bundle
from gonogo.certification import promise_in_force, recertify
from gonogo.inspector import Inspector
from gonogo.manifest import Manifest
from gonogo.operating_point import Promise
from gonogo.schema import State
from tiny_bundle import BAD_RED, GOOD_RED, make_frame, make_parts

OLD = Path(__file__).parent / "data" / "tiny-0.1.0.inspector"
"""A tiny inspector, certified twice; written with the code of 0.1.0."""


def test_a_bundle_of_0_1_0_reproduces_its_golden_scores_and_judges(rng: np.random.Generator) -> None:
    inspector = Inspector.load(OLD)  # replays the golden frames
    assert inspector.inspect(make_frame(GOOD_RED - 40, rng)).state is State.GO
    assert inspector.inspect(make_frame(BAD_RED + 60, rng)).state is State.NO_GO
    assert promise_in_force(inspector.bundle) == Promise(max_escape=0.05, max_overkill=0.05)


@pytest.mark.slow
def test_a_bundle_of_0_1_0_is_certified_again(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "tiny.inspector")
    parts = make_parts(tmp_path / "parts", np.random.default_rng(3))
    made = recertify(Inspector.load(tmp_path / "tiny.inspector"), parts, Promise(max_escape=0.05, max_overkill=0.05))
    assert made.point.escape.holds
    assert len(read_bundle(tmp_path / "tiny.inspector").manifest.revisions) == 1


def test_what_0_1_0_wrote_of_a_quantized_bundle_is_read() -> None:
    counted = {"count": 0, "of": 100, "at_most": 0.03}
    stated = {
        "source_sha256": "0" * 64,
        "arithmetic": "int8",
        "int8_layers": 40,
        "float_layers": 2,
        "nncf": "3.4.0",
        "preset": "mixed",
        "calibration_pictures": 8,
        "splits": ["calibrate", "test"],
        "confidence": 0.95,
        "flips": counted,
        "moves": counted,
        "pointing_pictures": 0,
        "pointing_before": None,
        "pointing_after": None,
        "map_correlation": 0.99,
        "map_correlation_low": 0.98,
    }
    written = json.loads((OLD / "inspector.json").read_text())
    found = Manifest.model_validate_json(json.dumps({**written, "quantisation": stated})).quantization
    assert found is not None
    assert (found.flips.of, found.int8_layers) == (100, 40)
