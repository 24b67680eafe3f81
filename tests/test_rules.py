"""Rules beside the score: what they may do to a verdict, when they may reject, and that the promise survives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gonogo import bundle as bundles
from gonogo.bundle import Bundle
from gonogo.certification import recertify, recount
from gonogo.cli.checks_file import read_checks
from gonogo.config import Checks, InspectZone, PictureHealth, Recipe, Rule, Scale
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.errors import InputError
from gonogo.evaluate.verdicts import Verdicts
from gonogo.heatmap import HeatScale
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import View
from gonogo.operating_point import Promise, certified_point, from_json, to_json
from gonogo.rules import apply_rules, draw_findings, rules_digest, set_checks
from gonogo.schema import Frame, Label, Prediction, State
from gonogo.testing import write_fake_bundle

NOW = "2026-01-01T00:00:00+00:00"
SIZE_WH = (128, 128)
SCALE = Scale(mm_per_px=0.1, relative_error=0.0, size_wh=SIZE_WH)


def rule(limit: float = 5.0, *, then: str = "review", **more: object) -> Rule:
    return Rule.model_validate({"name": "long scratch", "longer_than_mm": limit, "then": then, **more})


def plate(length: int, *, red: int = 60, seed: int = 0) -> Frame:
    """A plate of 12.8 mm with a red scratch; the fake bundle's score is its mean red value minus 128."""
    rng = np.random.default_rng(seed)
    frame = np.full((*SIZE_WH[::-1], 3), (red, 90, 90), np.int64)
    if length:
        frame[67:77, 64 - length // 2 : 64 - length // 2 + length, 0] = 255
    return np.clip(frame + rng.integers(-2, 3, frame.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def opened(tmp_path: Path) -> Bundle:
    """The fake bundle with a scale on which the scratch is hot."""
    made = write_fake_bundle(tmp_path / "plate.inspector")
    scale = HeatScale(cold=150.0, hot=180.0)
    return bundles.write_manifest(made.root, made.manifest.model_copy(update={"heat_scale": scale}))


def judging(opened: Bundle, checks: Checks) -> Inspector:
    return Inspector.load(set_checks(opened, checks, now=NOW).bundle.root)


def test_a_long_scratch_on_a_go_goes_to_review_and_a_short_one_is_noted(opened: Bundle) -> None:
    inspector = judging(opened, Checks(scale=SCALE, rules=(rule(),)))
    long, short, none = (inspector.inspect(plate(length)) for length in (80, 30, 0))
    assert long.state is State.REVIEW
    assert "long scratch: 8." in long.reason
    assert "otherwise score" in long.reason
    assert long.measurements[0].length_mm == pytest.approx(8.0, abs=0.3)
    assert short.state is State.GO
    assert short.measurements[0].length_mm == pytest.approx(3.0, abs=0.2)
    assert short.notes[0].startswith("long scratch: ")
    assert none.state is State.GO
    assert none.notes == ()


def test_a_defect_that_may_exceed_the_limit_goes_to_review(opened: Bundle) -> None:
    inspector = judging(opened, Checks(scale=SCALE, rules=(rule(8.1),)))
    verdict = inspector.inspect(plate(80))
    assert verdict.measurements[0].length_mm < 8.1 + 0.1
    assert verdict.state is State.REVIEW


def test_a_rule_never_makes_a_verdict_better(opened: Bundle) -> None:
    inspector = judging(opened, Checks(scale=SCALE, rules=(rule(50.0),)))
    assert inspector.inspect(plate(30, red=200)).state is State.NO_GO
    assert inspector.inspect(plate(30, red=125)).state is State.REVIEW


def test_a_zone_limits_a_rule_to_its_defects(opened: Bundle) -> None:
    corner = InspectZone(kind="inspect", name="corner", polygon=((0, 0), (0.3, 0), (0.3, 0.3), (0, 0.3)))
    middle = InspectZone(kind="inspect", name="middle", polygon=((0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7)))
    inspector, frame = judging(opened, Checks(scale=SCALE)), plate(80)
    verdict = inspector.inspect(frame)
    for zone, state in (("corner", State.GO), ("middle", State.REVIEW)):
        recipe = inspector.recipe.model_copy(update={"zones": (corner, middle), "rules": (rule(zone=zone),)})
        found = apply_rules(
            verdict,
            frame,
            recipe,
            heat_scale=inspector.heat_scale,
            point=inspector.operating_point,
            size_wh=frame.shape[1::-1],
        )
        assert found.state is state
    with pytest.raises(InputError, match="name of a zone"):
        set_checks(opened, Checks(scale=SCALE, rules=(rule(zone="nowhere"),)), now=NOW)


def test_a_picture_of_another_size_is_not_measured_and_does_not_pass_a_rule(opened: Bundle) -> None:
    inspector = judging(opened, Checks(scale=SCALE, rules=(rule(),)))
    verdict = inspector.inspect(np.ascontiguousarray(plate(30)[:100]))
    assert verdict.state is State.REVIEW
    assert "not measured" in verdict.reason


def test_a_rule_that_rejects_takes_the_thresholds_away_until_it_is_certified(opened: Bundle) -> None:
    made = set_checks(opened, Checks(scale=SCALE, rules=(rule(then="no_go"),)), now=NOW)
    assert not made.point_kept
    assert made.bundle.manifest.operating_point is None
    assert len(made.bundle.manifest.revisions) == 1
    verdict = Inspector.load(made.bundle.root).inspect(plate(80))
    assert verdict.state is State.REVIEW
    assert verdict.rejected_by_rule
    back = set_checks(made.bundle, Checks(scale=SCALE, rules=(rule(),)), now=NOW)
    assert back.bundle.manifest.operating_point is None  # what is lost comes back by certifying only


@pytest.mark.slow
def test_rules_changed_behind_the_back_of_the_certificate_send_every_part_to_review(opened: Bundle) -> None:
    recipe = Checks(scale=SCALE, rules=(rule(then="no_go"),)).within(opened.manifest.recipe)
    point = opened.manifest.operating_point
    assert point is not None
    digest = rules_digest(recipe, opened.manifest.heat_scale)
    certified = opened.manifest.model_copy(
        update={"recipe": recipe, "operating_point": replace(point, rules_sha256=digest)}
    )
    sealed = bundles.write_manifest(opened.root, certified)
    assert Inspector.load(sealed.root).inspect(plate(80)).state is State.NO_GO
    assert Inspector.load(sealed.root).inspect(plate(0)).state is State.GO
    for rules in ((rule(3.0, then="no_go"),), (rule(),), ()):
        changed = Checks(scale=SCALE, rules=rules).within(recipe)
        tampered = bundles.write_manifest(sealed.root, certified.model_copy(update={"recipe": changed}))
        for frame in (plate(80), plate(0), plate(0, red=200)):
            verdict = Inspector.load(tampered.root).inspect(frame)
            assert verdict.state is State.REVIEW
            assert "changed after certification" in verdict.reason


def test_the_digest_is_stored_with_the_operating_point_and_old_records_have_none(opened: Bundle) -> None:
    point = opened.manifest.operating_point
    assert point is not None
    stored = to_json(replace(point, rules_sha256="a" * 64))
    assert from_json(stored).rules_sha256 == "a" * 64
    del stored["rules_sha256"]
    assert from_json(stored).rules_sha256 == ""


def test_checks_that_do_not_fit_the_bundle_are_refused(opened: Bundle) -> None:
    with pytest.raises(InputError, match="kind: expected no kind"):
        set_checks(opened, Checks(scale=SCALE, rules=(rule(kind="crack"),)), now=NOW)
    with pytest.raises(InputError, match=r"\[scale\]"):
        set_checks(opened, Checks(rules=(rule(),)), now=NOW)
    with pytest.raises(InputError, match="violates the new limits"):
        set_checks(opened, Checks(health=PictureHealth(darkest=255.0)), now=NOW)
    for wrong in ({"longer_than_mm": None}, {"wider_than_mm": 1.0}, {"then": "no_go", "kind": "crack"}):
        with pytest.raises(ValueError, match="expected"):
            rule(**wrong)  # type: ignore[arg-type]
    assert opened.manifest.operating_point is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[rules]]\nname = "x"\nlonger_than_mm = 2\nthen = "go"\n', "rules.0.then"),
        ('[[rules]]\nname = "x"\nlonger = 2\n', "rules.0.longer: unknown key"),
        ('[[zones]]\nkind = "ignore"\nname = "a"\npolygon = [[0, 0], [1, 0], [1, 1]]\n', "expected 'presence'"),
        ("rules = 3\n", "rules: expected"),
        ("scales = 3\n", "expected one of scale, rules, zones, health"),
    ],
)
def test_malformed_checks_are_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "checks.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_checks(path)


def test_rules_cannot_be_applied_without_a_fault_if_they_break(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = judging(opened, Checks(scale=SCALE, rules=(rule(),)))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("gonogo.rules.apply_rules", broken)
    verdict = inspector.inspect(plate(0))
    assert verdict.state is State.FAULT
    assert "out of order" in verdict.reason


def test_the_record_of_a_view_keeps_sizes_and_notes_and_they_are_drawn(opened: Bundle) -> None:
    verdict = judging(opened, Checks(scale=SCALE, rules=(rule(),))).inspect(plate(80))
    view = View.of(verdict, frame_sha256="0" * 64)
    assert View.model_validate_json(view.model_dump_json()) == view
    drawn = plate(80)
    draw_findings(drawn, view)
    assert (drawn != plate(80)).any()


# --- certified as a whole


def write_plates(root: Path) -> Dataset:
    """Good plates, every tenth with a long faint scratch that a person accepts; bad ones are red all over."""
    root.mkdir()
    samples = []
    for split, count in ((Split.TRAIN, 4), (Split.VAL, 6), (Split.CALIBRATE, 80)):
        for number in range(count):
            bad = number % 2 == 1
            frame = plate(0 if bad or number % 20 else 80, red=140 if bad else 60, seed=number)
            name = f"{split.value}-{number}.png"
            (root / name).write_bytes(encode_png(frame))
            label = Label.BAD if bad else Label.GOOD
            samples.append(Sample(file_name=name, label=label, part=f"{split.value}-{number}", split=split))
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_plates(tmp_path_factory.mktemp("rules") / "plates")


@pytest.mark.slow
@pytest.mark.parametrize(("max_overkill", "in_force"), [(0.3, True), (0.1, False)])
def test_a_rule_that_rejects_is_in_force_only_if_the_overkill_limit_leaves_room_for_it(
    opened: Bundle, plates: Dataset, max_overkill: float, in_force: bool
) -> None:
    trained_on = fingerprint(plates, plates.split(Split.TRAIN, Split.VAL))
    opened = bundles.write_manifest(opened.root, opened.manifest.model_copy(update={"data_fingerprint": trained_on}))
    made = set_checks(opened, Checks(scale=SCALE, rules=(rule(then="no_go"),)), now=NOW)
    promise = Promise(max_escape=0.1, max_overkill=max_overkill, guard=None)
    certified = recertify(Inspector.load(made.bundle.root), plates, promise)
    inspector = Inspector.load(made.bundle.root)
    point = inspector.operating_point
    assert point is not None
    assert point.rules_sha256
    assert not certified.refusals
    assert inspector.inspect(plate(80)).state is (State.NO_GO if in_force else State.REVIEW)
    assert inspector.inspect(plate(30)).state is State.GO
    found = recount(inspector, plates)
    assert found is not None
    assert found.thresholds == ()
    assert found.scores == ()


def test_a_part_that_a_rule_rejects_counts_as_one_above_every_threshold() -> None:
    rows = [
        Prediction(
            file=f"{part}-{camera}.png",
            part=part,
            label=label,
            defect=None,
            state=State.GO,
            score=float(camera),
            rejected_by_rule=part.startswith("rejected") and camera == 1,
        )
        for part, label in (("rejected-good", Label.GOOD), ("good", Label.GOOD), ("rejected-bad", Label.BAD))
        for camera in (0, 1)
    ]
    verdicts = Verdicts(pictures=tuple(rows))
    assert sorted(verdicts.calibration_scores(Label.GOOD)) == [1.0, np.inf]
    assert list(verdicts.calibration_scores(Label.BAD)) == [np.inf]


@pytest.mark.parametrize("accepted_scratches", [0.01, 0.2])
def test_a_rule_that_only_rejects_breaks_the_overkill_limit_and_certifying_the_whole_decision_keeps_it(
    accepted_scratches: float,
) -> None:
    """The true rates are known: a share of the good parts has a long scratch that the rule rejects."""
    limits = {"max_escape": 0.1, "max_overkill": 0.05, "confidence": 0.95}
    rng, draws, broken_alone, broken, escaped = np.random.default_rng(1), 100, 0, 0, 0
    bad = np.repeat([False, True], 150)
    for _ in range(draws):
        scores = rng.normal(np.where(bad, 2.0, 0.0), 1.0)
        rejected = rng.random(300) < np.where(bad, 0.5, accepted_scratches)
        decided = np.where(rejected, np.inf, scores)
        alone = certified_point(scores[~bad], scores[bad], **limits)
        whole = certified_point(decided[~bad], decided[bad], **limits)
        broken_alone += _overkill(alone.no_go_above, accepted_scratches, in_force=True) > 0.05
        broken += _overkill(whole.no_go_above, accepted_scratches, in_force=np.isfinite(whole.no_go_above)) > 0.05
        escaped += 0.5 * _below(whole.go_below - 2.0) > 0.1
    assert broken <= 0.05 * draws + 3 * np.sqrt(0.05 * 0.95 * draws)
    assert escaped <= 0.05 * draws + 3 * np.sqrt(0.05 * 0.95 * draws)
    if accepted_scratches == 0.2:
        assert broken_alone == draws
        assert broken == 0


def _below(score: float) -> float:
    from scipy.stats import norm

    return float(norm.cdf(score))


def _overkill(no_go_above: float, share_rejected: float, *, in_force: bool) -> float:
    """True rate of good parts that are rejected by the score or, if it is in force, by the rule."""
    by_score = 1 - _below(no_go_above)
    return by_score + (1 - by_score) * (share_rejected if in_force else 0.0)


def test_an_old_recipe_has_no_checks_and_its_verdicts_are_the_same(opened: Bundle) -> None:
    content = opened.manifest.model_dump(mode="json")
    for name in ("scale", "rules", "health", "zones"):
        del content["recipe"][name]
    assert Recipe.model_validate(content["recipe"]) == opened.manifest.recipe
    black = np.zeros((128, 128, 3), np.uint8)
    assert Inspector.load(opened.root).inspect(black).state is State.GO  # no picture limits, as before


def test_a_spoiled_picture_is_a_fault_with_the_reason_and_the_setting(opened: Bundle) -> None:
    inspector = judging(opened, Checks(health=PictureHealth(contrast=1.0, sharpness=0.02)))
    bright = np.full((128, 128, 3), 255, np.uint8)
    for frame, word in ((0 * bright, "darkest"), (bright, "saturated"), (bright // 2, "contrast")):
        verdict = inspector.inspect(frame.astype(np.uint8))
        assert verdict.state is State.FAULT
        assert verdict.score is None
        assert word in verdict.reason
        assert "not judged" in verdict.reason
    assert inspector.inspect(plate(80)).state is not State.FAULT
