"""``train.toml``: a file with options of ``gonogo train``, read by ``--config``.

Each key is the option of the same name; the sections are those of ``gonogo train --help``. Options on the command line
override the file.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo

from gonogo.cli.edge import LARGEST_INTEGER
from gonogo.cli.train_options import parse_size
from gonogo.config import CELL_PX, ReducedBy, Reduction, Strict, read_toml
from gonogo.errors import InputError

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]


_FILES = {
    "weights": ("imagenet", "none"),
    "roi_weights": ("imagenet", "none"),
    "roi": ("none", "learned"),
    "zones": (),
}
"""Options that take a file, and the keywords that they accept instead."""


def _size(text: str) -> str:
    try:
        parse_size(text)
    except InputError as error:
        raise ValueError(str(error).removeprefix("--size: ").partition(", found")[0]) from error
    return text


class PromiseSection(Strict):
    """``[promise]``: the rates to certify, and the behaviour if they cannot be certified."""

    max_escape: Share | None = Field(default=None, examples=[0.05])
    max_overkill: Share | None = Field(default=None, examples=[0.05])
    confidence: Share = 0.95
    joint: bool = False
    reject: bool = False
    go_without_promise: bool = False


class InputSection(Strict):
    """``[input]``: the network and its input."""

    size: Annotated[str, AfterValidator(_size)] | None = Field(default=None, examples=["640x320"])
    reduction: Reduction = 1
    reduced_by: ReducedBy = "decoder"
    health: bool = True
    tile: bool = False
    overlap: int | None = Field(default=None, ge=0, le=1024, multiple_of=CELL_PX, examples=[64])
    masks: bool = True
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    normalisation: Literal["auto", "imagenet", "symmetric"] = "auto"
    cut: list[str] | None = Field(default=None, examples=[["layer2", "layer3"]])


class RegionSection(Strict):
    """``[region]``: how the part is found."""

    roi: str = "none"
    roi_backbone: str | None = Field(default=None, examples=["resnet18"])
    roi_weights: str | None = Field(default=None, examples=["resnet18.safetensors"])
    zones: str | None = Field(default=None, examples=["zones.toml"])
    keep_hidden: bool = False


class FineTuningSection(Strict):
    """``[fine_tuning]``: training of the whole network."""

    finetune: bool = False
    epochs: Count = 24
    batch: Count = 12
    learning_rate: float = Field(default=1e-3, ge=0.0, allow_inf_nan=False)
    window: float | None = Field(default=None, ge=0.1, le=1.0, examples=[0.8])
    crops: Count | None = Field(default=None, examples=[2])
    rotations: Count | None = Field(default=None, examples=[4])
    flips: bool = False
    brightness: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)
    blur: float = Field(default=0.0, ge=0.0, le=20.0, allow_inf_nan=False)
    pool: Literal["auto", "mean", "max", "lse"] = "auto"
    device: str = "cpu"


class TrainConfig(Strict):
    """The contents of a ``train.toml``."""

    seed: int = Field(default=0, ge=0, le=LARGEST_INTEGER)
    promise: PromiseSection = PromiseSection()
    input: InputSection = InputSection()
    region: RegionSection = RegionSection()
    fine_tuning: FineTuningSection = FineTuningSection()

    def options(self, *, given_only: bool = False) -> dict[str, Any]:
        """Return the options by name, without the sections.

        Args:
            given_only: Leave out options that the file does not set.
        """
        stated = self.model_dump(exclude_unset=given_only)
        options = {"seed": stated.pop("seed")} if "seed" in stated else {}
        for section in stated.values():
            options |= section
        if "reduction" in options:
            options["reduction"] = str(options["reduction"])  # as on the command line
        return options


def read_options(path: Path) -> dict[str, Any]:
    """Read the options that a ``train.toml`` sets. Paths are relative to its folder.

    Raises:
        InputError: the file is missing or not TOML, has an unknown key, a wrong type or a value out of range. The
            message names the file, the key, the expected and the found value.
    """
    options = read_toml(path, TrainConfig, example="gonogo train --example-config").options(given_only=True)
    files = {name: value for name, value in options.items() if name in _FILES and value not in _FILES[name]}
    return options | {name: str(path.parent / value) for name, value in files.items()}


_HEAD = """\
# Options of gonogo train, for: gonogo train DATASET --out BUNDLE --config train.toml
# Each key is the option of the same name; the values shown are the defaults. Options on the command line override
# this file. Paths are relative to the folder of this file.
"""


def example_toml(helps: dict[str, str]) -> str:
    """Return a commented ``train.toml`` with every key at its default.

    Args:
        helps: The help text of each option, by its name.
    """
    lines = [_HEAD]
    for name, field in TrainConfig.model_fields.items():
        if isinstance(field.default, Strict):
            lines.append(f"[{name}]")
            for key, inner in type(field.default).model_fields.items():
                lines += _commented(key, inner, helps[key])
        else:
            lines += _commented(name, field, helps[name])
    return "\n".join(lines)


def _commented(key: str, field: FieldInfo, text: str) -> list[str]:
    """Write a key at its default below its help text; a key without a default is commented out, with an example."""
    explained = textwrap.wrap(text, width=110, initial_indent="# ", subsequent_indent="# ")
    if field.default is None:
        return [*explained, f"# {key} = {json.dumps((field.examples or [''])[0])}", ""]
    return [*explained, f"{key} = {json.dumps(field.default)}", ""]
