"""What every test may use: where the optional real data lie, and small seeded pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gonogo.schema import Frame

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20180917)


@pytest.fixture
def frame(rng: np.random.Generator) -> Frame:
    """A picture with structure at several scales, 120 high and 160 wide."""
    coarse = rng.integers(0, 256, (6, 8, 3))
    return np.kron(coarse, np.ones((20, 20, 1), dtype=int)).astype(np.uint8)


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
