"""One changed bit anywhere in a signed bundle, sealed again or not: it is refused, and the good bundle judges on."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gonogo import bundle, signing
from gonogo.errors import GonogoError
from gonogo.inspector import Inspector
from gonogo.progress import track
from gonogo.signing import SignaturePolicy, Use
from gonogo.station.models import ModelSlot, load_model
from gonogo.testing import write_fake_bundle


def edit_bundles(edits: int, *, seed: int) -> dict[str, Any]:
    """Change one bit of a random file of a signed bundle, over and over, while a station holds the good one.

    Every second time the folder is sealed again, as anyone can who may write it.

    Args:
        edits: How many.
        seed: Random seed.

    Returns:
        The figures: how many were refused when opened, and how often the station judged with another bundle.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        return _edit(Path(folder), edits, rng)


def _edit(folder: Path, edits: int, rng: np.random.Generator) -> dict[str, Any]:
    good, place = folder / "good.inspector", folder / "line.inspector"
    policy = _signed(good, folder)
    shutil.copytree(good, place)
    slot = _slot(place, folder, policy)
    sha256 = slot.start().after
    files = sorted(path.relative_to(good) for path in good.rglob("*") if path.is_file())
    seen, accepted = Counter[str](), []
    for number in track(range(edits), "Bundles", total=edits):
        name = files[number % len(files)]
        resealed = number // len(files) % 2 == 1
        _flip(place / name, rng)
        if resealed and name.name not in (bundle.SEAL, bundle.SIGNATURE):
            _seal_again(place)
            seen["resealed"] += 1
            seen["whole"] += _is_whole(place)
        try:
            Inspector.load(place, policy=policy)
            accepted.append(f"{name}{' sealed again' if resealed else ''}")
        except GonogoError:
            seen["refused"] += 1
        while slot.unsettled:
            slot.poll()
        if number % 100 == 99:  # a restart
            slot = _slot(place, folder, policy)
            slot.start()
            seen["restarts"] += 1
        seen["other_bundle"] += slot.model is None or slot.model.sha256 != sha256
        shutil.rmtree(place)
        shutil.copytree(good, place)
    return {
        "edits": edits,
        "files": len(files),
        "refused": seen["refused"],
        "sealed_again": seen["resealed"],
        "sealed_again_and_whole": seen["whole"],
        "accepted": len(accepted),
        "first_accepted": accepted[:5],
        "restarts": seen["restarts"],
        "other_bundle_judged": seen["other_bundle"],
    }


def _signed(root: Path, folder: Path) -> SignaturePolicy:
    write_fake_bundle(root, name="good")
    key, public = signing.make_key_pair(folder / "anna.key", "anna")
    store, now = folder / "trust.json", datetime.now(UTC)
    signing.add_key(store, signing.read_public_key(public), (Use.BUNDLE,), now=now)
    signing.sign_bundle(bundle.read_bundle(root), key, now=now)
    return SignaturePolicy(required=True, trust_store=store)


def _slot(place: Path, folder: Path, policy: SignaturePolicy) -> ModelSlot:
    return ModelSlot(
        place,
        folder / "copies",
        loader=partial(load_model, policy=policy),
        fallback=partial(load_model, policy=replace(policy, accept_revoked=True)),
        trust_store=policy.trust_store,
    )


def _is_whole(root: Path) -> bool:
    """Whether nothing but the signature shows that it was changed."""
    try:
        bundle.read_bundle(root)
    except GonogoError:
        return False
    return True


def _flip(path: Path, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def _seal_again(root: Path) -> None:
    """Write the seal of what lies there now, as ``sha256sum`` would."""
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name not in (bundle.SEAL, bundle.SIGNATURE)
    )
    lines = (f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (root / bundle.SEAL).write_text("".join(lines))
