"""A cascade: a small network judges every part, a large one judges those that the small one is not sure of.

The student (the small network) decides clear cases: a score below the band is clearly good, one above it clearly bad.
The teacher (the large network) judges all other parts, and every part that is out of distribution for the student.
Either way there is one score per part, in the teacher's unit: the teacher's own score, or the student's, shifted by a
constant beyond the teacher's thresholds. The score depends only on the frame, so `gonogo.operating_point` certifies it
like any other score.
"""

from __future__ import annotations

import numpy as np

from gonogo import bundle, drift, images
from gonogo.drift import DriftReference
from gonogo.errors import BundleError
from gonogo.manifest import CascadeRule
from gonogo.runtime import Graph
from gonogo.zoning import Prepared

Outputs = dict[str, np.ndarray]
"""Outputs of a graph for one picture: ``score``, ``heatmap``, ``feature_vector``."""


class Cascade:
    """Decides whether to ask the teacher, and merges both answers into one score. Not thread-safe."""

    def __init__(self, rule: CascadeRule, student_bias: float, teacher: Graph, reference: DriftReference) -> None:
        self.rule = rule
        self._student_bias = student_bias
        self._teacher = teacher
        self._reference = reference

    @classmethod
    def of(cls, opened: bundle.Bundle, teacher: Graph) -> Cascade:
        """Open the cascade of a bundle that has one.

        Raises:
            BundleError: The files of the out-of-distribution check are missing or malformed.
        """
        rule, reference = opened.manifest.cascade, drift.read_sealed_reference(opened, bundle.CASCADE)
        if rule is None or reference is None:
            raise BundleError(
                f"{opened.root}: expected a cascade with an out-of-distribution check, found none. "
                "Make the cascade again: gonogo bundle cascade"
            )
        return cls(rule, opened.manifest.classifier.bias, teacher, reference)

    @property
    def bias(self) -> float:
        """``score = pool(heatmap) + bias`` for both networks; with evidence maps, for the teacher's answer only."""
        return self.rule.teacher.bias

    def doubt(self, student: Outputs) -> str:
        """Return the reason to ask the teacher; empty if the student decides."""
        score = float(student["score"][0])
        if not (score < self.rule.ask_from or score > self.rule.ask_to):  # NaN is not clear either
            return f"the first network's score {score:.3f} is not clear"
        distance = self._reference.features.distance(student["feature_vector"][0])
        if self._reference.guard is not None and self._reference.guard.stops(distance):
            return f"the part is out of distribution for the first network (distance {distance:.3f})"
        return ""

    def in_teacher_unit(self, student: Outputs) -> Outputs:
        """Convert the student's clear answer to the teacher's unit; the map is shifted together with the score.

        If one of the two maps is an evidence map, their units differ. The student's map is then brought to the
        teacher's heat scale; ``map_scale`` and ``map_offset`` record the conversion.
        """
        clearly_good = float(student["score"][0]) < self.rule.ask_from
        shift = np.float32(self.rule.good_shift if clearly_good else self.rule.bad_shift)
        offset = np.float32(self.rule.map_offset or 0.0)
        if self.rule.map_offset is None:
            offset = shift + np.float32(self._student_bias - self.bias)
        zones = {"zones": student["zones"] + shift} if "zones" in student else {}
        return {
            **student,
            **zones,
            "score": student["score"] + shift,
            "heatmap": student["heatmap"] * np.float32(self.rule.map_scale) + offset,
        }

    def ask(self, ready: Prepared, student: Outputs) -> Outputs:
        """Judge the region with the teacher, at its own input size; the feature vector remains the student's."""
        answer = self._teacher(images.cut(ready.frame, ready.region, self.rule.size_wh))
        return {**answer, "feature_vector": student["feature_vector"]}
