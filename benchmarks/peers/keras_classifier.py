"""Trains the last layer of a Keras classifier and saves it as ``.keras`` and as a SavedModel.

Run by ``make check-imports`` in an environment of its own, with keras and tensorflow-cpu:

    python keras_classifier.py PICTURES.npz FOLDER [WEIGHTS.npz]

PICTURES.npz holds ``train`` (uint8, pictures x height x width x 3), ``bad`` (0 or 1) and ``test``. The network is
MobileNet up to its twelfth block, a global average pooling and one sigmoid. Writes ``net.keras``, ``net_tf`` and
``scores.npy``, the logits of the test pictures.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

CUT = "conv_pw_12_relu"
EPOCHS, BATCH = 60, 32


def main() -> None:
    """Train, save and score."""
    pictures, folder = np.load(sys.argv[1]), Path(sys.argv[2])
    keras.utils.set_random_seed(0)
    body = backbone(pictures["train"].shape[1:], Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    vector = keras.layers.GlobalAveragePooling2D()(body.output)
    pooled = keras.Model(body.input, vector)
    known = pooled.predict(scaled(pictures["train"]), batch_size=BATCH, verbose=0)
    dense = keras.layers.Dense(1, activation="sigmoid", name="bad")
    probability = dense(vector)
    fit(dense, known, pictures["bad"].astype(np.float32))
    keras.Model(body.input, probability).save(folder / "net.keras")
    keras.Model(body.input, probability).export(str(folder / "net_tf"), format="tf_saved_model", verbose=False)
    kernel, bias = (keras.ops.convert_to_numpy(each) for each in (dense.kernel, dense.bias))
    test = pooled.predict(scaled(pictures["test"]), batch_size=BATCH, verbose=0)
    np.save(folder / "scores.npy", (test @ kernel + bias)[:, 0])


def scaled(pictures: np.ndarray) -> np.ndarray:
    """Pixels from -1 to 1, as MobileNet expects them."""
    return pictures.astype(np.float32) / 127.5 - 1.0


def backbone(shape: tuple[int, ...], weights: Path | None) -> keras.Model:
    """MobileNet up to `CUT`; random without weights."""
    whole = keras.applications.MobileNet(input_shape=shape, include_top=False, weights=None)
    body = keras.Model(whole.input, whole.get_layer(CUT).output)
    if weights is not None:
        stored = np.load(weights)
        for layer in body.layers:
            if layer.weights:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)  # whose kernel Keras 2 named differently
                names = [f"{layer.name}/{'depthwise_' if depthwise else ''}{each.name}" for each in layer.weights]
                layer.set_weights([stored[name].astype(np.float32) for name in names])
    return body


def fit(dense: keras.layers.Dense, known: np.ndarray, bad: np.ndarray) -> None:
    """Logistic regression on standardised features, written back as weights of the plain ones."""
    mean, deviation = known.mean(0), known.std(0) + 1e-3
    inside = keras.Input(known.shape[1:])
    head = keras.layers.Dense(1, activation="sigmoid", kernel_regularizer=keras.regularizers.L2(1e-3))
    model = keras.Model(inside, head(inside))
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    model.fit((known - mean) / deviation, bad, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    kernel, bias = model.layers[-1].get_weights()
    kernel = kernel / deviation[:, None]
    dense.set_weights([kernel, bias - mean @ kernel])


if __name__ == "__main__":
    main()
