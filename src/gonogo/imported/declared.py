"""What a model file does not say about itself and its user declares: preprocessing, classes and head."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from gonogo.config import Strict
from gonogo.errors import InputError

Layout: TypeAlias = Literal["nchw", "nhwc"]
Channels: TypeAlias = Literal["rgb", "bgr", "gray"]
Resize: TypeAlias = Literal["gonogo", "bilinear", "antialiased"]
HeadKind: TypeAlias = Literal["softmax", "sigmoid"]
Side: TypeAlias = Annotated[int, Field(ge=32, le=2048)]

EXAMPLE = """\
size = [224, 224]              # width, height of the network's input in pixels
layout = "nhwc"                # nchw or nhwc
channels = "rgb"               # rgb, bgr or gray
mean = [123.7, 116.3, 103.5]   # subtracted from pixel values from 0 to 255; one number or one per channel
scale = [58.4, 57.1, 57.4]     # what is left is divided by this; 0 and 1 if the model does it itself
classes = ["good", "bad"]      # names of the outputs, in their order
bad_class = ["bad"]            # names or numbers, from 0
head = "softmax"               # softmax or sigmoid, if the file contains neither
"""
"""A file for ``--preprocessing``."""


class Declaration(Strict):
    """What is declared about a model; ``None`` where it is left to the file.

    The network sees ``(pixel - mean) / scale``, with pixel values from 0 to 255.
    """

    size: tuple[Side, Side] | None = Field(default=None, strict=False)
    """Width and height of the network's input, in pixels."""
    layout: Layout | None = None
    channels: Channels | None = None
    """``gray`` is 0.299 R + 0.587 G + 0.114 B."""
    mean: tuple[float, ...] | None = Field(default=None, strict=False)
    """One number, or one per channel in the order of ``channels``."""
    scale: tuple[float, ...] | None = Field(default=None, strict=False)
    """The divisor; one number, or one per channel in the order of ``channels``."""
    resize: Resize = "gonogo"
    """``gonogo``: as for its own networks. ``bilinear``: between the four nearest pixels, as ``tf.image.resize``, Keras
    and OpenCV. ``antialiased``: bilinear over the area of the new pixel, as Pillow and torchvision."""
    resize_from: tuple[Side, Side] | None = Field(default=None, strict=False)
    """With another rule than gonogo's: width and height of the pictures before the model's own resize."""
    output: str | None = None
    """Name of the output, if the model has several."""
    classes: tuple[str, ...] = Field(default=(), strict=False)
    """Names of the outputs, in their order; of one sigmoid output, what 0 and 1 mean."""
    bad_class: tuple[str | int, ...] = Field(default=(), strict=False)
    """Names or numbers of the outputs that mean a bad part; of one sigmoid output, 1 or 0."""
    head: HeadKind | None = None
    """What the training applied to the outputs, if the file does not contain it."""

    @model_validator(mode="after")
    def _is_plausible(self) -> Declaration:
        wanted = (1,) if self.channels == "gray" else (1, 3)
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if values is not None and len(values) not in wanted:
                raise ValueError(f"{name}: expected {' or '.join(map(str, wanted))} numbers, found {len(values)}")
            if values is not None and any(0 < abs(each) < 1 for each in values):
                raise ValueError(
                    f"{name}: expected numbers for pixel values from 0 to 255, found {', '.join(map(str, values))}; "
                    "multiply numbers for values from 0 to 1 by 255"
                )
        if self.scale is not None and 0 in self.scale:
            raise ValueError("scale: expected a divisor, found 0")
        if (self.resize == "gonogo") != (self.resize_from is None):
            raise ValueError("resize and resize_from: expected both or neither, as a resize starts from a known size")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: expected different names")
        return self

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Width and height of the picture that the graph receives."""
        assert self.size is not None, "checked by complete()"
        return self.resize_from or self.size


def complete(
    declared: Declaration, shape: tuple[int | None, ...], element: str, *, outputs: int | None, head: HeadKind | None
) -> Declaration:
    """Fill in what the file says, and ask for what neither the file nor the user says.

    Args:
        declared: What the user says.
        shape: Shape of the picture input in the file; ``None`` for sides that it leaves open.
        element: Element type of the picture input.
        outputs: Number of classes; ``None`` if it is known only for a fixed size.
        head: The activation that the file contains, if any.

    Raises:
        InputError: something is missing, or contradicts the file; the message lists all of it.
    """
    layout = declared.layout or _layout(shape)
    size = declared.size or _size(shape, layout)
    kind = head or declared.head or ("sigmoid" if outputs == 1 else None)
    given = {
        "--size": (size, "width and height of the network's input in pixels, such as 224x224"),
        "--layout": (layout, "nchw or nhwc"),
        "--channels": (declared.channels, "rgb, bgr or gray"),
        "--mean": (declared.mean, "subtracted from pixel values from 0 to 255, such as 127.5 or 123.7,116.3,103.5"),
        "--scale": (declared.scale, "the divisor after that, such as 127.5; 1 if the model scales pixels itself"),
        "--bad-class": (declared.bad_class or None, _which(outputs)),
        "--head": (kind or outputs is None, f"softmax or sigmoid: what the training applies to the {outputs} outputs"),
    }
    missing = [f"  {name}: {what}" for name, (value, what) in given.items() if value in (None, False)]
    if missing:
        raise InputError(
            "\n".join(["The file does not say how its pictures and classes are meant. Missing:", *missing])
            + "\nGive them on the command line, or in a file for --preprocessing, for example:\n"
            + EXAMPLE.rstrip()
        )
    if head is not None and declared.head not in (None, head):
        raise InputError(f"--head {declared.head}: the file ends in a {head}. Leave out --head.")
    known = declared.model_copy(update={"size": size, "layout": layout, "head": kind})
    _require_shape(known, shape)
    if element not in ("f32", "f16", "f64", "bf16") and (set(known.mean or ()), set(known.scale or ())) != ({0}, {1}):
        raise InputError(f"--mean and --scale: the input takes whole pixels ({element}). Use --mean 0 --scale 1.")
    return known


def bad_outputs(declared: Declaration, outputs: int) -> tuple[int, ...]:
    """Numbers of the outputs that mean a bad part; of one output, ``(1,)`` or ``(0,)``.

    Raises:
        InputError: a name or number is unknown, or all classes are bad.
    """
    count = max(outputs, 2)  # one output tells two classes apart
    if declared.classes and len(declared.classes) != count:
        raise InputError(f"--classes: expected {count} names, found {len(declared.classes)}.")
    found = []
    for each in declared.bad_class:
        number = declared.classes.index(each) if each in declared.classes else _number(each)
        if number is None or not 0 <= number < count:
            names = f" or {', '.join(declared.classes)}" if declared.classes else ""
            raise InputError(f"--bad-class: expected a number from 0 to {count - 1}{names}, found {each!r}.")
        found.append(number)
    bad = tuple(sorted(set(found)))
    if len(bad) == count:
        raise InputError(f"--bad-class: expected at least one class that is not bad, found all {count}.")
    if declared.head == "sigmoid" and len(bad) != 1:
        raise InputError(
            f"--bad-class: independent sigmoids have no common log-odds; expected one class, found {len(bad)}. "
            "Name the output that says that a part is bad."
        )
    return bad


def _number(text: str | int) -> int | None:
    if isinstance(text, int):
        return text
    return int(text) if text.isascii() and text.isdigit() else None


def _which(outputs: int | None) -> str:
    if outputs == 1:
        return "1 if an output of 1 means a bad part, 0 if it means a good one"
    numbers = "number from 0" if outputs is None else f"number (0 to {outputs - 1})"
    return f"{numbers} or, with --classes, name of the output that means a bad part; may be repeated"


def _layout(shape: tuple[int | None, ...]) -> Layout | None:
    """The layout, where the file leaves one possibility."""
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        return None
    return "nchw" if first else "nhwc"


def _size(shape: tuple[int | None, ...], layout: Layout | None) -> tuple[int, int] | None:
    if layout is None:
        return None
    rows, columns = shape[2:] if layout == "nchw" else shape[1:3]
    return None if rows is None or columns is None else (columns, rows)


def _require_shape(declared: Declaration, shape: tuple[int | None, ...]) -> None:
    assert declared.size is not None
    width, height = declared.size
    if not (min(declared.size) >= 32 and max(declared.size) <= 2048):
        raise InputError(f"expected an input with sides of 32 to 2048 pixels, found {width} x {height}.")
    wanted = input_shape(declared)
    if any(side is not None and side != want for side, want in zip(shape[1:], wanted[1:], strict=True)):
        there = " x ".join("?" if side is None else str(side) for side in shape[1:])
        raise InputError(
            f"The file takes pictures of {there}, the declaration says {' x '.join(map(str, wanted[1:]))} "
            f"({declared.layout}, {declared.channels}). Correct --size, --layout or --channels."
        )


def input_shape(declared: Declaration) -> tuple[int, int, int, int]:
    """Shape of the model's input for one picture."""
    assert declared.size is not None
    width, height = declared.size
    depth = 1 if declared.channels == "gray" else 3
    return (1, depth, height, width) if declared.layout == "nchw" else (1, height, width, depth)
