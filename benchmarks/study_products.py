"""A station for three products: is every part judged by the right bundle, and does a foreign part ever pass?

``make study-products``: three rendered chips, two of them on the same board;
a bundle is trained for each. 3,000 triggers in random order name a product (a fifth of them none: the selected one),
300 of them the wrong one for the part that lies there, 100 one that the station does not have; the worker is restarted
in the middle. The ledger is the judge. With ``--data`` the photographs there are foreign parts as well. ``QUICK=1``
takes 300 triggers and smaller bundles. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from command import print_figures, run
from gonogo import images
from gonogo.capture import HealthLimits
from gonogo.dataset import Dataset, Fractions, ImportOptions, Split, import_folder, write_metadata
from gonogo.dataset.splits import assign_splits, merge_groups
from gonogo.files import folder_beside
from gonogo.ledger import Ledger, Where
from gonogo.operating_point import Promise, clopper_pearson
from gonogo.progress import track
from gonogo.schema import Frame, Label, State
from gonogo.station import Answer, CameraParts, ModelSlot, Station, StationSettings, Trigger, parse_settings
from gonogo.station.changeover import SELECTED
from gonogo.station.memory import resident_bytes
from gonogo.synthetic import BoardType, ChipType, write_close_ups
from gonogo.synthetic.catalogue import Defect
from gonogo.synthetic.close_ups import MIX
from gonogo.testing import FakeCamera
from gonogo.workflow import TrainingOptions, train_inspector

PRODUCTS = {
    "qfp32": replace(MIX, boards=(BoardType.CONTROLLER,), chips=(ChipType.QFP32,)),
    "tssop20": replace(MIX, boards=(BoardType.CONTROLLER,), chips=(ChipType.TSSOP20,)),
    "soic16": replace(
        MIX, boards=(BoardType.SENSOR,), chips=(ChipType.SOIC16,), defects=(Defect.SCRATCH, Defect.STAIN)
    ),
}
SPLITS = Fractions.parse("25/22/33/20")
WINDOW_S = 30.0
FOREIGN, UNKNOWN, UNNAMED = 0.1, 1 / 30, 0.2


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One trigger and the part that lies there."""

    trigger_id: str
    named: str | None
    """Product that the trigger names."""
    made: str
    """Product that the part is; a photograph's folder for a part of no product."""
    label: Label
    frame: Frame


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An arrival, the product that was selected then, and the answer."""

    arrival: Arrival
    selected: str | None
    answer: Answer


def make_bundles(folder: Path, parts: int) -> dict[str, Dataset]:
    """Render, train and certify every product whose bundle is not there yet; return the data sets."""
    made = {}
    for name, mix in PRODUCTS.items():
        if not (folder / name / "parts").exists():
            if not (folder / name / "photos").exists():
                with folder_beside(folder / name / "photos") as photos:
                    write_close_ups(photos, parts, mix=mix)
            options = ImportOptions(mask_suffix="_mask.png", fractions=SPLITS)
            _deal(import_folder(folder / name / "photos", folder / name / "parts", options).dataset)
        made[name] = Dataset.read(folder / name / "parts")
        bundle = folder / f"{name}.inspector"
        if not bundle.exists():
            promise = Promise(max_escape=0.15, max_overkill=0.15, bad_share=0.05)
            train_inspector(made[name], bundle, TrainingOptions(promise=promise))
    return made


def _deal(dataset: Dataset) -> None:
    """Deal the splits by part: the rendered parts are different ones, however alike they look."""
    samples = list(dataset.samples)
    write_metadata(dataset.root, assign_splits(samples, merge_groups(samples, range(len(samples))), SPLITS, 1))


def plan(
    datasets: Mapping[str, Dataset], photographs: Mapping[str, list[Frame]], count: int, rng: random.Random
) -> list[Arrival]:
    """Return the triggers in random order; a trigger without a product means that of the trigger before."""
    pools = {name: _pool(dataset) for name, dataset in datasets.items()}
    kinds = ["foreign"] * round(FOREIGN * count) + ["unknown"] * round(UNKNOWN * count)
    kinds += ["own"] * (count - len(kinds))
    rng.shuffle(kinds)
    found: list[Arrival] = []
    selected: str | None = None
    noise = np.random.default_rng(rng.randrange(2**32))
    for number, kind in enumerate(kinds):
        product = rng.choice(list(pools))
        unnamed = kind != "unknown" and selected is not None and rng.random() < UNNAMED
        named: str | None = "qfp23" if kind == "unknown" else None if unnamed else product
        due = selected if unnamed else product
        made = product if kind == "unknown" else str(due)
        if kind == "foreign":
            made = rng.choice([name for name in (*pools, *photographs) if name != due])
        label, frame = rng.choice(pools[made]) if made in pools else (Label.BAD, rng.choice(photographs[made]))
        grain = noise.normal(0.0, 1.0, frame.shape[:2])[..., None]
        frame = np.clip(np.rint(frame + grain), 0, 255).astype(np.uint8)
        found.append(Arrival(trigger_id=f"T{number:05d}", named=named, made=made, label=label, frame=frame))
        selected = selected if named is None or kind == "unknown" else named
    return found


def _pool(dataset: Dataset) -> list[tuple[Label, Frame]]:
    return [(sample.label, dataset.load(sample)) for sample in dataset.split(Split.TEST) if sample.label is not None]


def drive(folder: Path, bundles: Path, arrivals: list[Arrival]) -> tuple[list[Judged], dict[str, Any]]:
    """Judge all arrivals at one station, which is restarted in the middle; return the answers, and what it needed."""
    settings, frames = _settings(folder, bundles), {each.trigger_id: each.frame for each in arrivals}
    start_mb = _resident_mb()
    station, load_s = _started(settings, frames)
    needed = {"load_s": load_s, "before_mb": start_mb, "loaded_mb": _resident_mb()}
    judged, selected = [], None
    for number, arrival in enumerate(track(arrivals, "judging")):
        if number == len(arrivals) // 2:
            station.close()
            station, _ = _started(settings, frames)
        now = time.monotonic()
        trigger = Trigger(
            id=arrival.trigger_id, product=arrival.named, at=datetime.now(UTC), due_s=now + settings.window_s
        )
        answer = station.judge(trigger)
        selected = arrival.named if arrival.named in PRODUCTS else selected
        judged.append(Judged(arrival=arrival, selected=selected, answer=answer))
    needed["after_mb"] = _resident_mb()
    station.close()
    return judged, needed


def _started(settings: StationSettings, frames: Mapping[str, Frame]) -> tuple[Station, float]:
    camera = FakeCamera(frames.__getitem__)
    view = CameraParts(name="main", open_camera=lambda: camera, health=HealthLimits(frozen=False, sharpness=0.0))
    products = {
        name: (ModelSlot(places[0], settings.state_dir / "bundles" / name, dispensable=True),)
        for name, places in settings.sources().items()
        if name is not None
    }
    station = Station(settings, (view,), products=products)
    began = time.monotonic()
    station.start()
    return station, time.monotonic() - began


def _settings(folder: Path, bundles: Path) -> StationSettings:
    listed = "\n".join(f'{name} = "{(bundles / f"{name}.inspector").resolve()}"' for name in PRODUCTS)
    text = f"""
station = "products"
ledger = "products.ledger"
state_dir = "state"
window_s = {WINDOW_S}
camera_timeout_s = 5.0
min_free_mb = 1
[products]
{listed}
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[watchdog]
stall_s = 60.0
start_s = 240.0
"""
    folder.mkdir(parents=True)
    return parse_settings(text, folder=folder)


def _resident_mb() -> float:
    return round((resident_bytes() or 0) / 1e6)


def figures(judged: list[Judged], settings: Path, sha256: Mapping[str, str]) -> dict[str, Any]:
    """Count from the ledger: wrong bundles, foreign and unknown parts that passed, and the time of a change."""
    with Ledger.open(settings, create=False, read_only=True) as ledger:
        rows = {row.record.trigger_id: row.record for row in ledger.verdicts()}
        switches = sum(1 for _ in ledger.actions(Where(action=SELECTED)))
    wrong, groups = 0, dict[str, Counter[str]]()
    for each in judged:
        arrival, row = each.arrival, rows[each.arrival.trigger_id]
        expected = None if arrival.named == "qfp23" else sha256[str(each.selected)]
        wrong += row.bundle_sha256 != expected or row.state is not each.answer.state
        group = "unknown" if expected is None else arrival.label.value if arrival.made == each.selected else "foreign"
        groups.setdefault(group, Counter())[row.state.value] += 1
    changed = [each for before, each in zip([None, *judged], judged, strict=False) if _is_change(before, each)]
    durations = [each.answer.timings_ms["changeover"] for each in changed]
    foreign = groups.get("foreign", Counter())
    return {
        "triggers": len(judged),
        "rows": len(rows),
        "wrong_bundle": wrong,
        "verdicts": {name: dict(states) for name, states in groups.items()},
        "foreign": foreign.total(),
        "foreign_go": foreign[State.GO.value],
        "foreign_go_at_most": clopper_pearson(foreign[State.GO.value], foreign.total())[1] if foreign else None,
        "unknown_go": groups.get("unknown", Counter())[State.GO.value],
        "switches": switches,
        "changeover_median_ms": round(float(np.median(durations)), 2),
        "changeover_p99_ms": round(float(np.quantile(durations, 0.99)), 2),
        "changeover_max_ms": round(max(durations), 2),
    }


def _is_change(before: Judged | None, now: Judged) -> bool:
    return now.selected != (None if before is None else before.selected) and "changeover" in now.answer.timings_ms


def _photographs(data: Path | None) -> dict[str, list[Frame]]:
    if data is None:
        return {}
    folders = [folder for folder in sorted(data.iterdir()) if folder.is_dir()]
    return {each.name: [images.load_picture(file) for file in list(images.find(each))[:40]] for each in folders}


def main() -> None:
    """Make the bundles, drive the station, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="Folder; bundles that are there are kept.")
    parser.add_argument("--quick", action="store_true", help="300 triggers, smaller bundles.")
    parser.add_argument("--data", type=Path, help="Folder of folders of photographs that are foreign parts as well.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed.")
    given = parser.parse_args()
    out = given.out / ("quick" if given.quick else "full")
    datasets = make_bundles(out, 120 if given.quick else 300)
    sha256, guards = {}, {}
    for name in PRODUCTS:
        from gonogo.inspector import Inspector

        inspector = Inspector.load(out / f"{name}.inspector", replay=False)
        sha256[name] = inspector.bundle_sha256
        guard = None if inspector.drift is None else inspector.drift.guard
        guards[name] = None if guard is None else guard.sentence()
    photographs = _photographs(given.data)
    arrivals = plan(datasets, photographs, 300 if given.quick else 3000, random.Random(given.seed))
    line = out / f"line-{time.strftime('%Y%m%d-%H%M%S')}"
    judged, needed = drive(line, out, arrivals)
    found = figures(judged, line / "products.ledger", sha256)
    print_figures({**found, **needed, "guards": guards, "photographs": sorted(photographs)})


if __name__ == "__main__":
    run(main)
