"""A fake model without a network, and pictures for it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gonogo.errors import BundleError
from gonogo.images import Photograph
from gonogo.schema import Box, Frame, State, Verdict
from gonogo.station.models import LoadedBundle


def fake_model(
    path: Path, *, judge: Callable[[Frame], float] = lambda frame: float(frame[..., 0].mean()) - 128.0
) -> LoadedBundle:
    """Return a model without a network: the score is ``judge(frame)``, go below -20, no-go above 20.

    Its bundle is any folder with a file ``SHA256SUMS``; if the file contains ``broken``, the bundle is refused.
    """
    seal = (path / "SHA256SUMS").read_bytes()
    if seal.strip() == b"broken":
        raise BundleError(f"{path}: the fake bundle is broken on purpose.")

    def inspect(photograph: Photograph) -> Verdict:
        start, frame = time.perf_counter(), photograph.frame
        score = judge(frame)
        state = State.GO if score < -20 else State.NO_GO if score > 20 else State.REVIEW
        timings_ms = {"total": (time.perf_counter() - start) * 1e3}
        box = Box.whole(frame)
        return Verdict(state=state, score=score, reason=f"score {score:.1f}", box=box, timings_ms=timings_ms)

    return LoadedBundle(
        name="fake",
        path=path,
        sha256=hashlib.sha256(seal).hexdigest(),
        go_below=-20.0,
        no_go_above=20.0,
        device="none",
        inspect=inspect,
    )


def fake_frame(seed: int, *, bad: bool = False, size_wh: tuple[int, int] = (160, 120)) -> Frame:
    """Return a picture that the fake bundle and model judge go, or no-go if ``bad``; it depends on the seed."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(60, 200, (size_wh[1] // 8, size_wh[0] // 8, 3))
    cells[..., 0] = rng.integers(200, 240) if bad else rng.integers(30, 70)
    return np.kron(cells, np.ones((8, 8, 1), dtype=int)).astype(np.uint8)
