from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gonogo.demo import OPTIONS, run_demo
from gonogo.errors import InputError
from gonogo.inspector import Inspector
from gonogo.synthetic.close_ups import close_up


@pytest.mark.slow
def test_a_close_up_shows_the_chip_and_masks_its_defect() -> None:
    shots = [close_up(part) for part in range(8)]
    assert {name.split("/")[0] for name, _, _ in shots} == {"good", "bad"}
    assert all((mask is not None) == name.startswith("bad/") for name, _, mask in shots)
    assert shots[3] == close_up(3)


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    quick = replace(OPTIONS, size_wh=(64, 64))
    made = run_demo(tmp_path / "demo", parts=72, options=quick, workers=1)
    assert Inspector.load(made.bundle).operating_point is not None
    assert made.evaluation.parts
    assert "<html" in made.report.read_text()
    assert "<html" in made.qualification.read_text()
    assert any(made.heatmaps.iterdir())
    with pytest.raises(InputError, match="already exists"):
        run_demo(tmp_path / "demo", parts=72, options=quick)
