"""A user's own torch network as a backbone, cut at modules that the user names."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from gonogo.array_types import Float
from gonogo.errors import InputError
from gonogo.model.backbones import join_maps


class OwnStack(nn.Module):
    """A network cut at the outputs of some of its modules, which are read while it runs.

    Unlike `FeatureStack` it does not take the network apart, so any module works that torch can trace.
    """

    def __init__(self, network: nn.Module, cuts: tuple[str, ...]) -> None:
        """Check the names.

        Raises:
            InputError: The network has no such module.
        """
        super().__init__()
        self.cuts = cuts
        self.body = network
        known = dict(network.named_modules())
        if missing := [cut for cut in cuts if not cut or cut not in known]:
            listed = ", ".join([name for name in known if name][:40])
            raise InputError(f"maps: the network has no module {', '.join(map(repr, missing))}; it has {listed}.")

    def forward(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """Map normalised pictures to joined feature maps."""
        return join_maps(self.maps(pictures))

    def maps(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Map normalised pictures to the feature map of each cut, at its original resolution.

        Raises:
            InputError: A module was not run, or its output is not a feature map.
        """
        found: dict[str, object] = {}
        hooks = [self.body.get_submodule(cut).register_forward_hook(partial(_keep, found, cut)) for cut in self.cuts]
        try:
            self.body(pictures)
        finally:
            for hook in hooks:
                hook.remove()
        maps = []
        for cut in self.cuts:
            value = found.get(cut)
            if not isinstance(value, Tensor) or value.ndim != 4:
                seen = "was not run" if cut not in found else f"gave {_described(value)}"
                raise InputError(f"maps: expected batch x channels x rows x columns from {cut}, which {seen}.")
            maps.append(value)
        return maps


def _keep(found: dict[str, object], cut: str, _module: nn.Module, _inputs: object, output: object) -> None:
    found[cut] = output


def _described(value: object) -> str:
    return f"a tensor of {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
