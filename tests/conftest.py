"""What every test may use: small seeded pictures and data sets, one trained bundle, and where the real data lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import hypothesis
import jaxtyping
import numpy as np
import pytest

# Shapes and dtypes of arrays are checked at every call of these rooms; before gonogo is imported.
os.environ["GONOGO_CHECK_ARRAYS"] = "1"
CHECKED = ("drift", "evidence", "heatmap", "images.geometry", "images.regions", "operating_point", "source")
jaxtyping.install_import_hook([f"gonogo.{room}" for room in CHECKED], "array_checks.checked")

from gonogo import images
from gonogo.dataset import Dataset
from gonogo.schema import Frame
from gonogo.testing import postgres as servers

# Busy machines are slow, not wrong; and a test that passes today passes tomorrow.
hypothesis.settings.register_profile("shared", deadline=None, derandomize=True)
hypothesis.settings.load_profile("shared")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20180917)


@pytest.fixture
def frame(rng: np.random.Generator) -> Frame:
    """A picture with structure at several scales, 120 high and 160 wide."""
    coarse = rng.integers(0, 256, (6, 8, 3))
    return np.kron(coarse, np.ones((20, 20, 1), dtype=int)).astype(np.uint8)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled graphs and features of a test run stay out of the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GONOGO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("GONOGO_KEY_FILE", str(tmp_path_factory.mktemp("key") / "cache.key"))


@pytest.fixture(scope="session", autouse=True)
def printed_documents() -> Iterator[None]:
    """Every document of ``--json`` that a test prints in this process must fit the schema of its command."""
    from gonogo.cli import output

    def checked(text: str) -> None:
        from tests.printed_kit import compare_with_schema

        compare_with_schema(text)
        write(text)

    write, output.write_line = output.write_line, checked
    yield
    output.write_line = write


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """240 small pictures of brushed metal, half of them with a dark spot and its mask; 60 bad parts to calibrate on."""
    rng = np.random.default_rng(7)
    root = tmp_path_factory.mktemp("discs")
    rows = []
    for index in range(280):
        bad = index % 2 == 1
        picture = cv2.GaussianBlur(rng.normal(130, 40, (72, 96)), (0, 0), sigmaX=6, sigmaY=0.8)
        mask = np.zeros((72, 96), np.uint8)
        if bad:
            centre = (int(rng.integers(14, 82)), int(rng.integers(14, 58)))
            cv2.circle(mask, centre, int(rng.integers(7, 11)), 255, -1)
            picture[mask > 0] -= 70
        file = f"images/{'spot' if bad else 'good'}/{index:03d}.png"
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        noisy = np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
        (root / file).write_bytes(images.encode_png(noisy))
        row = {"file_name": file, "label": "bad" if bad else "good", "part": f"p{index}"}
        row["split"] = ("train", "train", "val", "calibrate", "calibrate", "calibrate", "test")[index // 2 % 7]
        if bad:
            (root / "masks").mkdir(exist_ok=True)
            (root / f"masks/{index:03d}.png").write_bytes(images.encode_png(mask))
            row |= {"defect": "spot", "mask_file_name": f"masks/{index:03d}.png"}
        rows.append(row)
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Dataset.read(root)


@pytest.fixture(scope="session")
def trained(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on the discs in a few seconds. Copy it before changing it."""
    from gonogo.workflow import TrainingOptions, train_inspector

    out = tmp_path_factory.mktemp("bundles") / "disc.inspector"
    train_inspector(discs, out, TrainingOptions(size_wh=(96, 64)))
    return out


@pytest.fixture(scope="session")
def fine_tuned(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose network was made by torch, with log-sum-exp pooling. Copy it before changing it."""
    from gonogo.augment import PLAIN
    from gonogo.train import FineTuning
    from gonogo.workflow import TrainingOptions, train_inspector

    out = tmp_path_factory.mktemp("bundles") / "tuned.inspector"
    options = TrainingOptions(
        backbone="resnet18",
        weights="none",
        cuts=("layer1",),
        size_wh=(64, 64),
        augmentation=PLAIN,
        fine_tuning=FineTuning(epochs=1),
    )
    train_inspector(discs, out, options)
    return out


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    """A PostgreSQL server for the whole run; each test makes a database of its own."""
    why_not = servers.missing()
    if why_not:
        pytest.skip(why_not)
    with servers.server() as running:
        yield running


@pytest.fixture(scope="session")
def magnetic_tile() -> Path:
    folder = SHARED / "data" / "magnetic_tile"
    if not folder.is_dir():
        pytest.skip(f"the magnetic tile photographs are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def mobilenet_v2_weights() -> Path:
    path = SHARED / "weights" / "mobilenet_v2.safetensors"
    if not path.is_file():
        pytest.skip(f"the pretrained weights are not at {path}")
    return path
