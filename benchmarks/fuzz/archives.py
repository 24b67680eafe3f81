"""Hostile archives and label files: nothing may be written outside the target, and no network may be asked."""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import labels, zips
from fuzz.watch import Seen, watching
from gonogo.dataset import ImportOptions, import_folder
from gonogo.errors import GonogoError
from gonogo.progress import track
from gonogo.server import Workspace, create_app
from gonogo.server.components import Components
from gonogo.server.datasets.uploads import take

MOST_S = 10.0
"""Processor time for one archive that counts as too long."""


def open_archives(each: int, *, seed: int) -> dict[str, Any]:
    """Upload and import hostile archives and label files of each kind.

    Args:
        each: How many of each kind.
        seed: Random seed.

    Returns:
        The figures.
    """
    rng = np.random.default_rng(seed)
    counts, problems, longest = Counter[str](), list[str](), (0.0, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "secret.png").write_bytes(b"secret")
        for kind, attack in track(list(_attacks(folder).items()), "Archives"):
            for number in range(each):
                began = time.process_time()
                seen, outcome, problem = attack(rng, number)
                used_s = time.process_time() - began
                longest = max(longest, (used_s, kind))
                counts.update(
                    {
                        "tried": 1,
                        outcome: 1,
                        "writes_outside": len(seen.writes_outside),
                        "writes_inside": seen.writes_inside,
                        "requests": len(seen.requests),
                        "processes": len(seen.processes),
                        "over_10_s": used_s > MOST_S,
                    }
                )
                found = [problem, *seen.writes_outside, *seen.requests, *seen.processes]
                problems += [f"{kind}: {what}" for what in found if what]
        assert (folder / "secret.png").read_bytes() == b"secret"
    keys = (
        "tried", "refused", "taken", "crashes", "writes_outside", "writes_inside", "requests", "processes", "over_10_s",
    )  # fmt: skip
    return {key: counts[key] for key in keys} | {
        "longest_cpu_s": round(longest[0], 2),
        "longest": longest[1],
        "first_problems": problems[:5],
    }


Attack = Callable[[np.random.Generator, int], tuple[Seen, str, str]]


def _attacks(folder: Path) -> dict[str, Attack]:
    root = folder / "uploads"
    components = create_app(Workspace.open(root)).state.components
    found: dict[str, Attack] = {
        f"zip {kind}": _upload(components, root, kind, make) for kind, make in zips.zips().items()
    }
    return found | {f"import {kind}": _import(folder, kind, make) for kind, make in labels.folders().items()}


def _upload(components: Components, root: Path, kind: str, make: zips.Maker) -> Attack:
    def attack(rng: np.random.Generator, number: int) -> tuple[Seen, str, str]:
        name, data = f"{kind}-{number}", make(rng)
        components.datasets.create(name)
        with watching(root) as seen, io.BytesIO(data) as file:
            try:
                sent = [("a.zip", file)]
                found = take(components.datasets, components.ledger_pool, name, sent, who="anna", by_folder=True)
            except GonogoError:
                return seen, "refused", ""
            except Exception as error:  # noqa: BLE001  any other exception is a finding
                return seen, "crashes", f"{type(error).__name__}: {error}"[:200]
        return seen, "taken" if found.added else "refused", ""

    return attack


def _import(folder: Path, kind: str, make: labels.Maker) -> Attack:
    def attack(rng: np.random.Generator, number: int) -> tuple[Seen, str, str]:
        root = folder / "imports" / f"{kind}-{number}"
        labels.write_pictures(root / "photos", rng)
        (root / "secret.png").write_bytes(b"secret")
        label_file = make(root / "photos", rng)
        if label_file is not None and label_file.name == "metadata.jsonl":
            label_file = None  # found by itself
        options = ImportOptions(annotations=label_file, unlabelled=True)
        out = root / "out" / "set"
        out.parent.mkdir()
        with watching(out.parent) as seen:
            try:
                import_folder(root / "photos", out, options)
            except GonogoError:
                return seen, "refused", ""
            except Exception as error:  # noqa: BLE001  any other exception is a finding
                return seen, "crashes", f"{type(error).__name__}: {error}"[:200]
        return seen, "taken", ""

    return attack
