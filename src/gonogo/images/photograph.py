"""A picture to judge: encoded or raw, decoded on demand and at most once per size."""

from __future__ import annotations

import numpy as np

from gonogo.array_types import UInt16
from gonogo.config import Depth, PictureLimits, Recipe, Reduction, settings
from gonogo.errors import ImageError
from gonogo.images.codec import decode_sized, reduce
from gonogo.images.confined import decode_sized_confined
from gonogo.images.depth import levelled, upper_bytes
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

    def __init__(
        self,
        picture: bytes | Frame | UInt16[np.ndarray, "height width"],
        *,
        name: str = "picture",
        limits: PictureLimits | None = None,
        depth: Depth | None = None,
        confined: bool | None = None,
    ) -> None:
        """Store a picture without decoding it.

        Args:
            picture: A whole JPEG, PNG, BMP, TIFF or WebP file; uint8 RGB, height x width x 3; or the uint16 counts of a
                grey camera, height x width.
            name: Name of the picture in messages.
            limits: Largest picture; defaults to the limits of the recipe, or to `PictureLimits()`.
            depth: Levels of a 16-bit picture, until a recipe says them.
            confined: Whether a file is decoded in a process with limits, as pictures from outside must be; defaults to
                the settings of the machine.
        """
        self.data = picture if isinstance(picture, bytes) else None
        """The encoded file; ``None`` for a raw frame."""
        self._name, self._limits, self._confined = name, limits, confined
        self._size_wh: tuple[int, int] | None = None
        self.depth = depth
        """Levels of a 16-bit picture: those of the recipe that it was last judged with. `frame` is shown with them."""
        self._unpacked: dict[tuple[Reduction, Depth | None], Frame] = {}
        self._averaged: dict[tuple[Reduction, Depth | None], Frame] = {}
        self.raw: Frame | UInt16[np.ndarray, "height width"] | None = None
        """What a camera delivered, if it was not a file."""
        if not isinstance(picture, bytes):
            self.raw = _checked(picture)
            self._size_wh = picture.shape[1], picture.shape[0]

    @property
    def readable(self) -> bool:
        """Whether the picture was decoded at any size."""
        return self.raw is not None or bool(self._unpacked)

    @property
    def frame(self) -> Frame:
        """The picture at full size.

        Raises:
            ImageError: The picture cannot be decoded.
        """
        return self._unpack(1, self._limits)

    def full(self, recipe: Recipe) -> Frame:
        """The picture at full size with the levels of a recipe."""
        self.depth = recipe.depth
        return self.frame

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
        self.depth = recipe.depth
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
        key = (reduction, self.depth)
        if key not in self._averaged:
            self._averaged[key] = reduce(frame, reduction)
        return self._averaged[key]

    def _unpack(self, reduction: Reduction, limits: PictureLimits | None) -> Frame:
        key = (reduction, self.depth)
        if key not in self._unpacked:
            if self.data is None:
                self._unpacked[key] = self._raw_frame()
            else:
                confined = settings().confine_decoding if self._confined is None else self._confined
                frame, self._size_wh = (decode_sized_confined if confined else decode_sized)(
                    self.data, name=self._name, limits=limits, reduction=reduction, depth=self.depth
                )
                self._unpacked[key] = frame
        return self._unpacked[key]

    def _raw_frame(self) -> Frame:
        raw = self.raw
        assert raw is not None, "a photograph is encoded or raw"
        if raw.dtype == np.uint16:
            return upper_bytes(raw) if self.depth is None else levelled(raw, self.depth)
        if self.depth is not None:
            raise ImageError(
                f"{self._name}: expected 16-bit grey counts, because the recipe has levels (depth), found 8 bits. Set "
                "the camera to 16 bits, or use an inspector without levels."
            )
        return raw


def _checked(frame: Frame | UInt16[np.ndarray, "height width"]) -> Frame | UInt16[np.ndarray, "height width"]:
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint16 and frame.ndim == 2 and frame.size:
        return frame
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ImageError(f"expected a uint8 height x width x 3 RGB array, found {found}.")
    return frame
