"""Pretrained feature extractors without torch: reading weights, OpenVINO graphs, and a numpy reference.

A backbone turns a picture (uint8 RGB, height x width x 3, sides multiples of 32) into feature maps at strides 8, 16
and 32. Its weights are frozen; models fitted on its features are in `gonogo.evidence`.
"""

from gonogo.backbone.efficientnet_lite import Conv, EfficientNetLite, ImagenetHead, efficientnet_lite, imagenet_head
from gonogo.backbone.graph import block_nodes, conv_node, feature_nodes, features_graph, frame_input, weight_constant
from gonogo.backbone.packages import PACKAGES, WeightsPackage, package_file
from gonogo.backbone.pretrained import Backbone, Pretrained, pretrained
from gonogo.backbone.reference import reference_features
from gonogo.backbone.weights_file import read_arrays

OWN = "own module"
"""What manifests call the weights of a user's own network."""
STRIDES = (8, 16, 32)
"""Pixels of the picture per cell of each feature map, along both axes."""

__all__ = [
    "OWN",
    "PACKAGES",
    "STRIDES",
    "Backbone",
    "Conv",
    "EfficientNetLite",
    "ImagenetHead",
    "Pretrained",
    "WeightsPackage",
    "block_nodes",
    "conv_node",
    "efficientnet_lite",
    "feature_nodes",
    "features_graph",
    "frame_input",
    "imagenet_head",
    "package_file",
    "pretrained",
    "read_arrays",
    "reference_features",
    "weight_constant",
]
