from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import bundle
from gonogo.cli import app
from gonogo.errors import BundleError, InputError, UnfitError
from gonogo.images import encode_jpeg
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, Policy, VerdictRecord, View, retain, worst_state
from gonogo.operating_point import certified_point
from gonogo.replay import Gap, Rejudged, Skipped, replay_ledger
from gonogo.schema import State
from tiny_bundle import BAD_RED, GOOD_RED, make_bundle, make_frame, make_parts

PARTS = 12


def certified(plain: Path, to: Path, good: np.ndarray, bad: np.ndarray) -> Path:
    """A copy of the bundle with the operating point that these calibration scores certify."""
    shutil.copytree(plain, to)
    point = certified_point(good, bad, max_escape=0.05, max_overkill=0.05, confidence=0.95)
    bundle.replace_operating_point(bundle.read_bundle(to), point, now="2026-01-01T00:00:00+00:00")
    return to


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The one the line ran with, and a stricter one."""
    root = tmp_path_factory.mktemp("bundles")
    plain = make_bundle(root / "plain", make_parts(root / "parts", np.random.default_rng(5))).root
    low, high = np.linspace(30, 80, 100), np.linspace(100, 150, 100)
    return certified(plain, root / "ran", low, high), certified(plain, root / "strict", low - 30, high - 40)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, bundles: tuple[Path, Path]) -> Path:
    """Parts as a station records them: BMP or the JPEG that came, one or two views; a late part and a lost camera."""
    folder = tmp_path_factory.mktemp("recorded")
    inspector, rng = Inspector.load(bundles[0]), np.random.default_rng(6)
    with Ledger.open(folder / "line.ledger") as ledger:
        for number in range(PARTS):
            views = []
            for name in ("top", "side")[: 1 + number % 2]:
                frame = make_frame(rng.normal(BAD_RED if number % 3 == 0 else GOOD_RED, 10), rng)
                digest = ledger.frames.put(encode_jpeg(frame)) if number % 4 else ledger.frames.put_frame(frame)
                verdict = inspector.inspect(ledger.frames.load(digest))
                views.append(View.of(verdict, frame_sha256=digest, name=name))
            late = number == PARTS - 1
            state = State.FAULT if late else worst_state(view.state for view in views)
            ledger.append_verdict(
                VerdictRecord(
                    station="left",
                    trigger_id=str(number),
                    lot=f"lot-{number // 6}",
                    state=state,
                    score=max(view.score for view in views if view.score is not None),
                    reason=views[0].reason,
                    cause="late" if late else None,
                    late=late,
                    bundle_sha256=inspector.bundle_sha256,
                    bundle=str(bundles[0]),
                    views=tuple(views),
                    triggered_at=datetime.now(UTC),
                )
            )
        ledger.append_verdict(
            VerdictRecord(
                station="left",
                trigger_id="dark",
                state=State.FAULT,
                score=None,
                reason="no picture came",
                cause="camera_lost",
                triggered_at=datetime.now(UTC),
            )
        )
    return folder


@pytest.fixture
def path(recorded: Path, tmp_path: Path) -> Path:
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    return tmp_path / "line.ledger"


def rejudged(path: Path, inspector: Inspector | None = None) -> list[Rejudged]:
    with Ledger.open(path, read_only=True) as ledger:
        return [each for each in replay_ledger(ledger, inspector) if isinstance(each, Rejudged)]


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["ledger", "replay", *map(str, arguments)])
    code = {InputError: 2, BundleError: 2, UnfitError: 1}.get(type(done.exception), done.exit_code)
    return code, done.stdout


def test_the_same_bundle_gives_bit_equal_scores(path: Path, bundles: tuple[Path, Path]) -> None:
    for inspector in (None, Inspector.load(bundles[0])):
        found = rejudged(path, inspector)
        assert len(found) == PARTS
        assert {each.state_before for each in found} == {State.GO, State.NO_GO}
        assert all(each.same_bundle and each.equal and not each.changed for each in found)


def test_a_score_that_is_off_by_the_last_bit_is_not_equal(path: Path) -> None:
    first = rejudged(path)[0]
    view = first.before[0]
    assert view.score is not None
    nudged = view.model_copy(update={"score": float(np.nextafter(view.score, np.inf))})
    off = Rejudged(row=first.row, before=(nudged, *first.before[1:]), after=first.after, same_bundle=True)
    assert not off.equal
    assert not off.changed


def test_a_new_bundle_lists_exactly_the_verdicts_that_would_change(path: Path, bundles: tuple[Path, Path]) -> None:
    strict = Inspector.load(bundles[1])
    found = rejudged(path, strict)
    assert not any(each.same_bundle for each in found)
    point = strict.operating_point
    assert point is not None
    changed = {
        each.row.seq: point.state(each.score_before)
        for each in found
        if each.score_before is not None and point.state(each.score_before) is not each.state_before
    }
    assert 0 < len(changed) < len(found)
    code, told = run(path, "--bundle", bundles[1], "--json")
    *lines, summary = map(json.loads, told.splitlines())
    assert code == 0
    assert {line["seq"]: line["state_after"] for line in lines} == changed
    assert (summary["changed"], summary["parts"], summary["unequal"]) == (len(changed), PARTS, 0)


def test_a_late_part_is_judged_again_and_a_part_without_picture_is_skipped(path: Path) -> None:
    with Ledger.open(path) as ledger:
        *_, late, nothing = replay_ledger(ledger)
    assert isinstance(late, Rejudged)
    assert late.row.record.late
    assert late.equal
    assert isinstance(nothing, Skipped)
    assert nothing.gap is Gap.NOT_JUDGED


@pytest.mark.slow
def test_frames_let_go_by_retention_are_skipped_and_lost_ones_are_a_failure(path: Path) -> None:
    with Ledger.open(path) as ledger:
        lost = str(next(ledger.verdicts()).record.views[0].frame_sha256)
        kept = ledger.frames.read(lost)
        ledger.frames.remove(lost)
        code, told = run(path, "--json")
        *lines, summary = map(json.loads, told.splitlines())
        assert code == 1
        assert [(line["seq"], line["skipped"]) for line in lines] == [(2, "lost")]
        assert summary["skipped"] == {"lost": 1, "not_judged": 1}
        ledger.frames.put(kept)
        retain(ledger, Policy(keep_days=1), who="anna", now=datetime(2100, 1, 1, tzinfo=UTC))
    code, told = run(path, "--json")
    assert code == 0
    assert json.loads(told)["skipped"] == {"retained": PARTS, "not_judged": 1}


@pytest.mark.slow
def test_a_part_can_be_judged_again_alone_and_from_a_row_on(path: Path) -> None:
    assert json.loads(run(path, "--json", "--lot", "lot-1")[1])["parts"] == 6
    assert json.loads(run(path, "--json", "--after", 10)[1])["parts"] == PARTS - 9
    assert json.loads(run(path, "--json", "--since", "2100-01-01")[1])["parts"] == 0


def test_another_bundle_in_the_recorded_place_is_bad_input(
    path: Path, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    with Ledger.open(path) as ledger:
        first = next(ledger.verdicts()).record
        shutil.copytree(bundles[1], moved)
        ledger.append_verdict(first.model_copy(update={"trigger_id": "moved", "bundle": str(moved)}))
        with pytest.raises(InputError, match="--bundle"):
            list(replay_ledger(ledger, after=PARTS + 2))
        shutil.rmtree(moved)
        with pytest.raises(BundleError, match="moved"):
            list(replay_ledger(ledger, after=PARTS + 2))
    assert run(path, "--after", PARTS + 2)[0] == 2


def test_a_bundle_that_scores_otherwise_than_recorded_exits_1(path: Path) -> None:
    with Ledger.open(path) as ledger:
        first = next(ledger.verdicts()).record
        views = tuple(view.model_copy(update={"score": 99.0}) for view in first.views)
        ledger.append_verdict(first.model_copy(update={"trigger_id": "forged", "views": views, "score": 99.0}))
    code, told = run(path)
    assert code == 1
    assert "left/forged" in told
    assert f"{PARTS} of {PARTS + 1} bit-equal" in told


def test_an_interrupted_replay_says_where_to_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, calls = Inspector.inspect, []

    def interrupted(self: Inspector, frame: np.ndarray) -> object:
        calls.append(frame)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return judge(self, frame)

    loaded = Inspector.load  # the golden frame is judged before the line's
    monkeypatch.setattr(Inspector, "load", lambda *_: _armed(loaded(*_), monkeypatch, interrupted))
    done = CliRunner().invoke(app, ["ledger", "replay", str(path), "--json"])
    assert done.exit_code == 130
    last = json.loads(done.stdout)["last_seq"]
    assert f"--after {last}" in done.stderr
    assert json.loads(done.stdout)["parts"] == last - 1 > 0


def _armed(inspector: Inspector, monkeypatch: pytest.MonkeyPatch, inspect: object) -> Inspector:
    monkeypatch.setattr(Inspector, "inspect", inspect)
    return inspector
