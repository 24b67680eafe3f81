"""Write the files of gonogo 0.1.0 that tests/test_old_formats.py opens, with the code of that version.

git archive 4ca0c7a src tests | tar -x -C OLD
PYTHONPATH=OLD/src:OLD/tests python tests/old_formats/write_0_1_0.py tests/old_formats/0.1.0.tar.xz
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import gonogo
from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.judged import record_judged
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Action, Ledger, publish_anchor
from gonogo.schema import Label
from gonogo.server.access import Role
from gonogo.station import EXAMPLE
from gonogo.station.backlog import Backlog, Owed
from gonogo.station.messages import Cause, Trigger
from server_kit import make_app, record, record_fault
from tiny_bundle import BAD_RED, GOOD_RED, make_bundle, make_frame


def dataset(root: Path, rng: np.random.Generator) -> Dataset:
    """Eight pictures of four splits, half of them bad."""
    (root / "images").mkdir(parents=True)
    samples = []
    for split in Split:
        for bad in (False, True):
            name = f"images/{split.value}-{'bad' if bad else 'good'}.png"
            (root / name).write_bytes(encode_png(make_frame(BAD_RED if bad else GOOD_RED, rng)))
            label, defect = (Label.BAD, "crack") if bad else (Label.GOOD, None)
            part = f"{split.value}-{int(bad)}"
            samples.append(Sample(file_name=name, label=label, defect=defect, part=part, lot="L-1", split=split))
    made = Dataset(root=root, samples=tuple(samples))
    made.write()
    record_judged(made, (Split.TEST,))
    return made


def workspace(root: Path) -> None:
    """People, a token, a data set, a bundle in use, and a ledger with a verdict of each state and a review."""
    rng = np.random.default_rng(5)
    app = make_app(root)
    services = app.state.services
    services.sessions.issue("line 1", Role.OPERATOR, days=366, created_by="admin")
    made = dataset(root / "datasets" / "tile", rng)
    make_bundle(root / "bundles" / "tiny.inspector", made)
    judge = Inspector.load(root / "bundles" / "tiny.inspector")
    (root / "active").write_text("bundles/tiny.inspector\n")
    with Ledger.open(root / "ledger" / "line.ledger") as ledger:
        for number, red in enumerate((GOOD_RED, (GOOD_RED + BAD_RED) / 2, BAD_RED)):
            record(ledger, number, red, rng=rng, judge=judge, bundle="bundles/tiny.inspector")
        record_fault(ledger, 3)
        (last,) = ledger.verdicts(newest_first=True, limit=1)
        ledger.append_action(Action(action=REVIEW, who="ana", about=last.seq - 1, label=Label.BAD, defect="crack"))
        publish_anchor(ledger, root.parent / "anchors.txt")
    services.people.close()


def station(root: Path) -> None:
    """The settings of a station, and a fault that it had answered but not yet recorded."""
    (root / "state").mkdir(parents=True)
    (root / "station.toml").write_text(EXAMPLE)
    backlog = Backlog(root / "state" / "unrecorded.jsonl")
    trigger = Trigger(id="t9", part="P-9", lot="L-7", at=datetime.now(UTC), due_s=1.0)
    backlog.add(Owed(trigger=trigger, cause=Cause.CAMERA_LOST, reason="no camera", answered=True))


def main(out: Path) -> None:
    """Write everything to one archive."""
    assert gonogo.__version__ == "0.1.0", gonogo.__file__
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "0.1.0"
        root.mkdir()
        workspace(root / "workspace")
        station(root / "line")
        with tarfile.open(out, "w:xz") as archive:
            archive.add(root, arcname=".")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
