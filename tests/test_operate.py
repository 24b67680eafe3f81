from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import bundle
from gonogo.certification import EVIDENCE, recertify
from gonogo.certification.trust import merged
from gonogo.cli import app
from gonogo.dataset import Dataset, Split
from gonogo.dataset.records import Sample
from gonogo.errors import DatasetError, UnfitError
from gonogo.evaluate import evaluate
from gonogo.inspector import Inspector
from gonogo.operating_point import Costs, Promise
from gonogo.report.tradeoff import write_tradeoff
from gonogo.schema import Label, State
from tiny_bundle import make_bundle, make_parts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("gauge")
    dataset = make_parts(folder / "parts", np.random.default_rng(3))
    make_bundle(folder / "tiny.inspector", dataset)
    return folder / "tiny.inspector", dataset


@pytest.fixture
def gauge(made: tuple[Path, Dataset], tmp_path: Path) -> Inspector:
    shutil.copytree(made[0], tmp_path / "tiny.inspector")
    return Inspector.load(tmp_path / "tiny.inspector")


ASKED = Promise(max_escape=0.05, max_overkill=0.05)


@pytest.mark.slow
def test_operate_writes_a_revision_and_leaves_the_graph_alone(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    before = {name: (gauge.path / name).read_bytes() for name in ("classifier.xml", "classifier.bin")}
    first = recertify(gauge, made[1], ASKED)
    assert not first.refusals
    assert first.bundle.manifest.revisions == ()
    second = recertify(Inspector.load(gauge.path), made[1], Promise(max_escape=0.1, max_overkill=0.1))
    manifest = bundle.read_bundle(gauge.path).manifest
    assert [revision.bundle_sha256 for revision in manifest.revisions] == [first.bundle.sha256]
    assert manifest.operating_point == second.point != first.point
    assert {name: (gauge.path / name).read_bytes() for name in before} == before
    assert Inspector.load(gauge.path).bundle_sha256 == second.bundle.sha256


@pytest.mark.slow
def test_golden_frames_are_chosen_again_beside_both_thresholds_and_of_every_kind(
    gauge: Inspector, made: tuple[Path, Dataset]
) -> None:
    for request in (ASKED, Promise(max_escape=0.2, max_overkill=0.05, joint=False)):
        point = recertify(Inspector.load(gauge.path), made[1], request).point
        opened = bundle.read_bundle(gauge.path)
        scores = {each.file.removeprefix("golden/").removesuffix(".png"): each.score for each in opened.manifest.golden}
        assert {f"golden/{name}.png" for name in scores} == {n for n in opened.digests if n.startswith("golden/")}
        judged = evaluate(Inspector.load(gauge.path), made[1], (Split.VAL, Split.CALIBRATE), with_regions=False)
        for line in (point.go_below, point.no_go_above):
            seen = [picture.score for picture in judged.pictures if picture.score is not None]
            assert max(score for score in seen if score < line) in scores.values()
            assert min(score for score in seen if score >= line) in scores.values()
        for kind in ("crack", "hole"):
            least = min(p.score for p in judged.pictures if p.defect == kind and p.score is not None)
            assert least in scores.values()


@pytest.mark.slow
def test_the_certificate_names_its_scores_its_data_and_how_it_was_chosen(
    gauge: Inspector, made: tuple[Path, Dataset]
) -> None:
    point = recertify(gauge, made[1], ASKED).point
    calibrate = evaluate(gauge, made[1], (Split.CALIBRATE,))
    assert not point.joint
    assert (point.escape.parts, point.overkill.parts) == (100, 100)
    assert point.data_fingerprint == calibrate.data_fingerprint
    assert len(point.scores_sha256) == 64
    evidence = json.loads((gauge.path / EVIDENCE).read_bytes())
    assert evidence["calibrate"] == {
        "pictures": 200,
        "parts_good": 100,
        "parts_bad": 100,
        "lots": 10,
        "pictures_without_part": 0,
        "pictures_without_lot": 0,
    }
    assert {row["max_escape"] for row in evidence["tradeoff"] if row["certifiable"]} >= {0.05, 0.1, 0.3}
    assert not evidence["warnings"]


@pytest.mark.slow
def test_what_cannot_be_certified_sends_everything_to_review(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    found = recertify(gauge, made[1], Promise(max_escape=0.01, joint=True))
    assert found.point.escape.parts_missing == 268
    assert (found.point.go_below, found.point.no_go_above) == (-math.inf, math.inf)
    assert found.review_rate == 1.0
    judged = evaluate(Inspector.load(gauge.path), made[1], (Split.TEST,))
    assert {part.state for part in judged.parts} == {State.REVIEW}


@pytest.mark.slow
def test_the_refusal_on_the_command_line_says_what_is_missing_and_exits_with_1(
    gauge: Inspector, made: tuple[Path, Dataset]
) -> None:
    asked = ["--max-escape", "0.01", "--joint", "--json"]
    result = CliRunner().invoke(app, ["certify", str(gauge.path), str(made[1].root), *asked])
    assert isinstance(result.exception, UnfitError)
    for text in ("268 more are needed", "These can certify 3.63 %", "every part goes to review"):
        assert text in str(result.exception)
    told = json.loads(result.stdout)
    assert told["certified"] is False
    assert told["operating_point"]["go_below"] is None
    assert bundle.read_bundle(gauge.path).sha256 == told["bundle_sha256"]


@pytest.mark.slow
def test_the_promise_and_the_review_rate_are_printed(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    command = ["certify", str(gauge.path), str(made[1].root), "--joint"]
    result = CliRunner().invoke(
        app, [*command, "--bad-share", "0.1", "--tradeoff", str(gauge.path.parent / "tradeoff.html")]
    )
    assert result.exit_code == 0
    for text in (
        "At most 5 % of bad parts escape",
        "Both rates hold jointly",
        "if 10.0% of them are bad, as given by --bad-share",
    ):
        assert text in result.stdout
    assert "<svg" in (gauge.path.parent / "tradeoff.html").read_text()


@pytest.mark.slow
def test_each_kind_lowers_the_go_line_or_is_named_as_lacking(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    each = Promise(max_escape=0.1, max_overkill=0.1, joint=False)
    plain = recertify(gauge, made[1], each).point
    rarer = [
        sample.model_copy(update={"defect": "chip"})
        if sample.label is Label.BAD and sample.split is Split.CALIBRATE and i % 20 == 1
        else sample
        for i, sample in enumerate(made[1].samples)
    ]
    dataset = Dataset(root=made[1].root, samples=tuple(rarer))
    found = recertify(
        Inspector.load(gauge.path), dataset, Promise(max_escape=0.1, max_overkill=0.1, joint=False, per_kind=True)
    )
    assert found.kinds is not None
    assert {kind: claim.holds for kind, claim in found.kinds.claims.items()} == {
        "chip": False,
        "crack": True,
        "hole": True,
    }
    assert found.refusals == ("No escape limit is certified for defect kind chip: 19 more bad parts of it are needed.",)
    assert found.point.go_below < plain.go_below


@pytest.mark.slow
def test_costs_choose_the_limits_on_val_and_calibrate_certifies_them(
    gauge: Inspector, made: tuple[Path, Dataset]
) -> None:
    def chosen(costs: Costs) -> tuple[float, float]:
        asked = Promise(max_escape=0.3, max_overkill=0.3, costs=costs, bad_share=0.05)
        point = recertify(Inspector.load(gauge.path), made[1], asked).point
        assert point.escape.holds
        assert point.overkill.holds
        return point.escape.max_rate, point.overkill.max_rate

    careful = chosen(Costs(escape=100_000, overkill=5, review=1))
    careless = chosen(Costs(escape=0, overkill=0, review=1))
    assert careful[0] <= careless[0]
    assert careful[0] == 0.03


@pytest.mark.slow
def test_the_limits_do_not_depend_on_the_calibration_scores(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    costs = Promise(max_escape=0.3, max_overkill=0.3, costs=Costs(escape=500, overkill=5, review=1), bad_share=0.05)
    usual = recertify(gauge, made[1], costs).point
    # The same numbers of good and bad calibration parts, but every picture judged is another part's.
    calibrate = made[1].split(Split.CALIBRATE)
    flipped = {s.file_name: Label.GOOD if s.label is Label.BAD else Label.BAD for s in calibrate}
    swapped = [s.model_copy(update={"label": flipped.get(s.file_name, s.label)}) for s in made[1].samples]
    other = recertify(Inspector.load(gauge.path), Dataset(root=made[1].root, samples=tuple(swapped)), costs).point
    assert (usual.escape.max_rate, usual.overkill.max_rate) == (other.escape.max_rate, other.overkill.max_rate)
    assert usual.go_below != other.go_below


@pytest.mark.parametrize("text", ["escape=1", "escape=1,overkill=2,review=x", "escape=1,overkill=2,escape=3", "1,2,3"])
def test_malformed_costs_are_refused(gauge: Inspector, made: tuple[Path, Dataset], text: str) -> None:
    result = CliRunner().invoke(app, ["certify", str(gauge.path), str(made[1].root), "--costs", text])
    assert "expected escape=NUMBER" in str(result.exception)


def test_a_part_that_was_taught_cannot_certify(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    first = made[1].samples[0]
    leaking = [
        sample.model_copy(update={"part": first.part}) if sample.file_name == "images/calibrate-000.png" else sample
        for sample in made[1].samples
    ]
    with pytest.raises(DatasetError, match="in calibrate and in train or val"):
        recertify(gauge, Dataset(root=made[1].root, samples=tuple(leaking)), ASKED)


def test_another_data_set_than_the_one_trained_on_certifies_nothing(
    gauge: Inspector, made: tuple[Path, Dataset]
) -> None:
    before = bundle.read_bundle(gauge.path).sha256
    fewer = Dataset(root=made[1].root, samples=made[1].samples[1:])
    with pytest.raises(DatasetError, match="It cannot certify this inspector"):
        recertify(gauge, fewer, ASKED)
    assert bundle.read_bundle(gauge.path).sha256 == before


@pytest.mark.slow
def test_merged_groups_count_as_one_part_with_the_worst_score(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    judged = evaluate(gauge, made[1], (Split.CALIBRATE,))
    files = [picture.file for picture in judged.pictures]
    together = merged(judged, ((files[0], files[2]), (files[2], files[4])))
    assert len(together.parts) == len(judged.parts) - 2
    scores = [picture.score for picture in judged.pictures if picture.file in {files[0], files[2], files[4]}]
    assert together.parts[0].score == max(score for score in scores if score is not None)


@pytest.mark.slow
def test_pictures_of_unnamed_parts_are_searched_for_copies(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    nameless = [
        sample.model_copy(update={"part": None}) if sample.split is Split.CALIBRATE else sample
        for sample in made[1].samples
    ]
    warnings = recertify(gauge, Dataset(root=made[1].root, samples=tuple(nameless)), ASKED).warnings
    assert any("200 calibration pictures have no part name" in warning for warning in warnings)


@pytest.mark.slow
def test_the_dial_is_drawn_as_a_bare_picture_too(gauge: Inspector, made: tuple[Path, Dataset], tmp_path: Path) -> None:
    write_tradeoff(recertify(gauge, made[1], ASKED), tmp_path / "tradeoff.svg", bundle_name="tile.inspector")
    drawn = (tmp_path / "tradeoff.svg").read_text()
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert drawn.count("<circle") == 13  # twelve settings and the gauge
    assert 'class="mark go"' in drawn


@pytest.mark.slow
def test_a_sample_without_label_is_left_out(gauge: Inspector, made: tuple[Path, Dataset]) -> None:
    extra = Sample(file_name="images/nowhere.png", label=None, split=Split.CALIBRATE)
    found = recertify(gauge, Dataset(root=made[1].root, samples=(*made[1].samples, extra)), ASKED)
    assert found.point.escape.parts == 100
