"""anomalib's OpenVINOInferencer on one photograph: run by ``make bench ARGS="--anomalib PYTHON"``.

Needs a separate environment: ``pip install 'anomalib[openvino]'``, and a model that it exported to OpenVINO, named
by the environment variable ANOMALIB_MODEL (the ``.xml``). Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
from anomalib.deploy import OpenVINOInferencer

REPEATS, WARM_UP = 50, 5


def main() -> None:
    """Time it."""
    inferencer = OpenVINOInferencer(path=os.environ["ANOMALIB_MODEL"], device="CPU")
    durations = []
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        inferencer.predict(sys.argv[1])
        durations.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"median_ms": float(np.median(durations[WARM_UP:]))}))  # noqa: T201


if __name__ == "__main__":
    main()
