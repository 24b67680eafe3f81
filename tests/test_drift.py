from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from drift import defocus, dim, mixture, run_lines, strange_parts
from gonogo import drift
from gonogo.bundle import SEAL
from gonogo.certification import certify, recertify
from gonogo.dataset import Dataset, Split
from gonogo.drift import (
    DriftTest,
    OutOfDistributionCheck,
    ReferenceFeatures,
    Signs,
    Watch,
    fit_out_of_distribution_check,
    fit_watches,
)
from gonogo.drift.out_of_distribution import parts_for_share, strictest_share
from gonogo.errors import BundleError, InputError
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise, clopper_pearson
from gonogo.schema import Frame, Label, State
from tiny_bundle import make_bundle, make_frame, make_parts

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data"


def draw_signs(rng: np.random.Generator, count: int, **shift: float) -> list[Signs]:
    names = ("score", "distance", "brightness", "sharpness")
    values = {name: rng.normal(shift.get(name, 0.0), 1.0, count) for name in names}
    return [Signs(**{name: float(values[name][row]) for name in names}) for row in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("gauge")
    dataset = make_parts(folder / "parts", np.random.default_rng(5))
    bundle = folder / "tiny.inspector"
    make_bundle(bundle, dataset)
    recertify(Inspector.load(bundle), dataset, Promise(max_escape=0.1, max_overkill=0.1, guard=0.05))
    return bundle, dataset


@pytest.mark.slow
def test_lines_on_which_nothing_changes_raise_hardly_any_alarm(rng: np.random.Generator) -> None:
    alarms = 0
    for _ in range(20):  # the reference is part of the chance: drawn anew for every ten lines
        watches = fit_watches(draw_signs(rng, 60), bad_share=0.02)
        usual = strange_parts(watches, draw_signs(rng, 1000))
        draw = mixture(usual, usual[:0], share=0.0, lines=10)
        alarms += run_lines(watches, draw, lines=10, length=500, rng=rng).alarms
    assert clopper_pearson(alarms, 200)[0] <= drift.alarm.RISK


@pytest.mark.slow
def test_no_limit_is_passed_more_often_than_it_says() -> None:
    rng, broken = np.random.default_rng(1), 0
    for _ in range(1000):
        watches = fit_watches(draw_signs(rng, 60), bad_share=0.0)
        passed = [stats.norm.sf(watch.limit if watch.above else -watch.limit) for watch in watches]
        broken += any(rate > watch.rate for rate, watch in zip(passed, watches, strict=True))
    assert clopper_pearson(broken, 1000)[0] <= drift.alarm.RISK / 2
    assert broken > 0  # the limits are not simply lax


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "meaning"),
    [
        ({"brightness": -2.0}, "Darker"),
        ({"brightness": 2.0}, "Brighter"),
        ({"sharpness": -2.0}, "Less sharp"),
        ({"score": 2.0}, "Scores higher"),
        ({"distance": 2.0}, "Unlike anything in training"),
    ],
)
def test_a_change_is_found_within_a_hundred_parts_and_named(
    shift: dict[str, float], meaning: str, rng: np.random.Generator
) -> None:
    test = DriftTest.start(fit_watches(draw_signs(rng, 100), bad_share=0.02))
    for signs in draw_signs(rng, 100):
        test = test.update(signs)
    assert not test.alarm
    assert test.reasons == ()
    for signs in draw_signs(rng, 100, **shift):
        test = test.update(signs)
    assert test.alarm
    assert meaning in test.reasons[0]


@pytest.mark.slow
def test_an_alarm_stays_when_the_line_looks_usual_again(rng: np.random.Generator) -> None:
    test = DriftTest.start(fit_watches(draw_signs(rng, 100), bad_share=0.02))
    for signs in [*draw_signs(rng, 40, sharpness=-6.0), *draw_signs(rng, 200)]:
        test = test.update(signs)
    assert test.alarm


def test_the_simulated_lines_are_those_the_test_itself_would_run(rng: np.random.Generator) -> None:
    watches = fit_watches(draw_signs(rng, 60), bad_share=0.02)
    line = draw_signs(rng, 60, brightness=-2.0)
    strange = strange_parts(watches, line)
    waits = run_lines(watches, lambda _, before: strange[[before]], lines=1, length=60, rng=rng)
    test, first = DriftTest.start(watches), None
    for number, signs in enumerate(line, start=1):
        test = test.update(signs)
        first = first or (number if test.alarm else None)
    assert first is not None
    assert waits.parts.tolist() == [first]


def test_the_state_survives_a_restart_and_belongs_to_its_bundle(rng: np.random.Generator) -> None:
    watches = fit_watches(draw_signs(rng, 60), bad_share=0.02)
    test = DriftTest.start(watches)
    for signs in draw_signs(rng, 20, score=1.0):
        test = test.update(signs)
    stored = json.loads(json.dumps(test.to_json()))
    assert DriftTest.from_json(stored, watches) == test
    with pytest.raises(InputError, match="another bundle"):
        DriftTest.from_json(stored, fit_watches(draw_signs(rng, 61), bad_share=0.02))
    with pytest.raises(InputError, match="tests"):
        DriftTest.from_json({"peak": 1.0}, watches)


@pytest.mark.slow
def test_bad_parts_that_the_line_may_have_are_no_drift(rng: np.random.Generator) -> None:
    reference = draw_signs(rng, 200)
    strict, lenient = (fit_watches(reference, bad_share=share) for share in (0.0, 0.2))
    assert all(one.rate < other.rate for one, other in zip(strict, lenient, strict=True))
    usual, bad = (strange_parts(lenient, draw_signs(rng, 500, score=score)) for score in (0.0, 8.0))
    draw = mixture(usual, bad, share=0.2, lines=20)
    assert run_lines(lenient, draw, lines=20, length=300, rng=rng).alarms == 0


def test_too_few_reference_parts_make_no_alarm(rng: np.random.Generator) -> None:
    assert fit_watches(draw_signs(rng, 29), bad_share=0.02) == ()
    with pytest.raises(InputError, match="gonogo certify"):
        DriftTest.start(())


def test_a_part_equal_to_the_limit_is_not_strange() -> None:
    signs = Signs(score=1.0, distance=0.0, brightness=0.0, sharpness=0.0)
    for above in (True, False):
        assert not Watch(sign="score", above=above, limit=1.0, rate=0.1).strange(signs)


def test_what_is_not_finite_is_no_sign() -> None:
    with pytest.raises(InputError, match="brightness"):
        Signs(score=0.0, distance=0.0, brightness=float("nan"), sharpness=0.0)


def test_the_guard_stops_no_more_ordinary_parts_than_stated(rng: np.random.Generator) -> None:
    stopped = []
    for _ in range(400):
        guard = fit_out_of_distribution_check(rng.exponential(size=99).tolist(), 0.05)
        assert guard is not None
        stopped.append(stats.expon.sf(guard.farthest))
    assert np.mean(stopped) == pytest.approx(0.05, abs=0.005)


def test_the_guard_is_refused_where_parts_are_too_few() -> None:
    assert parts_for_share(0.02) == 49
    assert fit_out_of_distribution_check([1.0] * 48, 0.02) is None
    assert fit_out_of_distribution_check([*map(float, range(49))], 0.02) == OutOfDistributionCheck(
        farthest=48.0, share=0.02, parts=49
    )


def test_the_distance_is_small_near_what_was_taught_and_large_elsewhere(rng: np.random.Generator) -> None:
    taught = ReferenceFeatures.of([np.float32(vector) for vector in rng.normal(5, 1, (40, 16))])
    assert taught.distance(np.float32(rng.normal(5, 1, 16))) < 0.1
    assert taught.distance(np.float32(-np.ones(16))) > 1.5
    with pytest.raises(InputError, match="another network"):
        taught.distance(np.ones(15, np.float32))
    with pytest.raises(InputError, match="finite"):
        taught.distance(np.full(16, np.nan, np.float32))


def unguarded(gauge: Inspector) -> Inspector:
    free = Inspector(gauge.bundle, gauge._graph)
    assert free.drift is not None
    free.drift = replace(free.drift, guard=None)
    return free


@pytest.mark.slow
def test_the_guard_only_ever_turns_go_and_no_go_into_review(
    made: tuple[Path, Dataset], rng: np.random.Generator
) -> None:
    gauge = Inspector.load(made[0])
    free = unguarded(gauge)
    frames = [make_frame(red, rng) for red in (20, 60, 90, 120, 200)]
    frames += [np.full((32, 32, 3), rgb, np.uint8) for rgb in ((0, 255, 0), (250, 0, 0), (10, 0, 255))]
    frames += [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(20)]
    pairs = [(free.inspect(frame), gauge.inspect(frame)) for frame in frames]
    turned = {(before.state, after.state) for before, after in pairs if before.state is not after.state}
    assert turned == {(State.GO, State.REVIEW), (State.NO_GO, State.REVIEW)}
    assert all(before.score == after.score for before, after in pairs)


def test_a_part_unlike_all_taught_goes_to_review_and_the_reason_says_so(made: tuple[Path, Dataset]) -> None:
    gauge = Inspector.load(made[0])
    verdict = gauge.inspect(np.full((32, 32, 3), (10, 0, 255), np.uint8))
    assert verdict.state is State.REVIEW
    assert "out of distribution" in verdict.reason
    assert "below the go threshold" in verdict.reason


def test_the_bundle_keeps_what_drift_is_measured_by_under_its_seal(made: tuple[Path, Dataset]) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None
    assert gauge.drift.guard is not None
    assert gauge.drift.parts == 100
    assert len(gauge.drift.features.directions) == 30
    sealed = (made[0] / SEAL).read_text()
    assert drift.DRIFT in sealed
    assert drift.TAUGHT in sealed


@pytest.mark.parametrize("name", [drift.DRIFT, drift.TAUGHT])
def test_malformed_reference_files_are_refused(made: tuple[Path, Dataset], tmp_path: Path, name: str) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None
    for file, data in drift.to_files(gauge.drift).items():
        (tmp_path / file).write_bytes(b"{}" if file == name else data)
    with pytest.raises(BundleError, match="gonogo certify"):
        drift.read_reference(tmp_path)


def test_what_is_stored_is_what_is_read(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None
    for file, data in drift.to_files(gauge.drift).items():
        (tmp_path / file).write_bytes(data)
    back = drift.read_reference(tmp_path)
    assert back is not None
    assert (back.guard, back.watches, back.parts) == (gauge.drift.guard, gauge.drift.watches, gauge.drift.parts)
    assert np.array_equal(back.features.directions, gauge.drift.features.directions)
    assert drift.read_reference(tmp_path / "elsewhere") is None


def test_a_dimmer_lamp_is_darker_and_a_soft_lens_less_sharp(made: tuple[Path, Dataset], frame: Frame) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None

    def see(picture: Frame) -> Signs:
        assert gauge.drift is not None
        found = drift.observe(Photograph(picture), gauge.inspect(picture), gauge.drift.features, gauge.recipe)
        assert found is not None
        return found

    usual = see(frame)
    assert see(dim(frame)).brightness < usual.brightness
    assert see(defocus(frame, 12.0)).sharpness < usual.sharpness
    assert np.array_equal(dim(frame, 1.0), frame)


def test_a_fault_has_no_signs(made: tuple[Path, Dataset]) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None
    fault = gauge.inspect(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]
    assert fault.state is State.FAULT
    assert drift.observe(Photograph(np.zeros((4, 4, 3), np.uint8)), fault, gauge.drift.features, gauge.recipe) is None


@pytest.mark.slow
def test_a_line_of_dimmed_parts_raises_the_alarm_through_the_inspector(made: tuple[Path, Dataset]) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None
    test = DriftTest.start(gauge.drift.watches)
    dataset = made[1]
    for sample in dataset.split(Split.TEST)[::2] * 4:
        picture = dim(dataset.load(sample), 0.6)
        seen = drift.observe(Photograph(picture), gauge.inspect(picture), gauge.drift.features, gauge.recipe)
        assert seen is not None
        test = test.update(seen)
    assert test.alarm
    assert any("Darker" in reason for reason in test.reasons)


# --- the check is on by default, and what it costs is counted


@pytest.mark.slow
def test_too_few_val_parts_for_the_share_make_the_farthest_of_them_the_limit(made: tuple[Path, Dataset]) -> None:
    found = certify(Inspector.load(made[0]), made[1], Promise(max_escape=0.1, max_overkill=0.1, guard=0.0001))
    assert found.reference is not None
    guard = found.reference.guard
    assert guard is not None
    assert guard.share == pytest.approx(1 / (guard.parts + 1))
    assert any(f"because val has {guard.parts} parts" in warning for warning in found.warnings)
    assert (strictest_share(3), strictest_share(4)) == (None, 0.2)


def test_false_alarms_are_counted_on_good_parts_that_set_no_limit_and_are_in_the_bundle(
    made: tuple[Path, Dataset],
) -> None:
    gauge = Inspector.load(made[0])
    assert gauge.drift is not None
    guard = gauge.drift.guard
    assert guard is not None
    good = [s for s in made[1].split(Split.CALIBRATE) if s.label is Label.GOOD]
    stopped = 0
    for sample in good:
        vector = gauge.inspect_file(made[1].path(sample))[1].feature_vector
        assert vector is not None
        stopped += guard.stops(gauge.drift.features.distance(vector))
    assert (guard.good_parts, guard.false_alarms) == (len(good), stopped)
    assert guard.false_alarm_interval() == clopper_pearson(stopped, len(good))
    assert f"{stopped} of {len(good)}" in guard.sentence()
    unmeasured = replace(guard, good_parts=0, false_alarms=0)
    assert (unmeasured.false_alarm_interval(), "Counted" in unmeasured.sentence()) == (None, False)


def test_a_reference_without_counts_from_an_older_version_still_opens(made: tuple[Path, Dataset]) -> None:
    record = json.loads((made[0] / drift.DRIFT).read_bytes())
    for name in ("good_parts", "false_alarms"):
        del record["guard"][name]
    assert drift.records._Record.model_validate_json(json.dumps(record)).guard is not None


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs the photographs in ../shared/data")
def test_photographs_of_other_things_never_pass(made: tuple[Path, Dataset]) -> None:
    gauge = Inspector.load(made[0])
    for folder in ("cookies/good", "aliens/good"):
        for file in sorted((PHOTOGRAPHS / folder).iterdir())[:5]:
            assert gauge.inspect_file(file)[1].state is not State.GO, file
