"""Safe decoding and encoding.

Every picture enters gonogo through `decode`: its header is read and held against the limits before a single pixel is
unpacked, because a 100 kB PNG can otherwise cost gigabytes.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gonogo.config import Limits, Reduction
from gonogo.errors import ImageError
from gonogo.files import read_regular
from gonogo.images.regions import averaged
from gonogo.schema import Frame, Mask

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp")

_READ_AT = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,  # the reduction's own bit alone: grey is 0
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}

_CHANNELS = {
    "1": 1,
    "L": 1,
    "P": 1,
    "I;16": 1,
    "I;16B": 1,
    "I;16L": 1,
    "LA": 2,
    "PA": 2,
    "RGB": 3,
    "RGBA": 4,
    "CMYK": 4,
}
_CHANNELS |= {"YCbCr": 3, "I": 1, "RGBX": 4}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a picture's header says of it, read without decoding."""

    format: str
    width: int
    height: int
    mode: str
    decoded_bytes: int


def read_header(data: bytes, *, name: str = "picture") -> Header:
    """Read size, format and depth from encoded bytes without decoding them.

    Raises:
        ImageError: not one of `FORMATS`, or a header that cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: the limits below decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
                mode, kind = picture.mode, picture.format or "?"
    except UnidentifiedImageError:
        raise ImageError(
            f"{name}: expected a JPEG, PNG, BMP, TIFF or WebP picture, found {_describe(data)}. "
            "Remove the file or save it again as one of these."
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: far more pixels than a camera gives ({error}). Reduce the picture.") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(f"{name}: the picture's header is damaged ({error}). Copy the file again.") from error
    if mode not in _CHANNELS:
        raise ImageError(
            f"{name}: expected 8 or 16 bit samples, found Pillow mode {mode!r}. Save it as 8 or 16 bit grey or colour."
        )
    depth = 2 if mode.startswith("I") else 1
    decoded = width * height * max(3, _CHANNELS[mode]) * depth
    return Header(format=kind, width=width, height=height, mode=mode, decoded_bytes=decoded)


def decode(data: bytes, *, name: str = "picture", limits: Limits | None = None, reduction: Reduction = 1) -> Frame:
    """Decode JPEG, PNG, BMP, TIFF or WebP bytes to uint8 RGB, turned as its EXIF orientation says.

    Grey becomes three equal channels, 16 bit keeps its upper byte, palettes are resolved, alpha is dropped. Of several
    pages the first is read.

    A JPEG is reduced while it is unpacked, which saves time; other formats are unpacked whole, then reduced.

    Args:
        data: The encoded file.
        name: How to call it in messages.
        limits: What it may cost; the defaults of `Limits` where omitted.
        reduction: Width and height are divided by this and rounded up.

    Returns:
        uint8 array, height x width x 3.

    Raises:
        ImageError: empty, undecodable, truncated or larger than the limits allow.
    """
    return decode_sized(data, name=name, limits=limits, reduction=reduction)[0]


def decode_sized(
    data: bytes, *, name: str = "picture", limits: Limits | None = None, reduction: Reduction = 1
) -> tuple[Frame, tuple[int, int]]:
    """As `decode`.

    Returns:
        The frame, and the width and height that it would have without the reduction.
    """
    limits = limits or Limits()
    header = _checked_header(data, name=name, limits=limits)
    at_once = reduction if header.format == "JPEG" else 1
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_AT[at_once])
    except cv2.error as error:
        raise ImageError(f"{name}: OpenCV could not decode this {header.format} ({error.err}).") from error
    if frame is None:
        raise ImageError(
            f"{name}: the {header.format} data are truncated or damaged "
            f"(the header promises {header.width} x {header.height} pixels). Copy the file again from the camera."
        )
    promised = reduced_size((header.height, header.width), at_once)
    turned = frame.shape[:2] != promised  # by its EXIF orientation
    if turned and frame.shape[:2] != promised[::-1]:
        raise ImageError(
            f"{name}: the header promises {promised[1]} x {promised[0]} pixels, "
            f"decoding gave {frame.shape[1]} x {frame.shape[0]}. The file is damaged."
        )
    size_wh = (header.height, header.width) if turned else (header.width, header.height)
    return np.ascontiguousarray(frame if at_once == reduction else reduce(frame, reduction)), size_wh


def reduce(frame: Frame, reduction: Reduction) -> Frame:
    """A frame at a fraction of its size, each pixel the mean of those it stands for; by 1 the frame itself.

    What `decode` does to a JPEG differs from this by a fraction of a grey level.
    """
    if reduction == 1:
        return frame
    height, width = reduced_size((frame.shape[0], frame.shape[1]), reduction)
    down, across = height * reduction - frame.shape[0], width * reduction - frame.shape[1]
    if down or across:  # whole blocks, as in a JPEG
        frame = np.asarray(cv2.copyMakeBorder(frame, 0, down, 0, across, cv2.BORDER_REPLICATE), np.uint8)
    return averaged(frame, reduction, reduction)


def reduced_size(shape_hw: tuple[int, int], reduction: Reduction) -> tuple[int, int]:
    """Height and width at a fraction, rounded up as JPEG decoders do."""
    return -(-shape_hw[0] // reduction), -(-shape_hw[1] // reduction)


def load(path: str | os.PathLike[str], *, limits: Limits | None = None) -> Frame:
    """Read and decode one file; see `decode`."""
    return decode(read_bytes(path, limits=limits), name=str(path), limits=limits)


def read_bytes(path: str | os.PathLike[str], *, limits: Limits | None = None) -> bytes:
    """Read an encoded picture from disk.

    Raises:
        ImageError: missing, not a regular file, or larger than ``limits.max_file_bytes``.
    """
    limits = limits or Limits()
    path = Path(path)
    try:
        return read_regular(path, most_bytes=limits.max_file_bytes)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}).") from error


def load_mask(path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """Read a defect mask: any grey or colour picture, true where a channel is at least half bright.

    Args:
        path: The mask's file.
        shape_hw: The frame's height and width, to be checked against.

    Raises:
        ImageError: unreadable, or of another size than its picture.
    """
    red, green, blue = np.moveaxis(load(path), 2, 0)
    mask: Mask = (red | green | blue) >= 128  # the highest bit is set where a channel has it; a maximum is far slower
    if shape_hw is not None and mask.shape != shape_hw:
        raise ImageError(
            f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]}, its picture {shape_hw[1]} x {shape_hw[0]} pixels."
        )
    return mask


def encode_png(picture: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Encode RGB or grey uint8 as PNG, losslessly."""
    return _encode(picture, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 3])


def encode_jpeg(picture: UInt8[np.ndarray, "height width *channels"], *, quality: int = 90) -> bytes:
    """Encode RGB or grey uint8 as JPEG."""
    return _encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def find(*roots: str | os.PathLike[str]) -> Iterator[Path]:
    """The picture files under the given files and folders, each folder sorted by name, hidden files left out.

    A file named outright is given whatever its suffix, so that an unreadable one is reported, not skipped.

    Raises:
        ImageError: a root that does not exist.
    """
    for root in map(Path, roots):
        if root.is_dir():
            yield from (path for path in sorted(root.rglob("*")) if _is_picture(path, root))
        elif root.exists():
            yield root
        else:
            raise ImageError(f"{root}: no such file or folder. Check the path.")


def _is_picture(path: Path, root: Path) -> bool:
    hidden = any(piece.startswith(".") for piece in path.relative_to(root).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _checked_header(data: bytes, *, name: str, limits: Limits) -> Header:
    if not data:
        raise ImageError(f"{name}: the file is empty. Copy it again from the camera.")
    header = read_header(data, name=name)
    pixels = header.width * header.height
    if pixels > limits.max_pixels:
        raise ImageError(
            f"{name}: {header.width} x {header.height} = {pixels:,} pixels, "
            f"more than the {limits.max_pixels:,} allowed. "
            "Reduce the picture, or raise max_pixels in the recipe if the camera really is that large."
        )
    if header.decoded_bytes > limits.max_decoded_bytes:
        raise ImageError(
            f"{name}: decoding needs {header.decoded_bytes:,} bytes, more than the {limits.max_decoded_bytes:,} "
            "allowed. Reduce the picture."
        )
    return header


def _describe(data: bytes) -> str:
    head = data[:24]
    return f"text starting with {head.decode()!r}" if head.isascii() else f"{len(data):,} bytes of something else"


def _encode(picture: UInt8[np.ndarray, "height width *channels"], suffix: str, options: list[int]) -> bytes:
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    done, buffer = cv2.imencode(suffix, np.ascontiguousarray(bgr), options)
    if not done:
        raise ImageError(f"cannot encode a picture of shape {picture.shape} as {suffix}.")
    return bytes(buffer)
