from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import bundle as bundles
from gonogo import operating_point as points
from gonogo.certification import EVIDENCE, SCORES, recertify, recount
from gonogo.certification.procedure import derived_point
from gonogo.certification.scores import read_scores
from gonogo.cli import app
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError, UnfitError
from gonogo.inspector import Inspector
from gonogo.manifest import Manifest
from gonogo.operating_point import Costs, Promise
from gonogo.report import qualification
from gonogo.report.qualification import Qualification, examine_bundle, print_pdf, write_qualification
from gonogo.schema import Label
from tiny_bundle import make_bundle, make_parts

VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that tags close in order; collects text and sources."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.feed(html)
        assert not self.open, self.open
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " * (tag in {"td", "th"})

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("gauge")
    dataset = make_parts(folder / "parts", np.random.default_rng(7))
    bundle = folder / "tiny.inspector"
    make_bundle(bundle, dataset)
    request = Promise(max_escape=0.1, max_overkill=0.1, guard=0.05, bad_share=0.02, per_kind=True, joint=False)
    recertify(Inspector.load(bundle), dataset, request)
    return bundle, dataset


@pytest.fixture(scope="module")
def examined(made: tuple[Path, Dataset]) -> Qualification:
    return examine_bundle(Inspector.load(made[0]), made[1])


def write(found: Qualification, bundle: Path, dataset: Dataset, path: Path) -> Page:
    write_qualification(found, Inspector.load(bundle), dataset, path)
    return Page(path.read_text())


@pytest.fixture
def page(made: tuple[Path, Dataset], examined: Qualification, tmp_path: Path) -> Page:
    return write(examined, *made, tmp_path / "q.html")


def failed(found: Qualification) -> list[str]:
    return [finding.what for finding in found.findings if not finding.passed]


@pytest.mark.slow
def test_a_sound_gauge_qualifies(examined: Qualification) -> None:
    assert failed(examined) == []
    assert examined.qualified


def test_every_section_an_auditor_asks_for_is_there(page: Page, made: tuple[Path, Dataset]) -> None:
    gauge = Inspector.load(made[0])
    point = gauge.operating_point
    assert point is not None
    for text in (
        "1. Scope",
        "2. Defect catalogue",
        "crack (88)",
        "hole (87)",
        "3. Limit samples",
        "Nearest to the go threshold",
        "Nearest to the no-go threshold",
        "4. Data, splits and leakage",
        "No leakage.",
        "5. Operating point and calibration",
        "By defect kind",
        "6. Test",
        "lower end of the exact interval",
        "7. Review load and speed",
        "99th percentile, ms",
        "processor",
        "8. After release: the drift plan",
        "Out-of-distribution check. A part at a distance above",
        "9. When to qualify again",
        "10. Hashes",
        "11. Release",
        "Date and signature",
        gauge.bundle_sha256,
        point.scores_sha256,
        point.data_fingerprint,
        "calibrate 200 100 100 200 10",
        "classifier.bin",
    ):
        assert text in page.text, text


def test_the_page_needs_nothing_beside_itself(page: Page) -> None:
    assert len(page.sources) > 10
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not page.tags & {"script", "link", "iframe"}


def test_hostile_names_stay_text(made: tuple[Path, Dataset], examined: Qualification, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>{{7*7}}"
    bundle = tmp_path / "<b>bold.inspector"
    shutil.copytree(made[0], bundle)
    samples = [s.model_copy(update={"defect": evil}) if s.defect == "crack" else s for s in made[1].samples]
    page = write(examined, bundle, Dataset(root=made[1].root, samples=tuple(samples)), tmp_path / "q.html")
    assert not page.tags & {"script", "b"}
    assert evil in page.text
    assert "<b>bold.inspector" in page.text


@pytest.mark.slow
def test_a_test_that_contradicts_the_promise_does_not_qualify(made: tuple[Path, Dataset]) -> None:
    flipped = [
        s.model_copy(update={"label": Label.BAD if s.label is Label.GOOD else Label.GOOD, "defect": None})
        if s.split is Split.TEST
        else s
        for s in made[1].samples
    ]
    found = examine_bundle(Inspector.load(made[0]), Dataset(root=made[1].root, samples=tuple(flipped)))
    assert failed(found) == ["Test does not contradict the escape limit", "Test does not contradict the overkill limit"]


@pytest.mark.slow
def test_a_leak_does_not_qualify(made: tuple[Path, Dataset]) -> None:
    leaking = [s.model_copy(update={"part": "train-0"}) if s.part == "test-0" else s for s in made[1].samples]
    assert failed(examine_bundle(Inspector.load(made[0]), Dataset(root=made[1].root, samples=tuple(leaking)))) == [
        "No part in two splits"
    ]


@pytest.mark.slow
def test_calibration_parts_counted_several_times_do_not_qualify(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    fewer = Dataset(root=made[1].root, samples=made[1].samples[:-61])  # neither the last calibrate part nor the test
    fewer = Dataset(root=made[1].root, samples=(*fewer.samples, *made[1].split(Split.TEST)))
    assert failed(examine_bundle(Inspector.load(made[0]), fewer)) == [
        "Calibration scores can be reproduced",
        "Calibration data unchanged",
    ]


@pytest.mark.slow
def test_what_was_refused_or_never_certified_does_not_qualify(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    never = make_bundle(tmp_path / "never.inspector", made[1]).root
    found = examine_bundle(Inspector.load(never), made[1])
    assert "Certified limits" in failed(found)
    assert "Not set: the bundle has no drift limits." in write(found, never, made[1], tmp_path / "q.html").text
    recertify(Inspector.load(never), made[1], Promise(max_escape=0.01, max_overkill=0.01))
    refused = examine_bundle(Inspector.load(never), made[1])
    assert failed(refused) == ["Escape limit certified", "Overkill limit certified"]
    assert "no threshold is certified" in write(refused, never, made[1], tmp_path / "q.html").text.lower()


def revise(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a copied bundle's manifest and seal it again, as whoever can write the folder may."""
    record = json.loads((copy / bundles.MANIFEST).read_text())
    change(record)
    bundles.write_manifest(copy, Manifest.model_validate_json(json.dumps(record)))


def _manifest(copy: Path) -> Manifest:
    return Manifest.model_validate_json((copy / bundles.MANIFEST).read_bytes())


@pytest.fixture
def copy(made: tuple[Path, Dataset], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "copy.inspector")
    return tmp_path / "copy.inspector"


@pytest.mark.slow
def test_a_threshold_that_was_edited_and_sealed_again_does_not_qualify(
    made: tuple[Path, Dataset], copy: Path, tmp_path: Path
) -> None:
    point = Inspector.load(copy).operating_point
    assert point is not None
    assert point.escape.allowed is not None
    rows = json.loads((copy / SCORES).read_text())["calibrate"]
    bad = sorted(row["score"] for row in rows if row["label"] == "bad")
    bolder = bad[point.escape.allowed + 2]  # two more bad parts lie below it
    revise(copy, lambda record: record["operating_point"].update(go_below=bolder))
    found = examine_bundle(Inspector.load(copy), made[1])
    assert failed(found) == ["Thresholds match the stored scores"]
    (detail,) = (each.detail for each in found.findings if not each.passed)
    assert f"go_below: the bundle has {bolder!r}" in detail
    assert "of 100 bad parts lie below go, at most" in detail
    assert "who changed the bundle" in write(found, copy, made[1], tmp_path / "q.html").text


@pytest.mark.slow
def test_a_claim_for_a_kind_that_was_edited_does_not_qualify(made: tuple[Path, Dataset], copy: Path) -> None:
    evidence = json.loads((copy / EVIDENCE).read_text())
    evidence["kinds"]["crack"]["max_rate"] = 0.01
    (copy / EVIDENCE).write_text(json.dumps(evidence))
    bundles.write_manifest(copy, _manifest(copy))
    assert failed(examine_bundle(Inspector.load(copy), made[1])) == ["Thresholds match the stored scores"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_",
    [
        Promise(max_escape=0.1, max_overkill=0.1, joint=False, costs=Costs(escape=500, overkill=5, review=1)),
        Promise(max_escape=0.4, max_overkill=0.4, joint=False),  # thresholds that cross and meet
        Promise(max_escape=0.1, max_overkill=0.1, joint=True, merge_near_duplicates=True),
        Promise(max_escape=0.001, max_overkill=0.1),
    ],
)
def test_whatever_was_asked_the_thresholds_are_derived_again(
    made: tuple[Path, Dataset], copy: Path, request_: Promise
) -> None:
    operated = recertify(Inspector.load(copy), made[1], request_, force=True)
    found = recount(Inspector.load(copy), made[1])
    assert found is not None
    assert found.thresholds == found.scores == ()
    assert found.pictures == (260 if request_.costs else 200)
    if request_.max_escape == 0.4:
        assert operated.point.go_below == operated.point.no_go_above
    revise(copy, lambda record: record["operating_point"]["escape"].update(best_rate=0.02))
    found = recount(Inspector.load(copy), made[1])
    assert found is not None
    assert found.thresholds


@pytest.mark.slow
def test_stored_scores_that_are_not_those_of_the_pictures_do_not_qualify(
    made: tuple[Path, Dataset], copy: Path
) -> None:
    def higher(record: dict[str, Any]) -> None:
        """Loosen the threshold and edit the evidence to match."""
        for row in record["calibrate"]:
            row["score"] += 5.0 * (row["label"] == "bad")

    record = json.loads((copy / SCORES).read_text())
    higher(record)
    (copy / SCORES).write_text(json.dumps(record))
    bundles.write_manifest(copy, _manifest(copy))
    stored = read_scores(bundles.read_bundle(copy))
    assert stored is not None
    request = Promise(max_escape=0.1, max_overkill=0.1, guard=0.05, bad_share=0.02, per_kind=True, joint=False)
    point, _ = derived_point(stored.evaluation(Split.VAL), stored.evaluation(Split.CALIBRATE), request, 0.02)
    revise(copy, lambda record: record.update(operating_point=points.to_json(point)))
    found = examine_bundle(Inspector.load(copy), made[1])
    assert failed(found) == ["Calibration scores can be reproduced"]
    (detail,) = (each.detail for each in found.findings if not each.passed)
    assert "then" in detail
    assert "and 96 more" in detail


def test_a_part_stored_as_several_does_not_qualify(made: tuple[Path, Dataset], copy: Path) -> None:
    one = [
        s.model_copy(update={"part": "calibrate-1"}) if s.part in ("calibrate-3", "calibrate-5") else s
        for s in made[1].samples
    ]
    found = recount(Inspector.load(copy), Dataset(root=made[1].root, samples=tuple(one)))
    assert found is not None
    assert found.scores == tuple(
        f"images/calibrate-{number:03d}.png: part calibrate-1 is counted as several parts" for number in (3, 5)
    )


@pytest.mark.slow
def test_a_bundle_without_stored_scores_is_told_so_and_does_not_qualify(made: tuple[Path, Dataset], copy: Path) -> None:
    (copy / SCORES).unlink()
    bundles.write_manifest(copy, _manifest(copy))
    found = examine_bundle(Inspector.load(copy), made[1])
    assert failed(found) == ["Thresholds match the stored scores"]
    (detail,) = (each.detail for each in found.findings if not each.passed)
    assert "no stored calibration scores" in detail
    assert "Run gonogo certify." in detail


@pytest.mark.slow
def test_the_command_writes_the_page_and_exits_with_1_where_it_does_not_qualify(
    made: tuple[Path, Dataset], tmp_path: Path
) -> None:
    out = tmp_path / "q.html"
    good = CliRunner().invoke(app, ["qualify", str(made[0]), str(made[1].root), "--out", str(out)])
    assert good.exit_code == 0
    assert out.is_file()
    never = make_bundle(tmp_path / "never.inspector", made[1]).root
    bad = CliRunner().invoke(app, ["qualify", str(never), str(made[1].root), "--out", str(out)])
    assert isinstance(bad.exception, UnfitError)
    assert "FAIL  Certified limits" in bad.stdout


def test_without_a_browser_the_pdf_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qualification.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="Install chromium"):
        print_pdf(tmp_path / "q.html", tmp_path / "q.pdf")
    assert not (tmp_path / "q.pdf").exists()


@pytest.mark.pages
def test_a_browser_prints_the_page(page: Page, tmp_path: Path) -> None:
    print_pdf(tmp_path / "q.html", tmp_path / "q.pdf")
    assert (tmp_path / "q.pdf").read_bytes().startswith(b"%PDF")
