"""Pretrained weights: from a safetensors file, from torchvision's download, or random."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from gonogo.errors import WeightsError
from gonogo.files import require_regular
from gonogo.model.backbones import Architecture, FeatureStack, architecture, feature_stack


def load_backbone(name: str, *, weights: Path | str, cuts: tuple[str, ...] = (), seed: int = 0) -> FeatureStack:
    """Build a backbone, cut it and load its weights.

    Only the tensors up to the cut are needed, so a file with fewer layers works with an early cut.

    Args:
        name: A key of ``ARCHITECTURES``.
        weights: A safetensors file with torchvision's key names, ``"imagenet"`` (downloaded by torchvision) or
            ``"none"`` (random, seeded).
        cuts: Nodes to cut at; the last feature map where empty.
        seed: Random seed, for random weights.

    Raises:
        InputError: There is no such backbone or node.
        WeightsError: The file is missing, or tensors are missing or have another shape.
    """
    chosen = architecture(name)
    torch.manual_seed(seed)
    if weights == "imagenet":
        return feature_stack(name, _downloaded(name, chosen), cuts)
    stack = feature_stack(name, chosen.build(weights=None), cuts)
    if weights != "none":
        fill_weights(stack, read_tensors(Path(weights)), source=str(weights), name=name)
    return stack


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file as float32.

    Raises:
        WeightsError: The file is missing, or not in safetensors format.
    """
    if not path.is_file():
        raise WeightsError(f"--weights: expected a safetensors file, 'imagenet' or 'none', found no file {path}.")
    try:
        require_regular(path)
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: expected a safetensors file ({error}). Convert pickled weights with safetensors.torch.save_file."
        ) from error
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def fill_weights(stack: FeatureStack, tensors: dict[str, Tensor], *, source: str, name: str) -> None:
    """Copy tensors into a cut backbone.

    Raises:
        WeightsError: A tensor is missing or has another shape; the message names it and the next step.
    """
    wanted = {key: value for key, value in stack.body.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in tensors]
    if missing:
        raise WeightsError(
            f"{source}: {name} cut at {'+'.join(stack.cuts)} needs {len(wanted)} tensors; {len(missing)} of them are "
            f"missing in the file (first: {missing[0]}). Choose the backbone of the weights with --backbone, or an "
            "earlier --cut if the file has fewer layers."
        )
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            raise WeightsError(
                f"{source}: {name} expects {key} of shape {tuple(value.shape)}, found {tuple(tensors[key].shape)}. "
                "The file is for another architecture. Choose the matching --backbone."
            )
    stack.body.load_state_dict({key: tensors[key] for key in wanted}, strict=False)


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """List the batch normalisations of a network, in order."""
    return [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]


def _downloaded(name: str, chosen: Architecture) -> nn.Module:
    if chosen.packaged:
        return chosen.build(weights="imagenet")
    try:
        return chosen.build(weights=torchvision.models.get_model_weights(name).IMAGENET1K_V1)
    except OSError as error:
        raise WeightsError(
            f"--weights imagenet: torchvision could not download the weights of {name} ({error}). "
            "On a machine without network, copy a safetensors file over and pass --weights FILE."
        ) from error
