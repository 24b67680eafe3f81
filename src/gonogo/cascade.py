"""A cascade: a small network judges every part, a large one those that the small one is not sure of.

The student's clear answers stand: a score below the band is clearly good, one above it clearly bad. Everything else,
and every part unlike what the student was taught, is judged by the teacher. Both come to one score per part, in the
teacher's unit: the teacher's own, or the student's moved by a constant to the outer side of the teacher's thresholds.
It depends on the frame alone, so the rule of `gonogo.operating_point` certifies it as it does any other score.
"""

from __future__ import annotations

import numpy as np

from gonogo import bundle, drift, images
from gonogo.drift import DriftReference
from gonogo.errors import BundleError
from gonogo.manifest import CascadeRule
from gonogo.runtime import Graph
from gonogo.schema import Frame, Region

Outputs = dict[str, np.ndarray]
"""What a graph gives for one picture: ``score``, ``heatmap``, ``feature_vector``."""


class Cascade:
    """What happens after the student's graph. Not thread-safe, as graphs are not."""

    def __init__(self, rule: CascadeRule, student_bias: float, teacher: Graph, known: DriftReference) -> None:
        self.rule = rule
        self._student_bias = student_bias
        self._teacher = teacher
        self._known = known

    @classmethod
    def of(cls, opened: bundle.Bundle, teacher: Graph) -> Cascade:
        """The cascade of a bundle that has one.

        Raises:
            BundleError: the guard's files are missing or malformed.
        """
        rule, known = opened.manifest.cascade, drift.read_sealed_reference(opened, bundle.CASCADE)
        if rule is None or known is None:
            raise BundleError(f"{opened.root}: expected a cascade with its guard, found none. Make it anew.")
        return cls(rule, opened.manifest.classifier.bias, teacher, known)

    @property
    def bias(self) -> float:
        """``score = pool(heatmap) + bias``, whoever judged; with a map of evidence, of the teacher's answer only."""
        return self.rule.teacher.bias

    def doubt(self, student: Outputs) -> str:
        """Why the teacher must be asked; empty where the student's answer stands."""
        score = float(student["score"][0])
        if not (score < self.rule.ask_from or score > self.rule.ask_to):  # NaN is not clear either
            return f"the first network's score {score:.3f} is not clear"
        distance = self._known.features.distance(student["feature_vector"][0])
        if self._known.guard is not None and self._known.guard.stops(distance):
            return f"the first network was taught nothing like it (distance {distance:.3f})"
        return ""

    def settled(self, student: Outputs) -> Outputs:
        """The student's clear answer in the cascade's unit; its map moves with its score.

        Where one of the two maps is of evidence, they differ in unit: then the student's is brought to the teacher's
        heat scale, and what it pooled to stays stated by ``map_scale`` and ``map_offset``.
        """
        clearly_good = float(student["score"][0]) < self.rule.ask_from
        shift = np.float32(self.rule.good_shift if clearly_good else self.rule.bad_shift)
        offset = np.float32(self.rule.map_offset or 0.0)
        if self.rule.map_offset is None:
            offset = shift + np.float32(self._student_bias - self.bias)
        return {
            **student,
            "score": student["score"] + shift,
            "heatmap": student["heatmap"] * np.float32(self.rule.map_scale) + offset,
        }

    def ask(self, frame: Frame, region: Region, student: Outputs) -> Outputs:
        """The teacher's answer, from its own cut of the region; the feature vector stays the student's."""
        answer = self._teacher(images.cut(frame, region, self.rule.size_wh))
        return {**answer, "feature_vector": student["feature_vector"]}
