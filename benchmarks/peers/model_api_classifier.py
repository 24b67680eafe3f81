"""Judges pictures with Model API and prints what it says, as JSON; runs in an environment without gonogo.

    python model_api_classifier.py MODEL PICTURES.npz OUT.npz [COUNT]

``MODEL`` is an IR, or the address of a model behind a KServe v2 server, ``HOST:PORT/v2/models/NAME``. ``PICTURES.npz``
holds BGR pictures named ``0``, ``1``, ...; ``OUT.npz`` receives the maps and feature vectors. ``COUNT`` asks so often,
for the pictures in turn, and asks again where a server that died gave no answer; maps and vectors are those of the last
turn.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from model_api.adapters import OpenvinoAdapter, OVMSAdapter, create_core
from model_api.models import Model


def adapter_of(model: str) -> Any:
    """Open a file in FP32, the precision of the thresholds, or the model of a server."""
    if OVMSAdapter.is_ovms_model(model):
        return OVMSAdapter(model)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return OpenvinoAdapter(create_core(), model, device="CPU", plugin_config=settings, max_num_requests=1)


def until_answered(ask: Callable[[], Any]) -> tuple[Any, int]:
    """Ask until there is an answer; return it and how often there was none."""
    for failed in range(15_000):
        try:
            return ask(), failed
        except Exception as error:  # noqa: BLE001  the client's HTTP library raises errors of several kinds
            found = error
            time.sleep(0.02)
    raise found


def main() -> None:
    """Judge every picture in order."""
    remote = OVMSAdapter.is_ovms_model(sys.argv[1])
    if remote:
        model, _ = until_answered(lambda: Model.create_model(adapter_of(sys.argv[1])))
    else:
        model = Model.create_model(adapter_of(sys.argv[1]))
    said, kept, unanswered = [], {}, 0
    with np.load(sys.argv[2]) as files:
        pictures = [files[str(number)] for number in range(len(files.files))]
        count = int(sys.argv[4]) if len(sys.argv) > 4 else len(pictures)
        for asked in range(count):
            number = asked % len(pictures)
            # This adapter leaves the preprocessing to the caller, and the network takes RGB.
            picture = np.ascontiguousarray(pictures[number][..., ::-1]) if remote else pictures[number]
            if len(sys.argv) > 4:
                result, failed = until_answered(partial(model, picture))
                unanswered += failed
            else:
                result = model(picture)
            top = result.top_labels[0]
            said.append(
                {"label": top.name, "share": float(top.confidence), "raw": np.ravel(result.raw_scores).tolist()}
            )
            # The arrays are views of a buffer that the next picture overwrites.
            kept[f"map{number}"] = np.array(result.saliency_map)
            kept[f"vector{number}"] = np.array(result.feature_vector)
    np.savez(sys.argv[3], **kept)
    told = {"version": version("openvino-model-api"), "kind": model.__model__, "unanswered": unanswered, "said": said}
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main()
