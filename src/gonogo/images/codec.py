"""Safe decoding and encoding.

Every picture enters gonogo through `decode`: its header is read and held against the limits before a single pixel is
unpacked, because a 100 kB PNG can otherwise cost gigabytes.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from gonogo.array_types import UInt8
from gonogo.config import PictureLimits, Reduction
from gonogo.errors import ImageError
from gonogo.files import read_regular
from gonogo.images.headers import SUFFIXES, Header, read_header
from gonogo.images.regions import averaged
from gonogo.images.structure import JPEG_START
from gonogo.schema import Frame, Mask

_BY_PILLOW = ("GIF", "AVIF", "HEIF")
_READ_AT = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,  # the reduction's own bit alone: grey is 0
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
_UNCHECKED = "Could not determine subsampling"
"""simplejpeg's word for a JPEG whose colours are thinned out in an unusual way, such as CMYK at 4:2:0: OpenCV reads it,
and damage inside its data goes unseen."""
_TINY = 16
"""Pixels. Below, several reductions give the same size and simplejpeg does not take the one that was meant."""
_ABOUT = (".xml", ".json", ".jsonl", ".txt", ".csv", ".md", ".html", ".yaml", ".toml", ".db", ".ini")
_JPEG_END = b"\xff\xd9"


def decode(
    data: bytes, *, name: str = "picture", limits: PictureLimits | None = None, reduction: Reduction = 1
) -> Frame:
    """Decode a picture of one of `FORMATS` to uint8 RGB, turned as its EXIF orientation says.

    Grey becomes three equal channels, 16 bit keeps its upper byte, palettes are resolved, alpha is dropped. Of several
    pages the first is read. A JPEG of which a piece is missing or damaged is refused, as far as that can be seen.

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
    data: bytes, *, name: str = "picture", limits: PictureLimits | None = None, reduction: Reduction = 1
) -> tuple[Frame, tuple[int, int]]:
    """As `decode`.

    Returns:
        The frame, and the width and height that it would have without the reduction.
    """
    limits = limits or PictureLimits()
    header = _checked_header(data, name=name, limits=limits)
    at_once = reduction if header.format == "JPEG" else 1
    if data.startswith(JPEG_START):
        frame = _decode_jpeg(data, header, name=name, reduction=at_once)
    elif header.format in _BY_PILLOW:
        frame = _decode_by_pillow(data, header, name=name)
    else:
        frame = _decode_by_opencv(data, header, name=name)
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


def load_picture(path: str | os.PathLike[str], *, limits: PictureLimits | None = None) -> Frame:
    """Read and decode one file; see `decode`."""
    return decode(read_bytes(path, limits=limits), name=str(path), limits=limits)


def read_bytes(path: str | os.PathLike[str], *, limits: PictureLimits | None = None) -> bytes:
    """Read an encoded picture from disk.

    Raises:
        ImageError: missing, not a regular file, or larger than ``limits.max_file_bytes``.
    """
    limits = limits or PictureLimits()
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
    return mask_of(load_picture(path), path, shape_hw=shape_hw)


def mask_of(frame: Frame, path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """The mask in a decoded picture; see `load_mask`."""
    red, green, blue = np.moveaxis(frame, 2, 0)
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


def others(*roots: str | os.PathLike[str]) -> str:
    """What `find` leaves out of folders, as a sentence; empty where there is nothing to say.

    Hidden files and data about pictures (``.xml``, ``.json``, ``.txt``, ...) are not counted.
    """
    files = (path for root in map(Path, roots) if root.is_dir() for path in root.rglob("*"))
    kinds = Counter(
        path.suffix.lower() or "without a suffix"
        for path in files
        if path.is_file() and path.suffix.lower() not in (*SUFFIXES, *_ABOUT) and not path.name.startswith(".")
    )
    if not kinds:
        return ""
    shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    if kinds.total() == 1:
        return f"1 file is not a picture that gonogo reads and was skipped: {shown}."
    return f"{kinds.total()} files are not pictures that gonogo reads and were skipped: {shown}."


def _is_picture(path: Path, root: Path) -> bool:
    hidden = any(piece.startswith(".") for piece in path.relative_to(root).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _checked_header(data: bytes, *, name: str, limits: PictureLimits) -> Header:
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


def _decode_jpeg(data: bytes, header: Header, *, name: str, reduction: Reduction) -> Frame:
    """Decode a JPEG with every warning of libjpeg taken for an error; the pixels are those that OpenCV gives."""
    if not header.complete:
        raise _damaged(header, name, "scans are missing at its end")
    tiny = reduction > 1 and min(header.height, header.width) <= _TINY
    height, width = reduced_size((header.height, header.width), 1 if tiny else reduction)
    factor = 1 if tiny else reduction
    try:
        frame = simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=factor, strict=True)
    except (ValueError, MemoryError) as error:
        if _UNCHECKED not in str(error) or _JPEG_END not in data:
            raise _damaged(header, name, str(error)) from error
        return _decode_by_opencv(data, header, name=name, reduction=reduction)
    if tiny:
        return _decode_by_opencv(data, header, name=name, reduction=reduction)
    return _upright(np.asarray(frame, np.uint8), header.orientation)


def _decode_by_opencv(data: bytes, header: Header, *, name: str, reduction: Reduction = 1) -> Frame:
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_AT[reduction])
    except cv2.error as error:
        raise ImageError(f"{name}: OpenCV could not decode this {header.format} ({error.err}).") from error
    if frame is None:
        raise _damaged(header, name)
    return np.asarray(frame, np.uint8)


def _decode_by_pillow(data: bytes, header: Header, *, name: str) -> Frame:
    try:
        with Image.open(io.BytesIO(data), formats=(header.format,)) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, MemoryError) as error:
        raise _damaged(header, name, str(error)) from error


def _damaged(header: Header, name: str, why: str = "") -> ImageError:
    return ImageError(
        f"{name}: the {header.format} data are truncated or damaged{f' ({why})' if why else ''} "
        f"(the header promises {header.width} x {header.height} pixels). Copy the file again from the camera."
    )


def _upright(frame: Frame, orientation: int) -> Frame:
    """Turn and mirror a frame as its EXIF orientation says."""
    if orientation >= 5:
        frame = frame.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        frame = frame[:, ::-1]
    if orientation in (3, 4, 7, 8):
        frame = frame[::-1]
    return frame


def _encode(picture: UInt8[np.ndarray, "height width *channels"], suffix: str, options: list[int]) -> bytes:
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    done, buffer = cv2.imencode(suffix, np.ascontiguousarray(bgr), options)
    if not done:
        raise ImageError(f"cannot encode a picture of shape {picture.shape} as {suffix}.")
    return bytes(buffer)
