"""Importing, checking and splitting labelled pictures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duplicates import main
from gonogo import images
from gonogo.cli.dataset import app, split_command
from gonogo.dataset import (
    Dataset,
    Fractions,
    ImportOptions,
    Sample,
    Split,
    assign_splits,
    check_dataset,
    import_folder,
    locked,
    require_trainable,
    resplit,
    write_metadata,
)
from gonogo.dataset.splits import deal_folds
from gonogo.errors import DatasetError, InputError, UnfitError
from gonogo.schema import Frame, Label

Draw = Callable[[], Frame]


@pytest.fixture
def draw(rng: np.random.Generator) -> Draw:
    """Draws another part each time: a surface of its own with structure at several scales, 100 high and 130 wide."""

    def surface() -> Frame:
        noise = [cv2.GaussianBlur(rng.normal(size=(100, 130)).astype(np.float32), (0, 0), s) * s for s in (1, 2, 4, 8)]
        grey = np.clip(128 + 60 * np.sum(noise, axis=0), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    return surface


def save(path: Path, frame: Frame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode_png(frame) if path.suffix == ".png" else images.encode_jpeg(frame))
    return path


@pytest.fixture
def plant(tmp_path: Path, draw: Draw) -> Path:
    """A folder per class: 16 good parts, 8 scratched, 8 dented."""
    source = tmp_path / "plant"
    for folder, count in (("good", 16), ("bad/scratch", 8), ("bad/dent", 8)):
        for number in range(count):
            save(source / folder / f"{number:03}.jpg", draw())
    return source


def files_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_folder_per_class_becomes_a_data_set_with_the_same_bytes(plant: Path, tmp_path: Path) -> None:
    imported = import_folder(plant, tmp_path / "out").dataset
    read = Dataset.read(tmp_path / "out")
    assert read.samples == imported.samples
    assert len(read.samples) == 32
    for sample in read.samples:
        kind = sample.defect or sample.label
        name = Path(sample.file_name).name
        original = plant / ("good" if sample.label is Label.GOOD else f"bad/{sample.defect}") / name
        assert sample.file_name == f"images/{kind}/{name}"
        assert read.path(sample).read_bytes() == original.read_bytes()
    assert {sample.split for sample in read.samples} == set(Split)


def test_a_named_good_folder_makes_every_other_folder_a_defect_kind(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path / "src/OK/Imgs/a.jpg", draw())
    save(tmp_path / "src/crack/Imgs/b.jpg", draw())
    samples = import_folder(tmp_path / "src", tmp_path / "out", ImportOptions(good="OK")).dataset.samples
    assert {(sample.file_name, sample.label, sample.defect) for sample in samples} == {
        ("images/good/a.jpg", Label.GOOD, None),
        ("images/crack/b.jpg", Label.BAD, "crack"),
    }


def test_a_foreign_class_folder_is_refused_until_someone_says_what_is_good(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path / "src/good/a.jpg", draw())
    save(tmp_path / "src/chipped/b.jpg", draw())
    with pytest.raises(DatasetError, match=r"chipped.*--good"):
        import_folder(tmp_path / "src", tmp_path / "out")


def test_pictures_outside_the_class_folders_are_not_silently_left_out(plant: Path, tmp_path: Path, draw: Draw) -> None:
    save(plant / "stray.jpg", draw())
    with pytest.raises(DatasetError, match=r"stray\.jpg"):
        import_folder(plant, tmp_path / "out")


def test_masks_beside_pictures_come_along_and_black_ones_do_not(tmp_path: Path, draw: Draw) -> None:
    source = tmp_path / "src"
    mask = np.zeros((100, 130, 3), np.uint8)
    save(source / "good/a.jpg", draw())
    save(source / "good/a.png", mask)
    mask[20:40, 30:60] = 255
    save(source / "bad/b.jpg", draw())
    save(source / "bad/b.png", mask)
    dataset = import_folder(source, tmp_path / "out", ImportOptions(mask_suffix=".png")).dataset
    by_label = {sample.label: sample for sample in dataset.samples}
    assert by_label[Label.GOOD].mask_file_name is None
    loaded = dataset.load_mask(by_label[Label.BAD], (100, 130))
    assert loaded is not None
    assert loaded.sum() == 20 * 30


def test_a_mask_of_another_size_is_refused_by_name(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path / "src/good/a.jpg", draw())
    save(tmp_path / "src/bad/b.jpg", draw())
    save(tmp_path / "src/bad/b.png", np.full((10, 10, 3), 255, np.uint8))
    with pytest.raises(InputError, match=r"b\.png.*10 x 10"):
        import_folder(tmp_path / "src", tmp_path / "out", ImportOptions(mask_suffix=".png"))


@pytest.mark.slow
def test_mvtec_folders_give_labels_kinds_and_masks(tmp_path: Path, draw: Draw) -> None:
    source = tmp_path / "bottle"
    save(source / "train/good/000.png", draw())
    save(source / "test/good/000.png", draw())
    save(source / "test/broken/000.png", draw())
    save(source / "ground_truth/broken/000_mask.png", np.full((100, 130, 3), 255, np.uint8))
    samples = import_folder(source, tmp_path / "out").dataset.samples
    assert sorted((sample.label or "", sample.defect or "") for sample in samples) == [
        ("bad", "broken"),
        ("good", ""),
        ("good", ""),
    ]
    assert len({sample.file_name for sample in samples}) == 3
    assert [sample.mask_file_name for sample in samples if sample.defect] == ["masks/broken/000.png"]


@pytest.mark.slow
def test_our_own_data_set_survives_the_round_trip(plant: Path, tmp_path: Path) -> None:
    first = import_folder(plant, tmp_path / "a", ImportOptions(part_regex=r"(\d+)\.jpg", seed=3)).dataset
    second = import_folder(tmp_path / "a", tmp_path / "b").dataset
    assert second.samples == first.samples


def test_a_foreign_imagefolder_needs_to_say_which_label_is_good(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path / "src/x.jpg", draw())
    save(tmp_path / "src/y.jpg", draw())
    rows = [{"file_name": "x.jpg", "label": "ok", "shift": 2}, {"file_name": "y.jpg", "label": "bent", "split": "dev"}]
    (tmp_path / "src/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DatasetError, match=r"metadata\.jsonl, line 2.*--good"):
        import_folder(tmp_path / "src", tmp_path / "out")
    samples = import_folder(tmp_path / "src", tmp_path / "out", ImportOptions(good="ok")).dataset.samples
    assert [(sample.label, sample.defect) for sample in samples] == [(Label.GOOD, None), (Label.BAD, "bent")]
    assert samples[0].model_extra == {"shift": 2}
    assert samples[1].model_extra == {"source_split": "dev"}


def test_metadata_may_not_point_outside_its_folder(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path / "secret.jpg", draw())
    (tmp_path / "src").mkdir()
    (tmp_path / "src/metadata.jsonl").write_text('{"file_name": "../secret.jpg", "label": "good"}\n')
    with pytest.raises(DatasetError, match="inside"):
        import_folder(tmp_path / "src", tmp_path / "out")


@pytest.mark.slow
def test_datasets_reads_what_was_imported(plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    save(plant / "bad/dent/mirrored.jpg", images.load_picture(plant / "bad/dent/000.jpg")[:, ::-1])
    save(plant / "bad/dent/mirrored.png", np.full((100, 130, 3), 255, np.uint8))
    dataset = import_folder(plant, tmp_path / "out", ImportOptions(mask_suffix=".png")).dataset
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    rows = loaded["train"]
    assert len(rows) == len(dataset.samples)
    assert rows["label"] == [sample.label for sample in dataset.samples]
    assert rows[0]["image"].size == (130, 100)
    assert [row["mask"] is not None for row in rows] == [
        sample.mask_file_name is not None for sample in dataset.samples
    ]


def test_names_that_sound_like_splits_load_with_one_more_argument(tmp_path: Path, draw: Draw) -> None:
    datasets = pytest.importorskip("datasets")
    save(tmp_path / "src/good/test_1.jpg", draw())
    save(tmp_path / "src/bad/val/1.jpg", draw())
    import_folder(tmp_path / "src", tmp_path / "out")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), data_files={"train": "**"}, cache_dir=str(tmp_path / "cache")
    )
    assert sorted(loaded["train"]["label"]) == ["bad", "good"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"good part, no picture\n", b"\xff\xd8\xff\xe0 truncated"])
def test_an_unreadable_picture_is_named_and_leaves_nothing_behind(plant: Path, tmp_path: Path, content: bytes) -> None:
    (plant / "good" / "broken.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.jpg"):
        import_folder(plant, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"plant"}


@pytest.mark.slow
def test_the_same_picture_under_two_labels_is_refused_with_both_names(plant: Path, tmp_path: Path) -> None:
    (plant / "bad/dent/again.jpg").write_bytes((plant / "good/003.jpg").read_bytes())
    with pytest.raises(InputError, match=r"(?s)again\.jpg.*003\.jpg") as caught:
        import_folder(plant, tmp_path / "out")
    assert "different labels" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_exact_copy_with_the_same_label_is_left_out_and_said(plant: Path, tmp_path: Path) -> None:
    save(plant / "good/again.png", images.load_picture(plant / "good/003.jpg"))
    imported = import_folder(plant, tmp_path / "out")
    assert len(imported.dataset.samples) == 32
    assert any("1 exact duplicates" in note for note in imported.notes)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(InputError, match="found none"):
        import_folder(tmp_path / "src", tmp_path / "out")


def test_an_existing_data_set_is_not_overwritten(plant: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="already exists"):
        import_folder(plant, tmp_path / "out")


@pytest.mark.slow
def test_equal_names_from_several_folders_stay_apart(tmp_path: Path, draw: Draw) -> None:
    for name in ("good/a/1.jpg", "good/b/1.jpg", "good/b/1.png"):
        save(tmp_path / "src" / name, draw())
    dataset = import_folder(tmp_path / "src", tmp_path / "out").dataset
    assert len({sample.file_name for sample in dataset.samples}) == 3
    assert len(list(files_in(tmp_path / "out/images"))) == 3


@pytest.mark.slow
def test_pictures_of_one_class_import_but_cannot_be_trained_on(tmp_path: Path, draw: Draw) -> None:
    for number in range(24):
        save(tmp_path / f"src/good/{number}.jpg", draw())
    dataset = import_folder(tmp_path / "src", tmp_path / "out").dataset
    with pytest.raises(DatasetError, match="no bad one"):
        require_trainable(dataset)


@pytest.mark.slow
def test_ten_pictures_are_refused_before_training(tmp_path: Path, draw: Draw) -> None:
    for number in range(5):
        save(tmp_path / f"src/good/{number}.jpg", draw())
        save(tmp_path / f"src/bad/{number}.jpg", draw())
    dataset = import_folder(tmp_path / "src", tmp_path / "out").dataset
    with pytest.raises(DatasetError, match="at least 20 labelled pictures, found 10"):
        require_trainable(dataset)


@pytest.mark.slow
def test_part_and_lot_come_from_the_path_where_the_user_says_how(tmp_path: Path, draw: Draw) -> None:
    for lot in ("A", "B", "C"):
        for part in range(3):
            save(tmp_path / f"src/good/lot{lot}_p{lot}{part}.jpg", draw())
    options = ImportOptions(part_regex=r"_p([A-Z]\d+)", lot_regex=r"lot(?P<lot>[A-Z])")
    samples = import_folder(tmp_path / "src", tmp_path / "out", options).dataset.samples
    assert {(sample.part, sample.lot) for sample in samples} == {(f"{lot}{p}", lot) for p in range(3) for lot in "ABC"}


def test_a_pattern_that_misses_a_picture_is_refused(plant: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--part-regex.*first group"):
        import_folder(plant, tmp_path / "out", ImportOptions(part_regex=r"serial(\d+)"))


@pytest.mark.slow
def test_a_reshot_copy_shares_the_split_of_its_original(plant: Path, tmp_path: Path) -> None:
    for number in range(16):
        original = images.load_picture(plant / f"good/{number:03}.jpg")
        copy = np.clip(original[6:-9, 11:-4] * 0.8 + 10, 0, 255).astype(np.uint8)
        save(plant / f"good/reshot_{number:03}.jpg", copy)
    dataset = import_folder(plant, tmp_path / "out").dataset
    split = {Path(sample.file_name).name: sample.split for sample in dataset.samples if sample.label is Label.GOOD}
    assert all(split[f"{number:03}.jpg"] is split[f"reshot_{number:03}.jpg"] for number in range(16))
    assert len({sample.group for sample in dataset.samples}) == 32


@pytest.mark.slow
def test_parts_of_one_product_in_a_fixture_are_not_taken_for_copies(tmp_path: Path, draw: Draw) -> None:
    product = draw().astype(float)
    for number in range(40):
        own = draw().astype(float) - 128
        save(tmp_path / f"src/good/{number}.jpg", np.clip(product + 0.25 * own, 0, 255).astype(np.uint8))
    dataset = import_folder(tmp_path / "src", tmp_path / "out").dataset
    assert len({sample.group for sample in dataset.samples}) >= 38


def make(count: int, **columns: object) -> list[Sample]:
    return [Sample.model_validate({"file_name": f"images/{row}.png", **columns}) for row in range(count)]


def test_folds_keep_parts_and_near_copies_together_and_are_even() -> None:
    samples = [
        sample.model_copy(update={"part": f"p{row // 2}", "group": row // 4 if row < 20 else None})
        for row, sample in enumerate(make(60))
    ]
    folds = deal_folds(samples, 5, seed=1)
    assert all(len(set(folds[row : row + 4])) == 1 for row in range(0, 20, 4))
    assert all(len(set(folds[row : row + 2])) == 1 for row in range(20, 60, 2))
    assert np.bincount([folds[row] for row in (*range(0, 20, 4), *range(20, 60, 2))]).tolist() == [5] * 5
    np.testing.assert_array_equal(folds, deal_folds(samples, 5, seed=1))
    assert set(deal_folds(make(2), 5).tolist()) == {0, 1}


def test_splits_keep_groups_whole_and_kinds_in_proportion() -> None:
    samples = [*make(400, label="good"), *make(100, label="bad", defect="dent"), *make(40, label="bad", defect="rust")]
    groups = [row // 4 for row in range(540)]
    done = assign_splits(samples, groups, Fractions(), seed=1)
    for group in set(groups):
        assert len({sample.split for sample, number in zip(done, groups, strict=True) if number == group}) == 1
    for kind, total in ((None, 400), ("dent", 100), ("rust", 40)):
        for split, share in zip(Split, Fractions(), strict=True):
            found = sum(sample.defect == kind and sample.split is split for sample in done)
            assert abs(found - share * total) <= 4


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    samples = make(100, label="good")
    runs = [assign_splits(samples, range(100), Fractions(), seed) for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def plainly_filled(counts: np.ndarray, shares: np.ndarray, seed: int) -> list[int]:
    """The greedy assignment, written down plainly: each group goes where it brings the counts closest to targets."""
    totals = counts.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(counts))
    rarest = np.where(counts > 0, totals, np.inf).min(axis=1)
    order = order[np.lexsort((-counts[order].sum(axis=1), rarest[order]))]
    targets, filled, choice = np.outer(shares, totals), np.zeros((4, len(totals))), [0] * len(counts)
    for group in order:
        distances = [
            np.inf
            if share == 0
            else (((filled + counts[group] * (row == np.arange(4))[:, None] - targets) ** 2) / totals).sum()
            for row, share in enumerate(shares)
        ]
        choice[group] = int(np.argmin(np.round(distances, 9)))
        filled[choice[group]] += counts[group]
    return choice


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("fractions", [Fractions(), Fractions.parse("80/10/10")])
def test_each_group_goes_where_it_brings_the_counts_closest_to_their_targets(
    rng: np.random.Generator, fractions: Fractions, mixed: bool
) -> None:
    kinds = [("good", None), ("bad", "dent"), ("bad", "rust"), ("bad", None)]
    groups = np.sort(rng.integers(0, 60, 150))
    groups = np.unique(groups, return_inverse=True)[1]
    of_group = rng.integers(0, 4, groups.max() + 1)
    chosen = [int(rng.integers(0, 4)) if mixed and number % 3 == 0 else int(of_group[number]) for number in groups]
    samples = [make(1, label=kinds[kind][0], defect=kinds[kind][1])[0] for kind in chosen]
    samples = [each.model_copy(update={"file_name": f"images/{row}.png"}) for row, each in enumerate(samples)]
    names = sorted({(sample.label, sample.defect) for sample in samples}, key=str)
    counts = np.zeros((groups.max() + 1, len(names)))
    for sample, group in zip(samples, groups, strict=True):
        counts[group, names.index((sample.label, sample.defect))] += 1
    expected = plainly_filled(counts, np.array(fractions), seed=3)
    done = assign_splits(samples, groups.tolist(), fractions, seed=3)
    assert [list(Split).index(sample.split) for sample in done] == [expected[group] for group in groups]  # type: ignore[arg-type]


def test_three_numbers_are_train_val_test_without_calibration() -> None:
    assert Fractions.parse("80/10/10") == Fractions(train=0.8, val=0.1, calibrate=0.0, test=0.1)
    done = assign_splits(make(50, label="good"), range(50), Fractions.parse("80/10/10"), seed=0)
    assert Split.CALIBRATE not in {sample.split for sample in done}


@pytest.mark.parametrize("text", ["50/50", "60/20/10", "a/b/c", "-10/60/50", "0/50/50", ""])
def test_fractions_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(DatasetError, match="with a sum of 100"):
        Fractions.parse(text)


def test_a_part_and_a_lot_stand_in_one_split_only() -> None:
    samples = [
        Sample(file_name=f"{row}.png", label=Label.GOOD, part=f"p{row // 2}", lot=f"lot{row // 10}")
        for row in range(200)
    ]
    done = resplit(samples, Fractions(), seed=0, within_lots=False)
    for key in ("part", "lot"):
        places = {(getattr(sample, key), sample.split) for sample in done}
        assert len(places) == len({value for value, _ in places})


def test_a_single_lot_cannot_be_split_unless_the_user_says_so() -> None:
    samples = make(100, label="good", lot="L1")
    with pytest.raises(DatasetError, match=r"lot L1.*--split-within-lots"):
        resplit(samples, Fractions(), seed=0, within_lots=False)
    assert {sample.split for sample in resplit(samples, Fractions(), seed=0, within_lots=True)} == set(Split)


@pytest.mark.slow
def test_a_fresh_import_is_fit(plant: Path, tmp_path: Path) -> None:
    found = check_dataset(import_folder(plant, tmp_path / "out").dataset)
    assert found.problems == ()
    assert sum(found.counts.values()) == 32
    assert found.near_duplicates == ()


def spoil(dataset: Dataset, row: int, **update: object) -> Dataset:
    samples = list(dataset.samples)
    samples[row] = samples[row].model_copy(update=update)
    return Dataset(root=dataset.root, samples=tuple(samples))


@pytest.mark.slow
def test_a_near_duplicate_in_another_split_is_an_error(plant: Path, tmp_path: Path) -> None:
    save(plant / "good/reshot.jpg", images.load_picture(plant / "good/000.jpg")[5:, 5:])
    dataset = import_folder(plant, tmp_path / "out").dataset
    row = next(row for row, sample in enumerate(dataset.samples) if sample.file_name.endswith("reshot.jpg"))
    other = next(split for split in Split if split is not dataset.samples[row].split)
    problems = check_dataset(spoil(dataset, row, split=other)).problems
    assert len(problems) == 1
    assert "near-duplicates in 2 splits" in problems[0]
    assert "reshot.jpg" in problems[0]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["part", "lot"])
def test_a_part_or_lot_in_two_splits_is_an_error(plant: Path, tmp_path: Path, key: str) -> None:
    dataset = import_folder(plant, tmp_path / "out").dataset
    train = next(row for row, sample in enumerate(dataset.samples) if sample.split is Split.TRAIN)
    test = next(row for row, sample in enumerate(dataset.samples) if sample.split is Split.TEST)
    problems = check_dataset(spoil(spoil(dataset, train, **{key: "X7"}), test, **{key: "X7"})).problems
    assert len(problems) == 1
    assert f"{key} X7 in 2 splits" in problems[0]


@pytest.mark.slow
def test_missing_and_mislabelled_pictures_are_errors(plant: Path, tmp_path: Path) -> None:
    dataset = import_folder(plant, tmp_path / "out").dataset
    good = next(sample for sample in dataset.samples if sample.label is Label.GOOD)
    bad = next(sample for sample in dataset.samples if sample.label is Label.BAD)
    lost = dataset.samples[-1]
    dataset.path(bad).write_bytes(dataset.path(good).read_bytes())
    dataset.path(lost).unlink()
    problems = " ".join(check_dataset(dataset).problems)
    assert lost.file_name in problems
    assert f"{good.file_name} and {bad.file_name}" in problems or f"{bad.file_name} and {good.file_name}" in problems


@pytest.mark.slow
def test_the_commands_import_check_and_split(plant: Path, tmp_path: Path) -> None:
    runner, out = CliRunner(), tmp_path / "out"
    done = runner.invoke(app, ["import", str(plant), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "32 different parts" in done.output
    content = json.loads(runner.invoke(app, ["check", str(out), "--json"], catch_exceptions=False).output)
    assert content["fit"] is True
    before = (out / "metadata.jsonl").read_text()
    assert runner.invoke(app, ["split", str(out), "--splits", "80/10/10", "--seed", "4"]).exit_code == 0
    assert (out / "metadata.jsonl").read_text() != before
    assert {sample.split for sample in Dataset.read(out).samples} == {Split.TRAIN, Split.VAL, Split.TEST}


@pytest.mark.slow
def test_splitting_keeps_what_people_label_meanwhile(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    import_folder(plant, out)
    looking = threading.Event()

    def with_groups(data: Dataset) -> tuple[Sample, ...]:
        looking.set()
        return data.samples

    monkeypatch.setattr("gonogo.dataset.with_groups", with_groups)
    with locked(out):
        splitting = threading.Thread(target=split_command, args=(out,), kwargs={"seed": 4})
        splitting.start()
        assert looking.wait(20)
        samples = Dataset.read(out).samples
        write_metadata(out, [sample.model_copy(update={"defect": "said meanwhile"}) for sample in samples])
    splitting.join(20)
    assert [sample.split for sample in Dataset.read(out).samples] != [sample.split for sample in samples]
    assert {sample.defect for sample in Dataset.read(out).samples} == {"said meanwhile"}


def test_the_check_command_fails_on_an_unfit_data_set(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path / "src/good/a.jpg", draw())
    import_folder(tmp_path / "src", tmp_path / "out")
    with pytest.raises(UnfitError, match="at least 5 good pictures"):
        CliRunner().invoke(app, ["check", str(tmp_path / "out")], catch_exceptions=False, standalone_mode=False)


@pytest.mark.slow
def test_the_duplicate_search_finds_nearly_all_reshot_copies(
    tmp_path: Path, draw: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    surfaces = [draw() for _ in range(12)]
    for number, surface in enumerate(surfaces):
        save(tmp_path / f"src/good/{number}.jpg", surface)
    save(tmp_path / "src/good/again.jpg", surfaces[0][5:, 5:])
    options = ImportOptions(part_regex=r"(\w+)\.jpg")
    import_folder(tmp_path / "src", tmp_path / "out", options)
    sheet = tmp_path / "sheet.png"
    main([str(tmp_path / "out"), "--copies", "10", "--sheet", str(sheet)])
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured["groups"] == 12
    assert measured["merged_across_parts"] == 1
    assert measured["suspects"][0][:2] == ["images/good/0.jpg", "images/good/again.jpg"]
    assert all(measured["caught"][kind]["hits"] >= 9 for kind in ("crop", "shift", "turn", "brightness", "jpeg"))
    assert images.load_picture(sheet).shape[2] == 3


def test_the_magnetic_tiles_import_as_they_lie(magnetic_tile: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for folder in magnetic_tile.iterdir():
        for path in sorted((folder / "Imgs").iterdir())[:12] if folder.is_dir() else []:
            target = few / folder.name / "Imgs" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    options = ImportOptions(good="MT_Free", mask_suffix=".png")
    dataset = import_folder(few, tmp_path / "out", options).dataset
    assert len(dataset.samples) == 36
    assert {sample.defect for sample in dataset.samples} == {
        None,
        "MT_Blowhole",
        "MT_Break",
        "MT_Crack",
        "MT_Fray",
        "MT_Uneven",
    }
    assert all((sample.mask_file_name is None) == (sample.label is Label.GOOD) for sample in dataset.samples)
