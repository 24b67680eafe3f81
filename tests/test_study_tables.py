"""The tables and figures of the studies of losses and of frameworks; the studies themselves take minutes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import study_frameworks
import study_losses
from command_kit import run_here
from gonogo.images import encode_png, load_picture
from gonogo.model import LocatorHead
from gonogo.train import BoxLoss, Locating, Places, fit_locator, fit_scaling
from loss_plot import plot_losses
from study_losses import Epoch


def curves(epochs: int = 3) -> dict[str, list[list[Epoch]]]:
    def run(rate: float) -> list[Epoch]:
        return [
            Epoch(loss=rate**step, iou=1 - rate**step, missed_of_picture=0.1 * rate**step) for step in range(epochs)
        ]

    return {"squared": [run(0.9), run(0.8)], "area": [run(0.5), run(0.4)]}


def test_the_figure_of_the_losses_has_a_thick_line_for_the_mean_and_a_thin_one_for_each_seed() -> None:
    drawn = ET.fromstring(plot_losses(curves()))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3 * 2 * (1 + 2)
    assert ET.fromstring(plot_losses(curves(epochs=1))) is not None


def test_the_table_of_the_losses_stands_beside_the_articles() -> None:
    table = study_losses.as_markdown(curves())
    assert "| squared | 3 | 0.275 ± 0.120 | 7.3e-02 |" in table
    assert "| the article, area | 20 | 0.858 |" in table


def test_the_table_of_frameworks_leaves_a_cell_empty_and_says_why() -> None:
    table = study_frameworks.as_markdown(
        {
            "resnet50": {
                "torch eager": {"median_ms": 40.0, "times_as_fast": 1.0},
                "OpenVINO, BF16": {"why_not": "this processor has no BF16"},
            }
        }
    )
    assert table.splitlines() == [
        "| | resnet50 |",
        "|---|---|",
        "| torch eager | 40.0 ms, 1.0 |",
        "| OpenVINO, BF16 |  |",
        "",
        "OpenVINO, BF16: this processor has no BF16",
    ]


def test_every_step_of_a_training_can_be_followed() -> None:
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([0.2, 0.2, 0.7, 0.7], np.float32), (8, 1))
    maps = rng.normal(size=(8, 4, 8, 8)).astype(np.float16)
    places = Places(maps=maps, boxes=boxes, corners=np.full((8, 8), np.nan, np.float32))
    schedule = Locating(head=LocatorHead.REGRESSION, loss=BoxLoss.SQUARED, steps=3)
    seen: list[tuple[int, float]] = []
    fit_locator(
        places, fit_scaling(places), schedule, seed=0, after_step=lambda step, _, loss: seen.append((step, loss))
    )
    assert [step for step, _ in seen] == [1, 2, 3]
    assert all(np.isfinite(loss) for _, loss in seen)


def test_the_morphology_sheet_shows_five_operations_on_the_picture_and_on_its_mask(tmp_path: Path) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "sheet.png"
    frame = np.full((60, 80, 3), 200, np.uint8)
    frame[20:40, 30:60] = 20
    photo.write_bytes(encode_png(frame))
    ended = run_here(["roi", "morphology", str(photo), "--out", str(out), "--size", "5"])
    assert ended.code == 0, ended.err
    width_of_three, four_rows = 3 * 374 + 14, 4 * (270 + 44) + 14
    assert load_picture(out).shape == (four_rows, width_of_three, 3)


@pytest.mark.parametrize(("option", "value"), [("--size", "4"), ("--size", "1"), ("--out", "sheet.gif")])
def test_an_even_kernel_or_another_kind_of_picture_is_refused(tmp_path: Path, option: str, value: str) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode_png(np.zeros((40, 40, 3), np.uint8)))
    given = {"--out": str(tmp_path / "sheet.png"), option: value}
    words = [word for pair in given.items() for word in pair]
    assert run_here(["roi", "morphology", str(photo), *words]).code == 2
