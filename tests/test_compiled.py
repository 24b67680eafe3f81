from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from gonogo import bundle, compiled, runtime
from gonogo.compiled import CompiledCache
from gonogo.config import Settings
from gonogo.dataset import Dataset
from gonogo.errors import BundleError
from gonogo.inspector import Inspector
from tiny_bundle import make_parts
from weighted_bundle import make_weighted_bundle, reseal, zeroed


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_parts(tmp_path_factory.mktemp("parts") / "set", np.random.default_rng(1))


@pytest.fixture
def sealed(parts: Dataset, tmp_path: Path) -> Path:
    return make_weighted_bundle(tmp_path / "weighted.inspector", parts).root


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", key_file=tmp_path / "keys" / "cache.key")


def kept(machine: Settings) -> list[Path]:
    return sorted((machine.cache_dir / "compiled").iterdir())


def score(inspector: Inspector, parts: Dataset) -> float:
    found = inspector.inspect(parts.load(parts.samples[3])).score
    assert found is not None
    return found


def exported(model: ov.Model) -> bytes:
    compiled_model = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return bytes(compiled_model.export_model().getvalue())


def binding(root: Path) -> dict[str, str]:
    """What the cache binds a bundle's classifier to; also for a bundle sealed by somebody else."""
    return {
        "bundle": bundle.read_bundle(root).sha256,
        "graph": bundle.CLASSIFIER,
        "openvino": ov.get_version(),
        "processor": runtime.runtime_environment()["processor"],
        "features": runtime._processor_features(),
        "device": "CPU",
        "precision": "f32",
    }


def test_a_second_start_runs_the_kept_graph_and_gives_the_same_scores_at_any_thread_count(
    sealed: Path, parts: Dataset, machine: Settings
) -> None:
    cold = Inspector.load(sealed, machine=machine)
    assert not cold._graph.kept
    for threads in (0, 1, 2):
        warm = Inspector.load(sealed, machine=machine.model_copy(update={"threads": threads}))
        assert warm._graph.kept
        assert score(warm, parts) == score(cold, parts)


def test_a_warm_cache_does_not_hide_resealed_weights(sealed: Path, machine: Settings) -> None:
    Inspector.load(sealed, machine=machine)
    ov.save_model(zeroed(), sealed / bundle.CLASSIFIER, compress_to_fp16=False)
    reseal(sealed)
    with pytest.raises(BundleError, match="expected a score of"):
        Inspector.load(sealed, machine=machine)


@pytest.mark.slow
def test_a_replaced_graph_in_the_cache_is_not_run_even_without_golden_frames(
    sealed: Path, parts: Dataset, machine: Settings
) -> None:
    expected = score(Inspector.load(sealed, machine=machine), parts)
    (file,) = kept(machine)
    genuine, evil = file.read_bytes(), exported(zeroed())
    own = CompiledCache(folder=machine.cache_dir / "other", key_file=machine.cache_dir / "other.key")
    own.write("place", binding(sealed), evil)
    code = len(compiled._MAGIC) + 32
    for data in (evil, genuine[:code] + evil, own.file("place").read_bytes(), genuine[:-1], b"", genuine + b"\0"):
        file.write_bytes(data)
        found = Inspector.load(sealed, machine=machine, replay=False)
        assert not found._graph.kept
        assert score(found, parts) == expected
        assert Inspector.load(sealed, machine=machine)._graph.kept, "compiled from the sealed file and kept anew"


def test_a_kept_graph_that_fails_the_golden_frames_gives_way_to_the_sealed_one(
    sealed: Path, parts: Dataset, machine: Settings
) -> None:
    expected = score(Inspector.load(sealed, machine=machine), parts)
    cache = CompiledCache(folder=machine.cache_dir / "compiled", key_file=machine.key_file)
    place = str(sealed.resolve() / bundle.CLASSIFIER)
    for blob in (exported(zeroed()), b"no graph at all"):
        cache.write(place, binding(sealed), blob)
        assert cache.read(place, binding(sealed)) == blob, "the key of this user vouches for it"
        assert score(Inspector.load(sealed, machine=machine), parts) == expected
        assert score(Inspector.load(sealed, machine=machine, replay=False), parts) == expected


def test_links_pipes_and_folders_in_the_cache_are_passed_over(sealed: Path, parts: Dataset, machine: Settings) -> None:
    expected = score(Inspector.load(sealed, machine=machine), parts)
    (file,) = kept(machine)
    copy = machine.cache_dir / "copy"
    shutil.copyfile(file, copy)
    for make in (lambda: file.symlink_to(copy), lambda: os.mkfifo(file), file.mkdir):
        file.unlink()
        make()
        found = Inspector.load(sealed, machine=machine)
        assert not found._graph.kept
        assert score(found, parts) == expected
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
            file.touch()


def test_cache_and_key_are_for_this_user_alone_and_an_exposed_key_is_replaced(sealed: Path, machine: Settings) -> None:
    before = os.umask(0)
    try:
        Inspector.load(sealed, machine=machine)
    finally:
        os.umask(before)
    (file,) = kept(machine)
    for path, mode in (
        (file, 0o600),
        (file.parent, 0o700),
        (machine.key_file, 0o600),
        (machine.key_file.parent, 0o700),
    ):
        assert path.stat().st_mode & 0o777 == mode, path
    old = machine.key_file.read_bytes()
    machine.key_file.chmod(0o644)
    assert not Inspector.load(sealed, machine=machine)._graph.kept
    assert machine.key_file.read_bytes() != old
    assert machine.key_file.stat().st_mode & 0o777 == 0o600
    assert Inspector.load(sealed, machine=machine)._graph.kept


def test_every_revision_of_a_bundle_takes_the_place_of_the_last(sealed: Path, machine: Settings) -> None:
    for number in range(4):
        opened = bundle.read_bundle(sealed)
        bundle.write_manifest(sealed, opened.manifest.model_copy(update={"name": f"revision {number}"}))
        assert not Inspector.load(sealed, machine=machine)._graph.kept
        assert Inspector.load(sealed, machine=machine)._graph.kept
        assert len(kept(machine)) == 1


def test_the_cache_keeps_a_bounded_number_of_graphs_and_no_leftovers(tmp_path: Path) -> None:
    cache = CompiledCache(folder=tmp_path / "compiled", key_file=tmp_path / "key")
    for number in range(compiled.MOST_FILES + 5):
        cache.write(f"place {number}", {}, b"graph")
        os.utime(cache.file(f"place {number}"), (number, number))
    leftover = cache.folder / ".killed.compiled.abc"
    leftover.touch()
    os.utime(leftover, (0, 0))
    cache.write("last", {}, b"graph")
    assert len(list(cache.folder.iterdir())) == compiled.MOST_FILES
    assert cache.read("last", {}) == b"graph"
    assert cache.read("place 0", {}) is None


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    sealed: Path, parts: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for machine in (
        Settings(cache_dir=tmp_path / "file" / "below", key_file=tmp_path / "key"),
        Settings(cache_dir=tmp_path / "cache", key_file=tmp_path / "file" / "below"),
    ):
        assert score(Inspector.load(sealed, machine=machine), parts) == score(
            Inspector.load(sealed, machine=machine), parts
        )


def test_what_is_compiled_are_the_bytes_that_were_checked(sealed: Path, machine: Settings) -> None:
    opened = bundle.read_bundle(sealed)
    weights = sealed / "classifier.bin"
    weights.write_bytes(bytes(weights.stat().st_size))  # after the seal was compared, before the graph is read
    with pytest.raises(BundleError, match=r"classifier\.bin was changed while"):
        opened.graph(bundle.CLASSIFIER)
    with pytest.raises(BundleError, match=r"golden/none\.png is missing"):
        opened.data("golden/none.png")
