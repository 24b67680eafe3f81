"""Keras ResNet-50 ``predict`` on one photograph, from its JPEG to two numbers.

Run by ``make bench ARGS="--keras PYTHON"``.

Needs a separate environment with keras and a backend: ``pip install keras tensorflow``. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from io import BytesIO
from pathlib import Path

import keras
import numpy as np
from PIL import Image

REPEATS, WARM_UP, SIDE = 50, 5, 224


def main() -> None:
    """Time it."""
    network = keras.applications.ResNet50(weights=None, classes=2)
    encoded = Path(sys.argv[1]).read_bytes()
    durations = []
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        picture = keras.utils.img_to_array(Image.open(BytesIO(encoded)).convert("RGB"))
        picture = keras.ops.image.resize(picture, (SIDE, SIDE))
        network.predict(np.asarray(picture)[None], verbose=0)
        durations.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"median_ms": float(np.median(durations[WARM_UP:]))}))  # noqa: T201


if __name__ == "__main__":
    main()
