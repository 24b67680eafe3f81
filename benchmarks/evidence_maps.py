"""Draw the map of each kind of evidence and their sum: ``python benchmarks/evidence_maps.py BUNDLE PHOTO OUT.jpg``.

Draws one row: the region as the network sees it, each kind's map with what its pooling adds to the score, and their
sum, which is the heat map. Blue is the lowest value of a map, red its highest. The last line states, as JSON, by how
much the poolings and the bias miss the score.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import openvino as ov

from gonogo import images, runtime
from gonogo.evidence import pool
from gonogo.inspector import Inspector
from gonogo.schema import Frame

BANNER = 44
HEIGHT = 360


def main() -> None:
    """Judge a photograph, draw the maps and print the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    inspector = Inspector.load(given.bundle)
    frame = images.load_picture(given.photo)
    verdict = inspector.inspect(frame)
    assert verdict.region is not None, verdict.reason
    picture = images.cut(frame, verdict.region, inspector.recipe.size_wh)
    graph = runtime.compile_graph(ov.Core().read_model(str(inspector.bundle.classifier)))
    outputs = graph(picture)
    stated = inspector.bundle.manifest.classifier
    weights = {each.kind: each.weight for each in stated.evidence}
    panels = [_titled(picture, "the region, as the network sees it")]
    total = stated.bias
    for kind, map_ in zip((each.kind for each in stated.evidence), outputs["evidence"][0], strict=True):
        adds = pool(kind, map_, weights.get("cells", 0.0))
        total += adds
        panels.append(_titled(_tinted(picture, map_), f"{kind}: adds {adds:+.2f}"))
    score = float(outputs["score"][0])
    panels.append(_titled(_tinted(picture, outputs["heatmap"][0]), f"sum: score {score:+.2f}, bias {stated.bias:+.2f}"))
    given.out.write_bytes(images.encode_jpeg(np.hstack(panels), quality=88))
    print(json.dumps({"score": score, "poolings_and_bias": total, "difference": abs(total - score)}))  # noqa: T201


def _tinted(picture: Frame, map_: np.ndarray) -> Frame:
    low, high = float(map_.min()), float(map_.max())
    level = (255 * (map_ - low) / max(high - low, 1e-9)).astype(np.uint8)
    wide = cv2.resize(level, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC)
    colours = cv2.cvtColor(cv2.applyColorMap(wide, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(picture, 0.45, colours, 0.55, 0), np.uint8)


def _titled(picture: Frame, title: str) -> Frame:
    width = round(picture.shape[1] * HEIGHT / picture.shape[0])
    shown = cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    panel = np.full((HEIGHT + BANNER, width + 8, 3), 255, np.uint8)
    panel[BANNER:, 4:-4] = shown
    scale = min(0.62, 0.62 * (width - 8) / cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.62, 1)[0][0])
    cv2.putText(panel, title, (6, 30), cv2.FONT_HERSHEY_SIMPLEX, scale, (30, 30, 30), 1, cv2.LINE_AA)
    return panel


if __name__ == "__main__":
    main()
