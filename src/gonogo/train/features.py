"""Computes frozen features of training pictures and their augmentations with OpenVINO."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo.array_types import Float16, Float32, Int
from gonogo.augment import Augmentation
from gonogo.dataset import Sample, fingerprint
from gonogo.files import vanishing_array, write_beside
from gonogo.progress import track
from gonogo.runtime import Graph
from gonogo.source import Marks, TrainingSource, labels, stream_views


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Mean-pooled features of some samples in all their augmentations, and their labels."""

    vectors: Float32[np.ndarray, "samples views channels"]
    bad: Int[np.ndarray, " samples"]
    """1 for a bad part, 0 for a good one."""


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Feature maps of some samples in all their augmentations, and their labels."""

    maps: Float16[np.ndarray, "samples views channels rows columns"]
    bad: Int[np.ndarray, " samples"]


def pooled_features(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    *,
    seed: int,
    cache: Path,
    identity: str,
) -> Pooled:
    """Compute mean-pooled features, with a cache.

    Args:
        graph: The compiled backbone with an output ``features`` of means, see `gonogo.export.FrozenNetwork.pooled`.
        source: Source of the pictures.
        samples: Labelled samples.
        augmentation: Augmentations per picture; the first is the original.
        seed: Random seed of the jittered crops.
        cache: Folder of the cache.
        identity: Cache key of everything else: backbone, weights, normalisation, region of interest.
    """
    key = "|".join([identity, str(source.size_wh), str(augmentation), str(seed), fingerprint(source.dataset, samples)])
    file = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    order = np.argsort([sample.file_name for sample in samples])  # the fingerprint does not depend on the order
    if file.is_file():
        stored = np.load(file, allow_pickle=False)
        vectors = np.empty_like(stored)
        vectors[order] = stored
    else:
        rows = list(stream_features(graph, source, samples, augmentation, seed=seed))
        vectors = np.stack(rows).astype(np.float32).reshape(len(samples), augmentation.views, -1)
        buffer = io.BytesIO()
        np.save(buffer, vectors[order])
        write_beside(file, buffer.getvalue())
    return Pooled(vectors=vectors, bad=labels(samples))


def feature_maps(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    *,
    seed: int,
    scratch: Path,
) -> Maps:
    """Compute feature maps of labelled samples in all their augmentations, see `store_maps`."""
    results = stream_features(graph, source, samples, augmentation, seed=seed)
    maps = store_maps(results, len(samples) * augmentation.views, scratch=scratch)
    return Maps(maps=maps.reshape(len(samples), augmentation.views, *maps.shape[1:]), bad=labels(samples))


def store_maps(
    results: Iterator[Float32[np.ndarray, "channels rows columns"]], count: int, *, scratch: Path
) -> Float16[np.ndarray, "count channels rows columns"]:
    """Store feature maps as float16 in a file that is deleted with the array, since they may not fit in memory."""
    maps: np.ndarray | None = None
    for index, features in enumerate(results):
        if maps is None:
            maps = vanishing_array((count, *features.shape), np.float16, scratch)
        maps[index] = features
    assert maps is not None, "called with no samples"
    return maps


def stream_features(
    graph: Graph, source: TrainingSource, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int
) -> Iterator[Float32[np.ndarray, "channels ..."]]:
    """Yield the output ``features`` for every augmentation of some samples, in order, preparing the next meanwhile."""
    for result in _stream(graph, source, samples, augmentation, seed):
        yield result["features"][0]


def stream_maps(
    graph: Graph, source: TrainingSource, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int
) -> Iterator[list[Float32[np.ndarray, "_ _ _"]]]:
    """Yield the map of every cut (channels x rows x columns) for every augmentation, see `FrozenNetwork.maps`."""
    for result in _stream(graph, source, samples, augmentation, seed):
        yield [found[0] for found in result.values()]


def stream_marked_maps(
    graph: Graph, source: TrainingSource, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int
) -> Iterator[tuple[list[Float32[np.ndarray, "_ _ _"]], Marks | None]]:
    """Like `stream_maps`, together with the augmented mask of the sample."""
    views = source.views(samples, augmentation, seed=seed, masks=True)
    results = stream_views(graph, views)
    for result, marks in track(results, "computing features", total=len(samples) * augmentation.views):
        yield [found[0] for found in result.values()], marks


def _stream(
    graph: Graph, source: TrainingSource, samples: Sequence[Sample], augmentation: Augmentation, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    views = source.views(samples, augmentation, seed=seed)
    results = (result for result, _ in stream_views(graph, views))
    yield from track(results, "computing features", total=len(samples) * augmentation.views)
