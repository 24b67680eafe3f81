"""Classifiers trained in other frameworks: read, with declared preprocessing, as graphs of gonogo.

OpenVINO's frontends read ONNX, TensorFlow and torch programs; Keras exports its own files. The logits before the last
softmax or sigmoid become one defect logit, and where the network ends in a pooling and dense layers, a heat map comes
from the same forward pass.
"""

from gonogo.imported.declared import Declaration
from gonogo.imported.graph import FittedMap, ImportedNet, classifier_of, imported_net, layer_name
from gonogo.imported.heads import own_score
from gonogo.imported.pixels import prepared_array
from gonogo.imported.reading import OpenedModel, open_model

__all__ = [
    "Declaration",
    "FittedMap",
    "ImportedNet",
    "OpenedModel",
    "classifier_of",
    "imported_net",
    "layer_name",
    "open_model",
    "own_score",
    "prepared_array",
]
