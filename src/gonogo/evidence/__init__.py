"""Three kinds of evidence on frozen features, weighted into one score and one map, without torch.

*Context* (a logistic head on pooled features of the whole picture), *memory* (distance to patches of good parts) and
*cells* (a discriminant trained on masks) each have a map on the grid of stride 16 and a pooling. The weighted poolings
add up to the score, the weighted maps to the heat map.
"""

from gonogo.evidence.fitting import OutOfFold, fit_evidence, losses_out_of_fold, out_of_fold
from gonogo.evidence.graph import PREFIX, classifier_graph, describe_classifier
from gonogo.evidence.judge import Judgement, Weighted, judge_reference, pool
from gonogo.evidence.kinds import DefectKinds, fit_defect_kinds
from gonogo.evidence.shift import measure_shift
from gonogo.evidence.table import FeatureTable, gather_features, part_numbers, store_features

__all__ = [
    "PREFIX",
    "DefectKinds",
    "FeatureTable",
    "Judgement",
    "OutOfFold",
    "Weighted",
    "classifier_graph",
    "describe_classifier",
    "fit_defect_kinds",
    "fit_evidence",
    "gather_features",
    "judge_reference",
    "losses_out_of_fold",
    "measure_shift",
    "out_of_fold",
    "part_numbers",
    "pool",
    "store_features",
]
