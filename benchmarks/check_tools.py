"""Check that Model API says about a bundle what gonogo says: probability, label, saliency map, feature vector.

``make check-tools``; ``QUICK=1`` judges 56 pictures instead of 560. Model API gets an environment of its own below
``build/tools``. The bundle is that of the rendered demo, unless ``--bundle`` names one. Pictures have odd sizes.
They are judged twice: resized by gonogo, where everything must be equal, and as they are, where Model API resizes,
which costs accuracy.
The same goes through ``gonogo serve`` and Model API's adapter for OpenVINO Model Server, where the caller prepares the
picture; 10,000 times (500), while the server is killed and restarted at random. ``--url HOST:PORT/v2/models/NAME`` asks
a KServe v2 server that serves the network of ``--bundle`` through the same adapter. The last line holds the figures as
JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from command import print_figures, run
from gonogo.bundle import CLASSIFIER, Bundle, read_bundle
from gonogo.demo.rendered import run_demo
from gonogo.errors import InputError, UnfitError
from gonogo.images import crop_resize, load_picture
from gonogo.other_tools import write_classifier
from gonogo.progress import console
from gonogo.runtime import Picture, compile_graph
from gonogo.schema import Box, Frame
from gonogo.server import Workspace
from protocols.kit import killing
from protocols.serving import serving

ENVIRONMENT = Path("build/tools/model-api")
PEER = Path(__file__).resolve().parent / "peers" / "model_api_classifier.py"
PINNED = ("openvino-model-api[ovms]==0.4.7",)
_PER_S = 20
"""About how many pictures a second Model API asks about; it is in another process, so nobody counts them."""
TOLERANCE = 1e-4
"""Largest allowed difference of a probability, or of a map or vector as a share of its largest absolute value."""


def main() -> None:
    """Export, let Model API judge, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--url")
    given = parser.parse_args()
    if given.url and not given.bundle:
        raise InputError("--url: expected also --bundle, the bundle whose network the server serves.")
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = read_bundle(given.bundle or run_demo(work / "demo").bundle)
        model = given.url or str(write_classifier(source, work / "exported", "part").model)
        frames = odd_frames(work / "demo", source, 56 if given.quick else 560)
        figures = compared(source, frames, python, model, work)
        if not given.url:
            figures["through_gonogo_serve"] = served(source, frames, python, work, 500 if given.quick else 10_000)
    console.print(figures)
    print_figures({"quick": given.quick, **figures})
    if any(each["equal"] != each["pictures"] for each in (figures, figures.get("through_gonogo_serve", figures))):
        raise UnfitError("Model API says something else than gonogo; see the figures.")


def environment() -> Path:
    """Return the Python of Model API's environment, which is made once.

    Raises:
        InputError: it cannot be installed.
    """
    python, ready = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "ready"
    if ready.is_file() and ready.read_text("utf-8") == " ".join(PINNED):
        return python
    uv = shutil.which("uv") or ".uv/bin/uv"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *PINNED],
    ):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise InputError(f"Model API was not installed: {ended.stderr.strip()[-500:]}")
    ready.write_text(" ".join(PINNED), "utf-8")
    return python


def odd_frames(demo: Path, source: Bundle, count: int) -> list[Frame]:
    """Return the demo's pictures, or the golden ones, each in an odd size, repeated until there are ``count``."""
    photos = sorted(each for each in demo.glob("photos/**/*.png") if "_mask" not in each.name)
    files = photos or [source.root / each.file for each in source.manifest.golden]
    rng = np.random.default_rng(26)
    frames = []
    for number in range(count):
        width, height = (int(side) | 1 for side in rng.integers(60, 700, 2))
        frames.append(cv2.resize(load_picture(files[number * 7 % len(files)]), (width, height)))
    return frames


def served(source: Bundle, frames: Sequence[Frame], python: Path, work: Path, count: int) -> dict[str, Any]:
    """Compare through a killed ``gonogo serve`` and Model API's adapter for model servers, with ``count`` questions."""
    space = Workspace.open(work / "workspace")
    shutil.copytree(source.root, space.bundles / "part.inspector")
    space.activate("part.inspector")
    with serving(space.root, "--open-models") as server:
        model = f"127.0.0.1:{server.port}/v2/models/part.classifier"
        began_s = time.monotonic()
        with killing([server], 26, triggers=count, answered=lambda: round(_PER_S * (time.monotonic() - began_s))):
            figures = compared(source, frames, python, model, work, count)
        return {**figures, "kills": server.kills}


def compared(
    source: Bundle, frames: Sequence[Frame], python: Path, model: str, work: Path, count: int | None = None
) -> dict[str, Any]:
    """Judge the pictures with both, and count those about which both say the same; ``count`` asks again on failure."""
    graph = compile_graph(source.graph(CLASSIFIER), precision=source.manifest.precision)
    pictures = [crop_resize(frame, Box.whole(frame), source.manifest.recipe.size_wh) for frame in frames]
    expected = [graph(picture) for picture in pictures]
    shares = [1 / (1 + float(np.exp(-each["score"][0]))) for each in expected]
    said, arrays = asked(python, model, pictures, work, count)
    share_errors, labels = [], 0
    for number, told in enumerate(said["said"]):
        own, share = expected[number % len(frames)], shares[number % len(frames)]
        share_errors.append(abs(float(told["raw"][1]) - share))
        labels += int(told["label"] == ("bad" if own["score"][0] > 0 else "good"))
    map_errors, vector_errors = [], []
    for number, own in enumerate(expected[: len(share_errors)]):
        map_errors.append(relative(arrays[f"map{number}"], own["heatmap"]) if "heatmap" in own else 0.0)
        vector_errors.append(relative(arrays[f"vector{number}"], own["feature_vector"]))
    seen = np.max([map_errors, vector_errors], axis=0)
    worst = [max(error, seen[number % len(frames)]) for number, error in enumerate(share_errors)]
    figures = {
        "model_api": said["version"],
        "pictures": len(share_errors),
        "equal": min(sum(bool(each <= TOLERANCE) for each in worst), int(labels)),
        "labels_equal": int(labels),
        "unanswered_at_first": said["unanswered"],
        "bad": sum(share > 0.5 for share in shares),
        "probability_difference": max(share_errors),
        "map_difference": max(map_errors),
        "vector_difference": max(vector_errors),
    }
    if "/v2/models/" not in model:
        own_resize, _ = asked(python, model, frames, work)
        found = [told["raw"][1] for told in own_resize["said"]]
        figures["resized_by_model_api"] = {
            "probability_difference": float(np.abs(np.array(found) - shares).max()),
            "labels_equal": sum((a > 0.5) == (b > 0.5) for a, b in zip(found, shares, strict=True)),
        }
    return figures


def asked(
    python: Path, model: str, pictures: Sequence[Picture], work: Path, count: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let Model API judge RGB pictures, which it is given in BGR as OpenCV reads them.

    Raises:
        InputError: it failed.
    """
    given, kept = work / "given.npz", work / "kept.npz"
    np.savez(given, **{str(number): picture[..., ::-1] for number, picture in enumerate(pictures)})  # type: ignore[arg-type]
    command: list[str | Path] = [python, PEER, model, given, kept, *([] if count is None else [str(count)])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise InputError(f"Model API failed: {ended.stderr.strip()[-1000:]}")
    with np.load(kept) as arrays:
        return json.loads(ended.stdout.splitlines()[-1]), dict(arrays)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a share of the largest expected value; 1 if the shapes differ."""
    if found.shape != expected.shape:
        return 1.0
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-9))


if __name__ == "__main__":
    run(main)
