"""The data sets that `page_times` measures with: many pictures, their predictions, and many revisions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np

from gonogo.dataset import Sample, Split, record_change, write_metadata
from gonogo.dataset.chain import REVISIONS, Revision, identity
from gonogo.dataset.records import locked
from gonogo.images import encode_png
from gonogo.progress import track
from gonogo.schema import Label, OperatingPoint
from gonogo.server import Workspace
from gonogo.server.inspectors.bundles import OpenBundles
from gonogo.server.inspectors.judged import JudgedPicture, stamp_of, write_judged
from gonogo.server.routes import PICTURE

HISTORY = "history"
"""The data set with many revisions."""
_LINKS = 20_000
"""Names of one file; a file system allows a limited number of them."""
_CHANNELS = 64
_BLOCK = 20_000
_SPLITS = (Split.TRAIN, Split.TRAIN, Split.VAL, Split.CALIBRATE, Split.TEST)
_KINDS = ("scratch", "crack", "stain", "missing pin")


def many_pictures(space: Workspace, count: int) -> None:
    """A data set of ``count`` pictures of 640 x 480, half of them labelled, two of each part, 500 in a lot."""
    root = space.datasets / PICTURE["name"]
    (root / PICTURE["file"]).parent.mkdir(parents=True)
    rng = np.random.default_rng(3)
    data = encode_png(np.kron(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)))
    files = [PICTURE["file"], *(f"images/{number * 7919 % 1_000_003:07d}.png" for number in range(1, count))]
    source = root / files[0]
    for number, file in enumerate(track(files, "linking pictures")):
        if number % _LINKS == 0:
            source = root / file
            source.write_bytes(data)
        else:
            (root / file).hardlink_to(source)
    write_metadata(root, [])
    with locked(root):
        record_change(root, [_sample(number, file) for number, file in enumerate(files)], what="upload", who="anna")


def _sample(number: int, file: str) -> Sample:
    labelled = number % 2 == 0
    bad = labelled and number % 10 == 0
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    said = {"labelled_by": ("anna", "ben")[number % 4 // 2], "labelled_at": at.isoformat()} if labelled else {}
    return Sample.model_validate(
        {
            "file_name": file,
            "label": (Label.BAD if bad else Label.GOOD) if labelled else None,
            "defect": _KINDS[number // 10 % 4] if bad else None,
            "part": f"P-{number // 2}",
            "lot": f"L-{number // 500}",
            "split": _SPLITS[number // 2 % 5] if labelled else None,
            "box_xyxy": (9, 9, 99, 99),
            **said,
        }
    )


def predictions(space: Workspace, point: OperatingPoint) -> None:
    """Scores of the inspector in use for all those pictures, as the grid keeps them."""
    opened = OpenBundles(space.signatures).open(space.active_bundle())
    assert opened is not None, "it was activated before"
    root = space.datasets / PICTURE["name"]
    folder = space.root / "cache" / "predictions" / opened.graph[:16] / root.name
    folder.mkdir(parents=True)
    files = [json.loads(line)["file_name"] for line in (root / "metadata.jsonl").read_text().splitlines()]
    rng = np.random.default_rng(4)
    middle = (point.go_below + min(point.no_go_above, point.go_below + 10)) / 2
    for start in range(0, len(files), _BLOCK):
        block = files[start : start + _BLOCK]
        scores = rng.normal(middle, 2, len(block))
        vectors = rng.normal(size=(len(block), _CHANNELS)).astype(np.float32)
        rows = [
            JudgedPicture(file=file, stamp=stamp_of(root / file), score=float(score), box_xyxy=None)
            for file, score in zip(block, scores, strict=True)
        ]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        write_judged(folder / f"{start // _BLOCK + 1:06d}.npz", rows, vectors)


def many_revisions(space: Workspace, count: int) -> None:
    """A data set of 200 pictures with ``count`` revisions, each of which changed one label."""
    root = space.datasets / HISTORY
    root.mkdir(parents=True)
    samples = [Sample(file_name=f"images/{number:03d}.png", box_xyxy=(9, 9, 99, 99)) for number in range(200)]
    write_metadata(root, [])
    with locked(root):
        last = record_change(root, samples, what="upload", who="anna")
    assert last is not None
    lines, before = [], last
    for number in range(2, count + 1):
        place = number % len(samples)
        changed = samples[place].model_copy(update={"label": Label.GOOD if number // 200 % 2 else Label.BAD})
        samples[place] = changed
        before = _relabelled(before, number, changed)
        lines.append(before.model_dump_json().encode() + b"\n")
    with locked(root), (root / REVISIONS).open("ab") as file:
        file.writelines(lines[:-1])
    write_metadata(root, samples)
    with locked(root):  # the records now differ from the last revision written: this adds the one that describes them
        record_change(root, [*samples[1:], samples[0]], what="label", who="ben")


def _relabelled(before: Revision, number: int, sample: Sample) -> Revision:
    """The revision that follows, with the label of one picture changed."""
    body = json.loads(before.model_dump_json())
    body |= {
        "number": number,
        "previous": before.sha256,
        "who": "anna",
        "what": "label",
        "counts": {"relabelled": 1},
        "changed": [sample.model_dump(mode="json")],
        "removed": [],
        "files": {},
        "order": None,
    }
    return Revision.model_validate(body | {"sha256": identity(body)})
