"""A bundle's network as a model repository, the folder layout that model servers read.

    models/chip/1/model.xml, model.bin    version 1 of the model "chip"
    models/chip/2/...                     a later bundle; servers load the highest number
    models/chip/2.json                    which bundle version 2 is, its thresholds and how its pictures are cut out

A server of this kind returns scores and heat maps, not verdicts: see `Served`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gonogo.bundle import CLASSIFIER, Bundle
from gonogo.errors import InputError
from gonogo.files import folder_beside, write_beside
from gonogo.names import clean_name

_GRAPH = "model.xml"


@dataclass(frozen=True, kw_only=True)
class Served:
    """One version of a model in a repository.

    Whoever asks the server prepares the picture (region and size as in the recipe, uint8, RGB, NHWC), and compares the
    score with the thresholds. The checks before and after the network are not in it: blurred or dark pictures,
    out-of-distribution parts, the record. So it is for programs that need scores; a line needs a station.
    """

    name: str
    version: int
    folder: Path
    written: bool
    """``False`` if the repository had this bundle as its latest version."""
    precision: str
    """Precision in which the thresholds were certified, for the server's ``INFERENCE_PRECISION_HINT``."""


def add_version(bundle: Bundle, repository: Path, name: str) -> Served:
    """Write the network of a bundle as the next version of a model; the same bundle again changes nothing.

    A server may read the repository meanwhile: a version appears complete.

    Raises:
        InputError: the name is no plain name, the bundle is a cascade, or the folder cannot be written.
        BundleError: a file of the bundle was changed.
    """
    place = repository / plain_name(name)
    if bundle.manifest.cascade is not None:
        raise InputError(
            f"{bundle.root}: expected a bundle with one network, found a cascade: a model server would run only the "
            "small one. Export the bundles that it was made from."
        )
    latest = max((int(each.name) for each in place.glob("[1-9]*") if each.name.isdecimal()), default=0)
    precision = bundle.manifest.precision
    if latest and _bundle_of(place / f"{latest}.json") == bundle.sha256:
        folder = place / str(latest)
        return Served(name=name, version=latest, folder=folder, written=False, precision=precision)
    version = latest + 1
    structure, weights = bundle.graph(CLASSIFIER)
    told = bundle.manifest.model_dump(mode="json")
    point = told["operating_point"] or {}
    facts = {
        "bundle_sha256": bundle.sha256,
        "go_below": point.get("go_below"),
        "no_go_above": point.get("no_go_above"),
        **{key: told[key] for key in ("name", "precision", "recipe")},
    }
    place.mkdir(parents=True, exist_ok=True)
    with folder_beside(place / str(version)) as partial:
        (partial / _GRAPH).write_bytes(structure)
        (partial / _GRAPH).with_suffix(".bin").write_bytes(weights)
        write_beside(place / f"{version}.json", json.dumps(facts, indent=2).encode() + b"\n")
    return Served(name=name, version=version, folder=place / str(version), written=True, precision=precision)


def plain_name(name: str) -> str:
    """Check the name of a model, which becomes that of a file or folder.

    Raises:
        InputError: it is no plain name.
    """
    try:
        plain = clean_name(name)
    except ValueError as error:
        raise InputError(f"--name: {error}.") from error
    if "/" in plain or plain.startswith("."):
        raise InputError(f"--name: expected a plain name such as chip, found {plain!r}.")
    return plain


def _bundle_of(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_bytes())["bundle_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
