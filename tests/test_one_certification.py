"""Training, the command and the page are asked the same, of the same data: they answer the same, to the last bit."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gonogo import bundle
from gonogo.bundle import Bundle
from gonogo.certification import EVIDENCE, SCORES, promise_in_force, recertify
from gonogo.cli import app
from gonogo.dataset import Dataset
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.server.background_work import Worker
from gonogo.server.understand.tradeoff import make_tradeoff
from gonogo.workflow import TrainingOptions, train_inspector
from server_kit import Browser, make_app

LIMITS = {"max_escape": 0.12, "max_overkill": 0.1, "bad_share": 0.05}
ASKED = Promise(**LIMITS, per_kind=True)


@pytest.fixture(scope="module")
def made(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "disc.inspector"
    train_inspector(discs, out, TrainingOptions(size_wh=(96, 64), promise=ASKED))
    return out


def said(opened: Bundle) -> dict[str, Any]:
    """Everything that a certification put into a bundle, but what the one before has to do with it."""
    evidence = json.loads(opened.data(EVIDENCE))
    del evidence["validity"]["certified_at"]  # each certification starts anew
    scores = json.loads(opened.data(SCORES))
    for row in scores["calibrate"]:
        del row["state"]  # under the thresholds before
    golden = sorted((each.file, each.score, opened.data(each.file)) for each in opened.manifest.golden)
    reference = [opened.data(name) for name in ("drift.json", "taught.npy")]
    return {"evidence": evidence, "scores": scores, "golden": golden, "reference": reference}


@pytest.mark.slow
def test_training_the_command_and_the_page_certify_the_same(made: Path, discs: Dataset, tmp_path: Path) -> None:
    trained = bundle.read_bundle(made)
    assert trained.manifest.operating_point is not None
    assert trained.manifest.operating_point.escape.max_rate == LIMITS["max_escape"]
    commanded = tmp_path / "commanded.inspector"
    shutil.copytree(made, commanded)
    options = [piece for name, value in LIMITS.items() for piece in (f"--{name.replace('_', '-')}", str(value))]
    ran = CliRunner().invoke(app, [COMMAND, str(commanded), str(discs.root), "--per-kind", *options])
    assert ran.exit_code == 0, ran.output
    paged = _by_the_page(made, discs, tmp_path)
    for other in (bundle.read_bundle(commanded), paged):
        assert other.manifest.operating_point == trained.manifest.operating_point
        assert said(other) == said(trained)
        assert len(other.manifest.revisions) == 1


COMMAND = "certify"


def _by_the_page(made: Path, discs: Dataset, tmp_path: Path) -> Bundle:
    """The same limits again, set at the page, which says of those in force what was certified."""
    root = tmp_path / "plant"
    served = make_app(root)
    components = served.state.components
    shutil.copytree(discs.root, components.workspace.datasets / "discs")
    path = components.workspace.bundles / "disc.inspector"
    shutil.copytree(made, path)
    components.workspace.activate("disc.inspector")
    browser = Browser(served)
    browser.login("engineer")
    components.inspectors.refresh()
    _finish(components.worker)
    gauge, known = components.inspectors.in_use(), components.inspectors.pictures()
    assert gauge is not None
    assert known is not None
    tradeoff = make_tradeoff(gauge, known)
    assert tradeoff is not None
    shown = tradeoff.setting(tradeoff.escape_now, tradeoff.overkill_now, [])
    assert shown.in_force
    assert shown.limits == gauge.point
    assert (shown.point.escape, shown.point.overkill) == (gauge.point.escape, gauge.point.overkill)
    evidence = json.loads((path / EVIDENCE).read_bytes())
    assert tradeoff.bad_share == evidence["bad_share"] == LIMITS["bad_share"]
    assert shown.review_rate == evidence["review_rate"]
    assert browser.call("/understand/apply", LIMITS).json() == {"done": True}
    _finish(components.worker)
    components.worker.close()
    return bundle.read_bundle(path)


def _finish(worker: Worker) -> None:
    while worker.busy():
        time.sleep(0.02)


@pytest.mark.slow
def test_there_is_one_promise_with_one_set_of_defaults(made: Path) -> None:
    assert TrainingOptions().promise == Promise()
    assert promise_in_force(bundle.read_bundle(made)) == ASKED


@pytest.mark.slow
def test_a_certification_writes_the_manifest_once_and_judges_each_picture_once(
    discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    judged: list[str] = []
    write, judge = bundle.write_manifest, Inspector.inspect_file
    monkeypatch.setattr(bundle, "write_manifest", lambda root, manifest: written.append(root) or write(root, manifest))
    monkeypatch.setattr(Inspector, "inspect_file", lambda self, path: judged.append(str(path)) or judge(self, path))
    made = train_inspector(discs, tmp_path / "a.inspector", TrainingOptions(size_wh=(96, 64)))
    assert len(written) == 1
    assert len(judged) == len(set(judged)) > 0
    judged.clear()
    recertify(Inspector.load(made.bundle.root), discs)
    assert len(written) == 2
    assert len(judged) == len(set(judged)) > 0
