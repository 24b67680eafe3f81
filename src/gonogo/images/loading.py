"""Reads picture files and masks: in this process, or in a process with limits."""

from __future__ import annotations

import os

from gonogo.config import Depth, PictureLimits, settings
from gonogo.images.codec import decode, mask_of, read_bytes
from gonogo.images.confined import decode_confined
from gonogo.schema import Frame, Mask


def load_picture(
    path: str | os.PathLike[str], *, limits: PictureLimits | None = None, depth: Depth | None = None
) -> Frame:
    """Read and decode one file; see `gonogo.images.decode`.

    It is decoded in a process with limits if the settings of the machine say so; see `load_confined`.
    """
    if settings().confine_decoding:
        return load_confined(path, limits=limits, depth=depth)
    return decode(read_bytes(path, limits=limits), name=str(path), limits=limits, depth=depth)


def load_confined(
    path: str | os.PathLike[str], *, limits: PictureLimits | None = None, depth: Depth | None = None
) -> Frame:
    """Read and decode like `load_picture`, always in a process with limits; see `gonogo.images.decode_confined`."""
    return decode_confined(read_bytes(path, limits=limits), name=str(path), limits=limits, depth=depth)


def load_mask(path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """Read a defect mask from a grey or colour picture; true where any channel is at least 128; see `load_picture`.

    Args:
        path: The mask's file.
        shape_hw: Expected height and width.

    Raises:
        ImageError: The mask is unreadable, or its size differs from ``shape_hw``.
    """
    return mask_of(load_picture(path), path, shape_hw=shape_hw)


def load_mask_confined(path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """Read a mask like `load_mask`, always in a process with limits; see `load_confined`."""
    return mask_of(load_confined(path), path, shape_hw=shape_hw)
