"""A picture to judge: encoded or raw, decoded on demand and at most once per size."""

from __future__ import annotations

import numpy as np

from gonogo.config import PictureLimits, Recipe, Reduction
from gonogo.errors import ImageError
from gonogo.images.codec import decode_sized, reduce
from gonogo.schema import Frame


class Photograph:
    """An encoded picture or a raw frame.

    All inspection goes through this class, so a file, bytes, an array, a station and the server judge the same pixels.

    Example:
        >>> import numpy as np
        >>> from gonogo.config import Recipe
        >>> from gonogo.images import Photograph, encode_png
        >>> photograph = Photograph(encode_png(np.zeros((40, 60, 3), np.uint8)))
        >>> photograph.judged(Recipe(reduction=2)).shape, photograph.size_wh
        ((20, 30, 3), (60, 40))
    """

    def __init__(self, picture: bytes | Frame, *, name: str = "picture", limits: PictureLimits | None = None) -> None:
        """Store a picture without decoding it.

        Args:
            picture: A whole JPEG, PNG, BMP, TIFF or WebP file, or uint8 RGB, height x width x 3.
            name: Name of the picture in messages.
            limits: Largest picture; defaults to the limits of the recipe, or to `PictureLimits()`.
        """
        self.data = picture if isinstance(picture, bytes) else None
        """The encoded file; ``None`` for a raw frame."""
        self._name, self._limits = name, limits
        self._size_wh: tuple[int, int] | None = None
        self._unpacked: dict[Reduction, Frame] = {}
        self._averaged: dict[Reduction, Frame] = {}
        if not isinstance(picture, bytes):
            self._unpacked[1] = _checked(picture)
            self._size_wh = picture.shape[1], picture.shape[0]

    @property
    def readable(self) -> bool:
        """Whether the picture was decoded at any size."""
        return bool(self._unpacked)

    @property
    def frame(self) -> Frame:
        """The picture at full size.

        Raises:
            ImageError: The picture cannot be decoded.
        """
        return self._unpack(1, self._limits)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height at full size.

        Raises:
            ImageError: The picture cannot be decoded.
        """
        if self._size_wh is None:
            self._unpack(1, self._limits)
        assert self._size_wh is not None, "it was unpacked"
        return self._size_wh

    @property
    def shape_hw(self) -> tuple[int, int]:
        """Height and width at full size; see `size_wh`."""
        return self.size_wh[1], self.size_wh[0]

    def unpacked(self, recipe: Recipe) -> Frame:
        """The decoder's output for a recipe, reduced if the decoder reduces pictures.

        Raises:
            ImageError: The picture cannot be decoded, or is a raw frame and the recipe accepts encoded pictures only.
        """
        if not recipe.encoded_only:
            return self._unpack(1, self._limits or recipe.limits)
        if self.data is None:
            raise ImageError(
                f"{self._name}: expected an encoded picture (JPEG, PNG, ...), found a raw frame. This inspector is "
                f"certified for encoded pictures that the decoder reduces by {recipe.reduction}; a raw frame would be "
                "reduced differently. Send the encoded picture, or train with --reduced-by mean."
            )
        return self._unpack(recipe.reduction, self._limits or recipe.limits)

    def judged(self, recipe: Recipe) -> Frame:
        """The frame that is judged with a recipe, reduced to its fraction of the full size; see `unpacked`."""
        frame, reduction = self.unpacked(recipe), recipe.reduction
        if reduction == 1 or recipe.encoded_only:
            return frame
        if reduction not in self._averaged:
            self._averaged[reduction] = reduce(frame, reduction)
        return self._averaged[reduction]

    def _unpack(self, reduction: Reduction, limits: PictureLimits | None) -> Frame:
        if reduction not in self._unpacked:
            assert self.data is not None, "a raw frame is unpacked"
            frame, self._size_wh = decode_sized(self.data, name=self._name, limits=limits, reduction=reduction)
            self._unpacked[reduction] = frame
        return self._unpacked[reduction]


def _checked(frame: Frame) -> Frame:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ImageError(f"expected a uint8 height x width x 3 RGB array, found {found}.")
    return frame
