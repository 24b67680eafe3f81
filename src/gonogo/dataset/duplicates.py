"""Near-duplicate search: pictures that show the same part, found by features of its surface.

1. SIFT features are quantized to visual words; pictures that share many rare words are candidate pairs. This is one
   sparse matrix product, so ten thousand pictures are feasible.
2. The features of candidate pairs are matched and must agree on one similarity transform (RANSAC). The agreement is
   robust to brightness, cropping, shifts, small rotations, scale and recompression.
3. Parts in a fixture all look alike. If most *random* pairs agree, features that recur in random other pictures belong
   to the product, not to the part, and are dropped, and the required agreement is higher than that of random pairs.

``make duplicates`` measures the rates of detections and of wrong merges.

SIFT: Lowe, "Distinctive image features from scale-invariant keypoints", 2004. Square-root descriptors: Arandjelovic and
Zisserman, "Three things everyone should know to improve object retrieval", 2012.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.sparse import coo_matrix, csr_array
from scipy.sparse.csgraph import connected_components

from gonogo.array_types import Float32, Float64, UInt8
from gonogo.progress import track
from gonogo.schema import Frame

DETAIL_SIDE = 256
"""Long side of the pictures for feature detection, in pixels."""
MAX_FEATURES = 300
WORDS = 4096
"""Size of the visual vocabulary."""
CANDIDATES = 12
"""Number of candidates per picture that are matched feature by feature."""
MIN_AGREEING = 20
"""Smallest number of agreeing features for two pictures to show the same part."""
MAX_NEEDED = 60
"""Upper limit of the required agreement, which is six times the upper quartile where random pairs agree."""
RANDOM_PARTNERS = 8
RECURRENT = 2
"""A feature that recurs in at least this many of ``RANDOM_PARTNERS`` random pictures belongs to the product."""
ALIKE = 4
"""Median agreement of random pairs from which all parts are considered to look alike."""


_LEAST_CORRELATION = 0.5
"""Of the brightness of a picture and its near-duplicate, laid onto each other."""


@dataclass(frozen=True, kw_only=True)
class PictureHashes:
    """Features of one picture for near-duplicate search; about 40 kB."""

    points: Float32[np.ndarray, "features 2"]
    descriptors: UInt8[np.ndarray, "features 128"]
    """Square-root SIFT, scaled by 255."""

    @property
    def comparable(self) -> bool:
        """Whether the picture has enough texture to be recognised."""
        return len(self.points) >= 2 * MIN_AGREEING


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Two pictures that show the same part."""

    first: int
    second: int
    agreeing: int
    """Number of agreeing features."""
    needed: int


def picture_hashes(frame: Frame) -> PictureHashes:
    """Compute the features of a picture for near-duplicate search."""
    grey = _fit(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), DETAIL_SIDE)
    even = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(grey)
    sift = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=0.01)
    keypoints, descriptors = sift.detectAndCompute(even, None)
    if not keypoints:
        descriptors = np.zeros((0, 128), np.float32)
    rooted = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-6))
    return PictureHashes(
        points=np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2),
        descriptors=np.rint(rooted * 255).astype(np.uint8),
    )


def components(count: int, pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Number the connected components of a graph of ``count`` nodes and some edges, in order of first appearance."""
    ends = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    renumbered = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return tuple(renumbered[label] for label in labels.tolist())


def near_duplicates(pictures: Sequence[PictureHashes]) -> tuple[Alike, ...]:
    """Find pairs of pictures that show the same part; `components` joins chains of pairs.

    Pictures that are not `PictureHashes.comparable` are in no pair. The result is deterministic for pictures in the
    same order.
    """
    pictures, needed = _without_the_product(pictures)
    found = []
    for first, second in track(candidate_pairs(pictures), "Comparing pictures"):
        agreeing = len(_agreeing(pictures[first], pictures[second], needed=needed))
        if agreeing >= needed:
            found.append(Alike(first=first, second=second, agreeing=agreeing, needed=needed))
    return tuple(found)


def alignment(first: Frame, second: Frame) -> Float64[np.ndarray, "2 3"] | None:
    """Where the points of a picture are in a near-duplicate of it: an affine transform of pixel coordinates.

    Returns:
        ``None`` if fewer than `MIN_AGREEING` features agree, or if the second picture looks different there.
    """
    found = _matched(picture_hashes(first), picture_hashes(second), MIN_AGREEING)
    if found is None or len(found[1]) < MIN_AGREEING:
        return None
    small, other = (_fit(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), DETAIL_SIDE) for frame in (first, second))
    size_wh = (other.shape[1], other.shape[0])
    moved = cv2.warpAffine(small, found[0], size_wh)
    inside = cv2.warpAffine(np.ones_like(small), found[0], size_wh, flags=cv2.INTER_NEAREST) > 0
    if inside.sum() < MIN_AGREEING or np.corrcoef(moved[inside], other[inside])[0, 1] < _LEAST_CORRELATION:
        return None
    transform = np.asarray(found[0], np.float64)
    shrunk, grown = small.shape[1] / first.shape[1], second.shape[1] / other.shape[1]
    transform[:, :2] *= shrunk * grown
    transform[:, 2] *= grown
    return transform


def candidate_pairs(pictures: Sequence[PictureHashes]) -> list[tuple[int, int]]:
    """Find the best candidates for every picture: those that share the most, and the rarest, visual words.

    A visual word is the nearest of `WORDS` descriptors sampled from the pictures; weights are inverse document
    frequencies (Sivic and Zisserman, "Video Google", 2003).
    """
    words = _words(pictures)
    if words is None:
        return []
    count = min(CANDIDATES, len(pictures) - 1)
    transposed = words.T.tocsr()
    pairs: set[tuple[int, int]] = set()
    for start in track(range(0, len(pictures), 256), "Ranking pictures"):
        shared = (words[start : start + 256] @ transposed).toarray()
        shared[np.arange(len(shared)), start + np.arange(len(shared))] = -1
        partners = np.argpartition(-shared, count - 1, axis=1)[:, :count]
        for row, others in enumerate(partners.tolist(), start=start):
            pairs.update((min(row, other), max(row, other)) for other in others)
    return sorted(pairs)


def _words(pictures: Sequence[PictureHashes]) -> csr_array | None:
    """Weighted visual words, one row of unit length per picture; ``None`` if there is nothing to compare."""
    rng = np.random.default_rng(0)
    total = sum(len(picture.descriptors) for picture in pictures)
    if len(pictures) < 2 or total == 0:
        return None
    size = max(1, min(WORDS, total // 16))  # with more, each feature of a small set gets a separate word
    drawn = np.sort(rng.choice(total, size, replace=False))
    starts = np.cumsum([0, *(len(picture.descriptors) for picture in pictures)])
    owners = np.searchsorted(starts, drawn, side="right") - 1
    pairs = zip(owners.tolist(), drawn.tolist(), strict=True)
    vocabulary = np.array([pictures[owner].descriptors[row - starts[owner]] for owner, row in pairs], np.float32)
    vocabulary = vocabulary / np.linalg.norm(vocabulary, axis=1, keepdims=True)
    found = [
        np.unique(_products(picture.descriptors, vocabulary).argmax(axis=1))
        if len(picture.descriptors)
        else np.zeros(0, int)
        for picture in track(pictures, "Describing pictures")
    ]
    rows = np.repeat(np.arange(len(pictures)), [len(words) for words in found])
    columns = np.concatenate(found)
    rarity = np.log(len(pictures) / np.bincount(columns, minlength=len(drawn)).clip(1))
    weights = rarity[columns]
    lengths = np.sqrt(np.bincount(rows, weights**2, minlength=len(pictures))) + 1e-6
    return csr_array((weights / lengths[rows], (rows, columns)), shape=(len(pictures), len(drawn)))


def _without_the_product(pictures: Sequence[PictureHashes]) -> tuple[Sequence[PictureHashes], int]:
    """If parts look alike, drop the features of the product; also return the required agreement."""
    rng = np.random.default_rng(0)
    if _random_agreement(pictures, rng) < ALIKE:
        return pictures, MIN_AGREEING
    kept = []
    for picture in track(pictures, "Finding what all parts share"):
        seen = np.zeros(len(picture.points), int)
        for other in rng.choice(len(pictures), min(RANDOM_PARTNERS, len(pictures)), replace=False):
            if pictures[other] is not picture:
                seen[_agreeing(picture, pictures[other])] += 1
        own = seen < RECURRENT
        kept.append(replace(picture, points=picture.points[own], descriptors=picture.descriptors[own]))
    chance = _random_agreement(kept, rng, quantile=0.75)
    return kept, int(np.clip(6 * chance, MIN_AGREEING, MAX_NEEDED))


def _random_agreement(pictures: Sequence[PictureHashes], rng: np.random.Generator, quantile: float = 0.5) -> float:
    """A quantile of the number of agreeing features in random pairs; a few duplicates do not affect it."""
    if len(pictures) < 2:
        return 0.0
    drawn = rng.integers(0, len(pictures), (500, 2)).tolist()
    return float(np.quantile([len(_agreeing(pictures[a], pictures[b])) for a, b in drawn if a != b] or [0], quantile))


def _agreeing(first: PictureHashes, second: PictureHashes, *, needed: int = 4) -> list[int]:
    """Features of the first picture that agree with the second on a shift, a scale and a rotation up to 20 degrees."""
    found = _matched(first, second, needed)
    return [] if found is None else found[1]


def _matched(first: PictureHashes, second: PictureHashes, needed: int) -> tuple[np.ndarray, list[int]] | None:
    """The transform from the first picture to the second, 2 x 3 at `DETAIL_SIDE`, and the features that agree on it."""
    if min(len(first.points), len(second.points)) < needed:
        return None
    likeness = _products(first.descriptors, second.descriptors.astype(np.float32)) / 255**2
    rows = np.arange(len(likeness))
    partner = likeness.argmax(axis=1)
    best = likeness[rows, partner]
    likeness[rows, partner] = -1
    distinct = np.flatnonzero(1 - best < 0.85**2 * (1 - likeness.max(axis=1)))  # Lowe's ratio on squared distances
    if len(distinct) < needed:
        return None
    transform, inliers = cv2.estimateAffinePartial2D(
        first.points[distinct], second.points[partner[distinct]], ransacReprojThreshold=4, maxIters=300
    )
    if transform is None:  # OpenCV's stubs leave this out
        return None  # type: ignore[unreachable]
    scale = math.hypot(transform[0, 0], transform[1, 0])
    turn_degrees = math.degrees(math.atan2(transform[1, 0], transform[0, 0]))
    if not 0.6 < scale < 1.6 or abs(turn_degrees) > 20:
        return None
    return transform, distinct[inliers.ravel() > 0].tolist()


def _products(
    descriptors: UInt8[np.ndarray, "here 128"], others: Float32[np.ndarray, "there 128"]
) -> Float32[np.ndarray, "here there"]:
    """Dot products of descriptors, by OpenCV, because NumPy's BLAS would start threads on a busy machine."""
    products = cv2.gemm(descriptors.astype(np.float32), others, 1, None, 0, flags=cv2.GEMM_2_T)  # type: ignore[call-overload]
    return np.asarray(products, np.float32)


def _fit(grey: UInt8[np.ndarray, "height width"], side: int) -> UInt8[np.ndarray, "rows columns"]:
    height, width = grey.shape
    factor = side / max(height, width)
    size_wh = (max(8, round(width * factor)), max(8, round(height * factor)))
    return grey if factor >= 1 else cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)
