"""Bundles and the cache of compiled graphs under attack: nothing but the sealed graph may ever judge."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from gonogo import bundle
from gonogo.certification import recertify
from gonogo.compiled import CompiledCache
from gonogo.config import Settings
from gonogo.dataset import Dataset
from gonogo.errors import BundleError
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from test_compiled import binding, exported
from tiny_bundle import make_parts
from weighted_bundle import make_weighted_bundle, reseal, zeroed

pytestmark = [pytest.mark.attack, pytest.mark.timeout(1800)]

Attempts = Callable[[int], int]
Recorder = Callable[..., None]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_parts(tmp_path_factory.mktemp("parts") / "set", np.random.default_rng(1))


@pytest.fixture(scope="module")
def certified(parts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With everything that a bundle may hold after ``gonogo certify``."""
    made = make_weighted_bundle(tmp_path_factory.mktemp("made") / "weighted.inspector", parts)
    recertify(Inspector.load(made.root), parts, Promise(max_escape=0.1, max_overkill=0.1, guard=0.05))
    return made.root


@pytest.fixture
def target(certified: Path, tmp_path: Path) -> Path:
    shutil.copytree(certified, tmp_path / "target.inspector")
    return tmp_path / "target.inspector"


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", key_file=tmp_path / "key" / "cache.key", threads=1)


def scores(inspector: Inspector, parts: Dataset) -> list[float | None]:
    return [inspector.inspect(parts.load(sample)).score for sample in parts.samples[:4]]


def test_one_changed_bit_in_any_file_of_a_bundle_is_refused_by_name(
    target: Path, attempts: Attempts, record: Recorder, rng: np.random.Generator
) -> None:
    files = sorted(path for path in target.rglob("*") if path.is_file())
    tried = attempts(6000)
    refused = named = 0
    for number in range(tried):
        path = files[number % len(files)]
        data = path.read_bytes()
        changed = bytearray(data)
        changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            bundle.read_bundle(target)
        except BundleError as error:
            refused += 1
            named += path.relative_to(target).as_posix() in str(error) or path.name == bundle.SEAL
        path.write_bytes(data)
    bundle.read_bundle(target)
    record("bundle_bits", files=len(files), tried=tried, refused=refused, named=named)
    assert refused == named == tried


def test_no_resealed_bundle_passes_its_golden_frames_by_a_warm_cache(
    target: Path, machine: Settings, parts: Dataset, attempts: Attempts, record: Recorder, rng: np.random.Generator
) -> None:
    """Weights of zero, and weights changed only a little, sealed again over a warm cache."""
    weights = np.random.default_rng(3).normal(size=(8, 3, 8, 8))
    from weighted_bundle import graph

    tried, refused = attempts(200), 0
    for number in range(tried):
        again = target.with_name("again.inspector")
        shutil.copytree(target, again, dirs_exist_ok=True)
        Inspector.load(again, machine=machine)
        assert Inspector.load(again, machine=machine)._graph.kept
        model = zeroed() if number == 0 else graph(weights * (1 + 0.1 * rng.normal(size=weights.shape)))
        ov.save_model(model, again / bundle.CLASSIFIER, compress_to_fp16=False)
        reseal(again)
        try:
            Inspector.load(again, machine=machine)
        except BundleError as error:
            refused += "expected a score of" in str(error)
    record("resealed_weights_warm_cache", tried=tried, refused=refused)
    assert refused == tried


def replacements(file: Path, root: Path, machine: Settings, rng: np.random.Generator) -> Iterator[Callable[[], object]]:
    """Ways to put another graph in the place of a kept one, for somebody who may write the cache but has no key."""
    genuine, evil = file.read_bytes(), exported(zeroed())
    head = len(genuine) - len(exported_of(genuine))
    foreign = CompiledCache(folder=machine.cache_dir / "foreign", key_file=machine.cache_dir / "foreign.key")
    foreign.write("place", binding(root), evil)
    mine = CompiledCache(folder=machine.cache_dir / "swapped", key_file=machine.key_file)
    mine.write("revision", binding(root) | {"bundle": "0" * 64}, evil)
    mine.write("graph", binding(root) | {"graph": bundle.TEACHER}, evil)
    mine.write("openvino", binding(root) | {"openvino": "2020.1"}, evil)
    mine.write("processor", binding(root) | {"processor": "another"}, evil)
    for data in (
        evil,
        genuine[:head] + evil,
        foreign.file("place").read_bytes(),
        *(mine.file(name).read_bytes() for name in ("revision", "graph", "openvino", "processor")),
        genuine[: int(rng.integers(len(genuine)))],
        genuine + rng.bytes(9),
        b"",
    ):
        yield lambda data=data: file.write_bytes(data)
    flipped = bytearray(genuine)
    flipped[int(rng.integers(len(genuine)))] ^= 1 << int(rng.integers(8))
    yield lambda: file.write_bytes(flipped)
    aside = machine.cache_dir / "aside"
    aside.write_bytes(genuine)
    yield lambda: (file.unlink(), file.symlink_to(aside))
    yield lambda: (file.unlink(), file.symlink_to(machine.cache_dir / "dangling"))
    yield lambda: (file.unlink(), os.mkfifo(file))


def exported_of(kept: bytes) -> bytes:
    """The graph in a kept file, behind its mark and its code."""
    from gonogo import compiled

    return kept[len(compiled._MAGIC) + 32 :]


def test_no_replaced_graph_in_the_cache_ever_judges(
    target: Path, machine: Settings, parts: Dataset, attempts: Attempts, record: Recorder, rng: np.random.Generator
) -> None:
    expected = scores(Inspector.load(target, machine=machine), parts)
    (file,) = (machine.cache_dir / "compiled").iterdir()
    tried = other = imported = 0
    for _ in range(attempts(60)):
        for replace in replacements(file, target, machine, rng):
            replace()
            for replay in (False, True):  # without golden frames nothing but the code stands in the way
                found = Inspector.load(target, machine=machine, replay=replay)
                imported += found._graph.kept and not replay
                other += scores(found, parts) != expected
            tried += 1
            assert Inspector.load(target, machine=machine)._graph.kept, "kept anew"
    record("replaced_compiled_graph", tried=tried, imported=imported, other_scores=other)
    assert imported == other == 0


def test_a_writer_that_keeps_swapping_graphs_during_starts_changes_no_score(
    target: Path, machine: Settings, parts: Dataset, attempts: Attempts, record: Recorder
) -> None:
    """Reading once and checking in memory leaves no gap between the check and the use."""
    expected = scores(Inspector.load(target, machine=machine), parts)
    (file,) = (machine.cache_dir / "compiled").iterdir()
    genuine, evil = file.read_bytes(), exported(zeroed())
    stop, swaps = threading.Event(), 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            for data in (genuine, genuine[: -len(evil)] + evil, genuine[: len(genuine) // 2], evil):
                with contextlib.suppress(OSError):
                    file.write_bytes(data)
                swaps += 1

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        tried = attempts(600)
        other = sum(
            scores(Inspector.load(target, machine=machine, replay=False), parts) != expected for _ in range(tried)
        )
    finally:
        stop.set()
        writer.join()
    record("swapping_writer", starts=tried, swaps=swaps, other_scores=other)
    assert other == 0


def test_sealed_files_swapped_while_a_bundle_opens_never_judge(
    target: Path, machine: Settings, parts: Dataset, attempts: Attempts, record: Recorder
) -> None:
    """Every start either judges with the sealed graph or is refused."""
    expected = scores(Inspector.load(target, machine=machine), parts)
    weights = target / "classifier.bin"
    genuine = weights.read_bytes()
    spoilt = bytes(np.frombuffer(genuine, np.uint8) ^ 1)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for data in (spoilt, genuine):
                partial = target.with_name("partial")
                partial.write_bytes(data)
                partial.replace(weights)
                stop.wait(0.001)

    writer = threading.Thread(target=swap)
    writer.start()
    tried, refused, other = attempts(600), 0, 0
    try:
        for _ in range(tried):
            shutil.rmtree(machine.cache_dir, ignore_errors=True)
            try:
                other += scores(Inspector.load(target, machine=machine, replay=False), parts) != expected
            except BundleError:
                refused += 1
    finally:
        stop.set()
        writer.join()
    record("swapped_while_opening", starts=tried, refused=refused, other_scores=other)
    assert other == 0
