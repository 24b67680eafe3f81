"""Planning certifications from counts alone: the command and the page."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest

from gonogo.certification.planning import LineRate, Plan, make_plan
from gonogo.dataset import Dataset, Fractions, Sample, Split, resplit, write_metadata
from gonogo.dataset.judged import record_judged
from gonogo.errors import InputError
from gonogo.ledger import Ledger
from gonogo.schema import Label
from gonogo.server.access import Role
from gonogo.server.dataset_store import Datasets
from gonogo.server.datasets import plan as page
from gonogo.server.datasets.plan import line_rate
from gonogo.server.workspace import Workspace
from server_kit import Browser, add_person, fill, make_app, text_of


def dataset(root: Path, *, good: int, bad: int, split: bool = False) -> Dataset:
    samples = tuple(
        Sample(file_name=f"images/{number}.png", label=Label.BAD if number < bad else Label.GOOD, group=number)
        for number in range(good + bad)
    )
    if split:
        samples = resplit(samples, Fractions(), 0, within_lots=False)
    return Dataset(root=root, samples=samples)


def test_a_plan_says_what_is_missing_and_which_splits_would_do(tmp_path: Path) -> None:
    bad, good = make_plan(
        dataset(tmp_path, good=200, bad=130), line=LineRate(parts_per_day=1000, bad_share=0.01)
    ).labels
    assert (bad.label, bad.parts, bad.targets[0].rate) == (Label.BAD, 130, 0.05)
    five, _, one = bad.targets
    assert (five.needed, five.missing) == (59, 59 - bad.calibrate)
    share = bad.calibrate / bad.parts
    assert five.more_parts == math.ceil(five.missing / share)
    assert five.days == five.more_parts / 10
    assert five.splits == "30/10/50/10"
    assert one.splits == ""
    assert good.best is not None
    assert bad.best is not None
    assert good.best < bad.best


def test_the_suggested_splits_are_enough(tmp_path: Path) -> None:
    found = dataset(tmp_path, good=200, bad=130)
    splits = make_plan(found).labels[0].targets[0].splits
    again = resplit(found.samples, Fractions.parse(splits), 0, within_lots=False)
    assert make_plan(Dataset(root=tmp_path, samples=again)).labels[0].targets[0].missing == 0


def test_no_other_splits_are_suggested_once_scores_were_seen(tmp_path: Path) -> None:
    found = dataset(tmp_path, good=200, bad=130, split=True)
    assert not make_plan(found).seen
    record_judged(found, [Split.CALIBRATE])
    plan = make_plan(found)
    assert plan.seen
    assert not any(target.splits for each in plan.labels for target in each.targets)


def test_without_bad_parts_nothing_can_be_promised(tmp_path: Path) -> None:
    bad, _ = make_plan(dataset(tmp_path, good=100, bad=0), line=LineRate(parts_per_day=10, bad_share=0.0)).labels
    assert bad.best is None
    assert bad.targets[0].days == math.inf
    empty, _ = make_plan(dataset(tmp_path, good=0, bad=0)).labels
    assert (empty.best, empty.calibrate) == (None, 0)


@pytest.mark.parametrize(("per_day", "bad"), [(0, 0.1), (math.nan, 0.1), (10, 1.5), (10, -0.1)])
def test_a_line_that_cannot_be_is_refused(per_day: float, bad: float) -> None:
    with pytest.raises(InputError, match="expected"):
        LineRate(parts_per_day=per_day, bad_share=bad)


@pytest.mark.slow
def test_the_page_plans_with_the_rate_of_the_line(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "space")
    fill(space)
    app = make_app(space.root)
    add_person(app, "eve", Role.ENGINEER)
    browser = Browser(app)
    browser.login("eve")
    shown = text_of(browser.get("/datasets/tiny/plan"))
    assert "What can be promised" in shown
    assert "parts a day" in shown


def test_the_rate_counts_days_with_parts_only(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "space")
    fill(space, parts=12)
    with Ledger.open(space.ledger, create=False) as ledger:
        last = next(ledger.verdicts(newest_first=True, limit=1))
        found = line_rate(ledger, last.at)
        assert found is not None
        assert found.parts_per_day == ledger.count()
        assert line_rate(ledger, last.at + timedelta(days=60)) is None


def test_the_command_prints_json(tmp_path: Path) -> None:
    from command_kit import run_here as run
    from gonogo.dataset.records import write_metadata

    write_metadata(tmp_path, dataset(tmp_path, good=30, bad=20).samples)
    ended = run(["dataset", "plan", str(tmp_path), "--rate", "0.1", "--parts-per-day", "100", "--json"])
    assert ended.code == 0
    label = json.loads(ended.out)["labels"][0]
    assert (label["parts"], label["targets"][0]["rate"]) == (20, 0.1)
    text = run(["dataset", "plan", str(tmp_path)])
    assert "escapes (bad parts)" in text.out


def test_the_page_keeps_a_plan_until_the_data_or_what_was_judged_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def plan(dataset: Dataset, *, line: LineRate | None) -> Plan:
        made.append(line)
        return Plan(labels=(), split=False, seen=False)

    monkeypatch.setattr(page, "make_plan", plan)
    root = tmp_path / "parts"
    root.mkdir()
    write_metadata(root, [Sample(file_name="a.png")])
    datasets, plans = Datasets(tmp_path), page.Plans()
    for _ in range(3):
        plans.of(datasets.read("parts"), None)
    assert len(made) == 1
    (root / "judged.jsonl").write_text("")
    plans.of(datasets.read("parts"), None)
    plans.of(datasets.read("parts"), LineRate(parts_per_day=10.0, bad_share=0.1))
    write_metadata(root, [Sample(file_name="a.png", label=Label.GOOD)])
    plans.of(datasets.read("parts"), LineRate(parts_per_day=10.0, bad_share=0.1))
    assert len(made) == 4
