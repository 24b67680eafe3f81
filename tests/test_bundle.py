"""The bundle as a folder: opened only as it was sealed, revised with its history, its graphs kept compiled."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gonogo import bundle, runtime
from gonogo.bundle import Bundle, read_bundle
from gonogo.bundle_graphs import BundleGraphs
from gonogo.config import Recipe, Settings
from gonogo.errors import BundleError, InputError
from gonogo.manifest import Golden, Manifest

OLD = Path(__file__).parent / "data" / "tiny-0.1.0.inspector"
NOW = "2026-06-01T00:00:00+00:00"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "tiny.inspector"))


def sealed_as_it_is(root: Path) -> None:
    """Seal a folder anew, whatever it holds, as somebody could who can write it."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
        if name not in (bundle.SEAL, bundle.SIGNATURE)
    ]
    (root / bundle.SEAL).write_text("".join(lines))


# Reading


def test_what_is_no_bundle_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found a folder without one\. Make one with: gonogo train"):
        read_bundle(tmp_path)
    with pytest.raises(BundleError, match="found no such folder"):
        read_bundle(tmp_path / "absent")


def test_its_identity_is_the_hash_of_its_seal_and_its_files_lie_where_it_says(root: Path) -> None:
    opened = read_bundle(str(root))

    assert opened.sha256 == hashlib.sha256((root / "SHA256SUMS").read_bytes()).hexdigest()
    assert opened.digests["inspector.json"] == hashlib.sha256((root / "inspector.json").read_bytes()).hexdigest()
    assert opened.signature is None
    assert opened.classifier == root / "classifier.xml"
    assert opened.roi == root / "roi.toml"
    assert opened.teacher == root / "cascade" / "teacher.xml"
    assert opened.graph("classifier.xml") == (
        (root / "classifier.xml").read_bytes(),
        (root / "classifier.bin").read_bytes(),
    )
    assert [file for file, _, _ in opened.golden()] == [each.file for each in opened.manifest.golden]


def test_a_golden_frame_that_is_no_picture_is_named(root: Path) -> None:
    opened = read_bundle(root)
    golden = (Golden(file="evidence.json", score=0.0),)
    odd = replace(opened, manifest=opened.manifest.model_copy(update={"golden": golden}))
    ((_, photograph, _),) = odd.golden()
    with pytest.raises(InputError, match=r"tiny\.inspector/evidence\.json"):
        photograph.judged(opened.manifest.recipe)


def a_line_more(root: Path) -> None:
    with (root / "SHA256SUMS").open("ab") as seal:
        seal.write(b"\n")


def a_name_twice(root: Path) -> None:
    seal = (root / "SHA256SUMS").read_text().splitlines(keepends=True)
    (root / "SHA256SUMS").write_text("".join([*seal, seal[0]]))


def another_hash(root: Path) -> None:
    text = (root / "SHA256SUMS").read_text()
    (root / "SHA256SUMS").write_text(text.replace(text[:64], "0" * 64, 1))


def six_files_more(root: Path) -> None:
    for number in range(6):
        (root / f"file  {number}").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (six_files_more, r"\(file  0, file  1, file  2, file  3, file  4\)"),
        (a_line_more, r"\("),
        (a_name_twice, r"SHA256SUMS itself"),
        (another_hash, r"MODEL_CARD\.md"),
    ],
)
def test_a_seal_that_is_not_that_of_the_folder_is_refused(
    change: Callable[[Path], None], named: str, root: Path
) -> None:
    change(root)
    with pytest.raises(BundleError, match=f"changed after it was sealed .*{named}"):
        read_bundle(root)


@pytest.mark.parametrize(
    ("manifest", "named"),
    [("[]", "expected a manifest of format 1"), ('{"name": "x"}', "Field required"), (None, "No such file")],
)
def test_a_sealed_folder_without_a_manifest_of_this_format_is_refused(
    manifest: str | None, named: str, root: Path
) -> None:
    (root / "inspector.json").unlink()
    if manifest is not None:
        (root / "inspector.json").write_text(manifest)
    sealed_as_it_is(root)
    with pytest.raises(BundleError, match=rf"inspector\.json: .*{named}"):
        read_bundle(root)


def test_a_manifest_that_changes_while_the_bundle_is_opened_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = bundle._digests

    def then_changed(folder: Path) -> dict[str, str]:
        found = digests(folder)
        manifest = json.loads((root / "inspector.json").read_text())
        (root / "inspector.json").write_text(json.dumps(manifest | {"name": "another"}))
        return found

    monkeypatch.setattr(bundle, "_digests", then_changed)
    with pytest.raises(BundleError, match=r"inspector\.json was changed while the bundle was being opened"):
        read_bundle(root)


def test_a_file_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(bundle, "_sha256", broken)
    with pytest.raises(BundleError, match=r"tiny\.inspector: the bundle cannot be read \(Input/output error\)"):
        read_bundle(root)


def test_more_bytes_than_any_bundle_has_are_refused_unread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_sha256", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(bundle, "_MOST_BYTES", 1000)
    with pytest.raises(BundleError, match=r"at most 0 GB, found 0 GB; the largest file is scores\.json\. Copy"):
        read_bundle(root)
    monkeypatch.setattr(bundle, "_MOST_BYTES", 10**9)
    monkeypatch.setattr(bundle, "_LONGEST_SEAL", 10)
    with pytest.raises(BundleError, match="expected at most 1 GB"):
        read_bundle(root)


def test_a_signature_is_outside_the_seal_and_is_carried_along(root: Path) -> None:
    before = read_bundle(root)
    (root / "signature.json").write_bytes(b"{}")
    signed = read_bundle(root)

    assert (signed.sha256, signed.signature) == (before.sha256, b"{}")
    (root / "signature.json").write_bytes(b"x" * 100_001)
    with pytest.raises(BundleError, match="100,001 bytes, more than the 100,000 allowed"):
        read_bundle(root)


def test_one_file_is_read_only_as_it_was_sealed(root: Path) -> None:
    opened = read_bundle(root)
    (root / "classifier.bin").write_bytes(b"other weights")
    with pytest.raises(BundleError, match=r"classifier\.bin was changed while the bundle was being opened"):
        opened.data("classifier.bin")
    with pytest.raises(BundleError, match=r"signature\.json is missing"):
        opened.data("signature.json")
    (root / "classifier.bin").unlink()
    with pytest.raises(BundleError, match=r"classifier\.bin: cannot be read \(No such file or directory\)"):
        opened.data("classifier.bin")


# Writing


def written(root: Path, manifest: Manifest) -> Bundle:
    made = bundle.write_manifest(root, manifest)
    assert read_bundle(root) == replace(made, signature=None)
    return made


def test_a_new_manifest_seals_the_folder_anew_and_drops_a_signature(root: Path) -> None:
    opened = read_bundle(root)
    (root / "signature.json").write_bytes(b"{}")
    renamed = opened.manifest.model_copy(update={"name": "renamed"})
    draft = bundle.draft(root, renamed)
    assert (draft.manifest.name, draft.sha256) == ("renamed", opened.sha256), "nothing was written"

    made = written(root, renamed)
    assert made.sha256 != opened.sha256
    assert not (root / "signature.json").exists()
    assert "renamed" in (root / "MODEL_CARD.md").read_text()


def test_a_new_operating_point_keeps_the_old_one_with_its_files(root: Path) -> None:
    opened = read_bundle(root)
    point = opened.manifest.operating_point
    assert point is not None
    golden, places, evidence = opened.manifest.golden[:1], {"processor": "another"}, opened.data("evidence.json")
    files = {"evidence.json": b"{}\n", "scores.json": None, "new.json": b"[]\n", "absent.json": None}
    changed = bundle.replace_operating_point(
        opened, replace(point, go_below=point.go_below - 1), now=NOW, files=files, golden=golden, proven_on=places
    )

    assert (root / "evidence.json").read_bytes() == b"{}\n"
    assert (root / "new.json").read_bytes() == b"[]\n"
    assert opened.digests.keys() - changed.digests.keys() == {"scores.json"}
    assert (changed.manifest.golden, changed.manifest.proven_on) == (golden, places)
    last = changed.manifest.revisions[-1]
    assert (last.replaced, last.bundle_sha256) == (NOW, opened.sha256)
    assert (last.golden, last.proven_on) == (opened.manifest.golden, opened.manifest.proven_on)
    assert last.files is not None
    assert set(last.files) == {"evidence.json", "scores.json"}
    for name, kept in last.files.items():
        assert hashlib.sha256((root / kept).read_bytes()).hexdigest() == opened.digests[name]

    again = bundle.replace_operating_point(changed, point, now=NOW, files={"evidence.json": evidence})
    back = bundle.replace_operating_point(again, point, now=NOW, files={"evidence.json": b"{}\n"})
    assert [each.golden is None for each in back.manifest.revisions[-2:]] == [True, True]
    assert back.manifest.golden == golden
    assert len({kept for each in back.manifest.revisions for kept in (each.files or {}).values()}) == 3, "kept once"


def test_a_new_operating_point_takes_its_place_only_after_it_was_recorded(root: Path) -> None:
    opened, seen = read_bundle(root), []
    point = opened.manifest.operating_point
    assert point is not None

    def recorded(revision: Bundle) -> None:
        seen.append((revision.sha256, read_bundle(root).sha256))

    def refused(revision: Bundle) -> None:
        raise RuntimeError("the ledger is full")

    with pytest.raises(RuntimeError, match="the ledger is full"):
        bundle.replace_operating_point(opened, point, now=NOW, before_use=refused)
    assert read_bundle(root) == opened
    changed = bundle.replace_operating_point(opened, point, now=NOW, before_use=recorded)
    assert seen == [(changed.sha256, opened.sha256)]


def test_a_first_operating_point_has_no_history(root: Path) -> None:
    opened = read_bundle(root)
    point = opened.manifest.operating_point
    assert point is not None
    empty = bundle.write_manifest(root, opened.manifest.model_copy(update={"operating_point": None, "revisions": ()}))

    assert bundle.replace_operating_point(empty, point, now=NOW).manifest.revisions == ()


@pytest.mark.parametrize("keep_point", [True, False])
def test_a_new_recipe_keeps_the_operating_point_only_if_told_so(root: Path, keep_point: bool) -> None:
    opened = read_bundle(root)
    point = opened.manifest.operating_point
    recipe: Recipe = opened.manifest.recipe.model_copy(update={"reduction": 2})
    (root / "signature.json").write_bytes(b"{}")
    changed = bundle.replace_recipe(read_bundle(root), recipe, now=NOW, keep_point=keep_point)

    assert changed.manifest.recipe == recipe
    assert changed.signature is None
    assert changed.manifest.operating_point == (point if keep_point else None)
    assert len(changed.manifest.revisions) == len(opened.manifest.revisions) + (not keep_point)
    assert changed.digests["classifier.bin"] == opened.digests["classifier.bin"]


# Its graphs


def test_a_graph_is_compiled_once_and_compiled_again_when_the_kept_one_is_discarded(root: Path, tmp_path: Path) -> None:
    opened = read_bundle(root)
    machine = Settings(cache_dir=tmp_path / "cache", key_file=tmp_path / "keys" / "cache.key")
    first, second = BundleGraphs(opened, machine), BundleGraphs(opened, machine)

    assert not first("classifier.xml").kept
    assert not first.discard_cached(), "it came from the sealed file"
    assert second("classifier.xml").kept
    assert second.discard_cached()
    assert not second.discard_cached()
    assert not second("classifier.xml").kept


def test_every_graph_that_was_kept_is_discarded(root: Path, tmp_path: Path) -> None:
    for suffix in (".xml", ".bin"):
        shutil.copy(root / f"classifier{suffix}", root / f"roi{suffix}")
    sealed_as_it_is(root)
    machine = Settings(cache_dir=tmp_path / "cache", key_file=tmp_path / "keys" / "cache.key")
    names = ("classifier.xml", "roi.xml")
    first, second, third = (BundleGraphs(read_bundle(root), machine) for _ in range(3))

    assert [first(name).kept for name in names] == [False, False]
    assert [second(name).kept for name in names] == [True, True]
    assert second.discard_cached()
    assert [third(name).kept for name in names] == [False, False]


def test_a_graph_is_opened_as_the_machine_is_set_and_the_bundle_was_certified(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def opened(place: runtime.Place, **options: object) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(kept=False)

    monkeypatch.setattr(runtime, "open_graph", opened)
    whole = read_bundle(root)
    half = replace(whole, manifest=whole.manifest.model_copy(update={"precision": "bf16"}))
    machine = Settings(cache_dir=tmp_path, key_file=tmp_path / "key", device="GPU.1", threads=3)
    graphs = BundleGraphs(half, machine)
    graphs("classifier.xml")
    graphs("classifier.xml", precision="f32")

    assert asked == [{"device": "GPU.1", "precision": precision, "threads": 3} for precision in ("bf16", "f32")]
