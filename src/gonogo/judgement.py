"""The steps of a judgement that need no graph: thresholds, the out-of-distribution check, golden frames, faults."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gonogo import devices
from gonogo.bundle import Bundle
from gonogo.drift import DriftReference
from gonogo.errors import BundleError, UnlocatedError
from gonogo.images import Photograph
from gonogo.operating_point import state_and_reason, without_promise
from gonogo.schema import FeatureVector, Located, OperatingPoint, Region, State, Verdict, ZoneVerdict
from gonogo.zoning import worst_zone


def decide(point: OperatingPoint | None, score: float, zones: Sequence[ZoneVerdict]) -> tuple[State, str]:
    """Return the verdict on a score and its reason.

    Args:
        point: The thresholds; without them every part is a review.
        score: The part's score.
        zones: The judgements of its zones, if it has some.

    Raises:
        ValueError: The score is not finite.
    """
    if not math.isfinite(score):
        raise ValueError(f"the network gave a score of {score}")
    if point is None:
        return State.REVIEW, "no operating point is certified yet: sent to review"
    state, reason = state_and_reason(point, score)
    reason = f"{reason}, in zone {worst_zone(zones)}" if zones else reason
    unpromised = without_promise(point)
    return state, f"{reason}; {unpromised}" if unpromised else reason


def check_distribution(
    reference: DriftReference | None, state: State, reason: str, vector: FeatureVector
) -> tuple[State, str]:
    """Send a part that is out of distribution to review; never changes a review to go or no-go."""
    if reference is None or reference.guard is None or state is State.REVIEW:
        return state, reason
    guard, distance = reference.guard, reference.features.distance(vector)
    if not guard.stops(distance):
        return state, reason
    return (
        State.REVIEW,
        f"out of distribution (distance {distance:.3f}, limit {guard.farthest:.3f}): sent to review; "
        f"otherwise {reason}",
    )


def reproduce(inspect: Callable[[Photograph], Verdict], opened: Bundle, environment: Mapping[str, str]) -> None:
    """Judge the golden frames; scores must be bit-equal on the CPU of certification, else within tolerance.

    Args:
        inspect: Judges a picture with the bundle.
        opened: The bundle.
        environment: Where it judges, see `gonogo.runtime.runtime_environment`.

    Raises:
        UnreproducedError: A score differs.
    """
    manifest, device = opened.manifest, environment["device"]
    exact = device == devices.CPU and dict(environment) == dict(manifest.proven_on)
    allowed = 0.0 if exact else manifest.score_tolerance
    for file, photograph, expected in opened.golden():
        verdict = inspect(photograph)
        off = math.inf if verdict.score is None else abs(verdict.score - expected)
        if off <= allowed:
            continue
        differs = f"differs by {off:.2g}, tolerance {allowed:g}" if verdict.score is not None else verdict.reason
        raise UnreproducedError(
            f"{opened.root}: expected a score of {expected!r} for {file}, found {verdict.score!r} "
            f"({'on the same kind of machine' if exact else f'tolerance {allowed:g}'}). "
            f"This device ({device}) does not reproduce the bundle. Certify it again here: gonogo certify",
            f"golden frame {Path(file).name} {differs}",
        )


class UnreproducedError(BundleError):
    """A golden frame was judged differently than it was certified."""

    def __init__(self, message: str, short: str) -> None:
        """Store the message, and what differs in a few words."""
        super().__init__(message)
        self.short = short


def fault(reason: object, timings_ms: Mapping[str, float] | None = None) -> Verdict:
    """A judgement that could not be completed."""
    return Verdict(state=State.FAULT, score=None, reason=str(reason), timings_ms=timings_ms or {})


def require_part(located: Located) -> Region:
    """Return the region to judge.

    Raises:
        UnlocatedError: The part was not found.
    """
    if not located.present or located.region is None:
        raise UnlocatedError(located.reason or "the search for the part gave no region")
    return located.region


class Timed:
    """Records the duration of its block, even if the block raises."""

    def __init__(self, timings_ms: dict[str, float], stage: str) -> None:
        """Store where the duration of the stage goes, in milliseconds."""
        self._timings_ms, self._stage = timings_ms, stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings_ms[self._stage] = (time.perf_counter() - self._started) * 1e3
