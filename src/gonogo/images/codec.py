"""Safe decoding and encoding.

Every picture enters gonogo through `decode`. It reads the header and checks it against the limits before decoding any
pixel, because a 100 kB PNG can decode to gigabytes.
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

from gonogo.array_types import UInt8, UInt16
from gonogo.config import Depth, PictureLimits, Reduction
from gonogo.errors import ImageError
from gonogo.files import read_regular
from gonogo.images.depth import levelled
from gonogo.images.headers import SUFFIXES, Header, read_header
from gonogo.images.regions import averaged
from gonogo.images.structure import JPEG_START, png_claims_too_much
from gonogo.schema import Frame, Mask

_DEEP = ("PNG", "TIFF")
_BY_PILLOW = ("GIF", "AVIF", "HEIF")
_READ_AT = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,  # only the bit of the reduction, because grey is 0
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
_UNCHECKED = "Could not determine subsampling"
"""simplejpeg's error for a JPEG with unusual chroma subsampling, such as CMYK at 4:2:0. OpenCV decodes it, but does not
detect damaged data."""
_STRIP_ROWS = 256
_TINY = 16
"""In pixels. Below this, several reductions give the same size, and simplejpeg may choose another one."""
_ABOUT = (".xml", ".json", ".jsonl", ".txt", ".csv", ".md", ".html", ".yaml", ".toml", ".db", ".ini")
_JPEG_END = b"\xff\xd9"


def decode(
    data: bytes,
    *,
    name: str = "picture",
    limits: PictureLimits | None = None,
    reduction: Reduction = 1,
    depth: Depth | None = None,
) -> Frame:
    """Decode a picture of one of `FORMATS` to uint8 RGB, and apply its EXIF orientation.

    Grey becomes three equal channels, palettes are resolved, alpha is dropped. 16 bit keeps the upper byte, or is
    mapped by ``depth``. Of several pages, the first is read. A JPEG with missing or damaged data is refused, as far as
    that is detectable.

    A JPEG is reduced during decoding, which is faster; other formats are decoded at full size, then reduced.

    Args:
        data: The encoded file.
        name: Name of the picture in messages.
        limits: Largest picture; defaults to `PictureLimits()`.
        reduction: Divisor of width and height, which are rounded up.
        depth: Levels of a 16-bit grey picture; other pictures are then refused.

    Returns:
        uint8 array, height x width x 3.

    Raises:
        ImageError: The data are empty, undecodable, truncated or larger than the limits allow.
    """
    return decode_sized(data, name=name, limits=limits, reduction=reduction, depth=depth)[0]


def decode_raw(
    data: bytes, *, name: str = "picture", limits: PictureLimits | None = None
) -> UInt16[np.ndarray, "height width"] | None:
    """Decode a 16-bit grey PNG or TIFF at its full depth; ``None`` for every other picture, which `decode` reads.

    Raises:
        ImageError: See `decode`.
    """
    header = _checked_header(data, name=name, limits=limits or PictureLimits())
    if header.format not in _DEEP or not header.deep_grey:
        return None
    raw = _by_opencv(data, header, name, cv2.IMREAD_ANYDEPTH)
    if raw.dtype != np.uint16:
        raise ImageError(f"{name}: expected counts of 16 bits, found {raw.dtype}. Save it as 16-bit grey.")
    return raw


def decode_sized(
    data: bytes,
    *,
    name: str = "picture",
    limits: PictureLimits | None = None,
    reduction: Reduction = 1,
    depth: Depth | None = None,
) -> tuple[Frame, tuple[int, int]]:
    """Decode a picture like `decode`, and also return its full size.

    Returns:
        The frame, and the width and height without the reduction.
    """
    limits = limits or PictureLimits()
    header = _checked_header(data, name=name, limits=limits)
    at_once = reduction if header.format == "JPEG" else 1
    if depth is not None:
        raw = decode_raw(data, name=name, limits=limits)
        if raw is None:
            raise ImageError(
                f"{name}: expected a 16-bit grey picture, because the recipe has levels (depth), found another "
                f"{header.format}. Set the camera to 16 bits, or use an inspector without levels."
            )
        frame = levelled(raw, depth)
    elif data.startswith(JPEG_START):
        frame = _decode_jpeg(data, header, name=name, reduction=at_once)
    elif header.format in _BY_PILLOW:
        frame = _decode_by_pillow(data, header, name=name)
    else:
        frame = _decode_by_opencv(data, header, name=name)
    promised = reduced_size((header.height, header.width), at_once)
    turned = frame.shape[:2] != promised  # by its EXIF orientation
    if turned and frame.shape[:2] != promised[::-1]:
        raise ImageError(
            f"{name}: expected {promised[1]} x {promised[0]} pixels from the header, "
            f"found {frame.shape[1]} x {frame.shape[0]} after decoding. The file is damaged."
        )
    size_wh = (header.height, header.width) if turned else (header.width, header.height)
    return np.ascontiguousarray(frame if at_once == reduction else reduce(frame, reduction)), size_wh


def reduce(frame: Frame, reduction: Reduction) -> Frame:
    """Reduce a frame by averaging blocks of pixels; a reduction of 1 returns the frame itself.

    The result differs from a reduction in the JPEG decoder by a fraction of a grey level.
    """
    if reduction == 1:
        return frame
    height, width = reduced_size((frame.shape[0], frame.shape[1]), reduction)
    down, across = height * reduction - frame.shape[0], width * reduction - frame.shape[1]
    if down or across:  # pad to whole blocks, as in a JPEG
        frame = np.asarray(cv2.copyMakeBorder(frame, 0, down, 0, across, cv2.BORDER_REPLICATE), np.uint8)
    return averaged(frame, reduction, reduction)


def reduced_size(shape_hw: tuple[int, int], reduction: Reduction) -> tuple[int, int]:
    """Height and width after a reduction, rounded up as in JPEG decoders."""
    return -(-shape_hw[0] // reduction), -(-shape_hw[1] // reduction)


def read_bytes(path: str | os.PathLike[str], *, limits: PictureLimits | None = None) -> bytes:
    """Read an encoded picture from disk.

    Raises:
        ImageError: The file is missing, not a regular file, or larger than ``limits.max_file_bytes``.
    """
    limits = limits or PictureLimits()
    path = Path(path)
    try:
        return read_regular(path, most_bytes=limits.max_file_bytes)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}).") from error


def mask_of(frame: Frame, path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """Convert a decoded picture to a mask; see `gonogo.images.load_mask`."""
    red, green, blue = np.moveaxis(frame, 2, 0)
    mask: Mask = (red | green | blue) >= 128  # tests the highest bit of all channels; a maximum is far slower
    if shape_hw is not None and mask.shape != shape_hw:
        raise ImageError(
            f"{path}: expected a mask of {shape_hw[1]} x {shape_hw[0]} pixels like its picture, "
            f"found {mask.shape[1]} x {mask.shape[0]}."
        )
    return mask


def encode_png(
    picture: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width"], *, effort: int = 3
) -> bytes:
    """Encode RGB or grey uint8, or grey uint16, as PNG, losslessly; ``effort`` is zlib's, 0 to 9."""
    return _encode(picture, ".png", [cv2.IMWRITE_PNG_COMPRESSION, effort])


def encode_jpeg(picture: UInt8[np.ndarray, "height width *channels"], *, quality: int = 90) -> bytes:
    """Encode RGB or grey uint8 as JPEG."""
    return _encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def find(*roots: str | os.PathLike[str]) -> Iterator[Path]:
    """Find the picture files in some files and folders; folders are sorted by name, hidden files are skipped.

    A file given as a root is returned regardless of its suffix, so that an unreadable one is reported, not skipped.

    Raises:
        ImageError: A root does not exist.
    """
    for root in map(Path, roots):
        if root.is_dir():
            yield from (path for path in sorted(root.rglob("*")) if _is_picture(path, root))
        elif root.exists():
            yield root
        else:
            raise ImageError(f"{root}: no such file or folder. Check the path.")


def others(*roots: str | os.PathLike[str]) -> str:
    """Describe the files that `find` skips in folders; empty if there are none.

    Hidden files and metadata (``.xml``, ``.json``, ``.txt``, ...) are not counted.
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
        return f"1 file was skipped because it is not a supported picture: {shown}."
    return f"{kinds.total()} files were skipped because they are not supported pictures: {shown}."


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
            "Reduce the picture, or raise max_pixels in the recipe if the camera has that resolution."
        )
    if header.decoded_bytes > limits.max_decoded_bytes:
        raise ImageError(
            f"{name}: decoding needs {header.decoded_bytes:,} bytes, more than the {limits.max_decoded_bytes:,} "
            "allowed. Reduce the picture."
        )
    return header


def _decode_jpeg(data: bytes, header: Header, *, name: str, reduction: Reduction) -> Frame:
    """Decode a JPEG and treat libjpeg's warnings as errors; the pixels equal those of OpenCV."""
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
    return np.asarray(_by_opencv(data, header, name, _READ_AT[reduction]), np.uint8)


def _by_opencv(data: bytes, header: Header, name: str, how: int) -> np.ndarray:
    if header.format == "PNG" and png_claims_too_much(data):
        raise _damaged(header, name, "a chunk is longer than the file")
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error as error:
        raise ImageError(f"{name}: OpenCV could not decode this {header.format} ({error.err}).") from error
    if frame is None:
        raise _damaged(header, name)
    return np.asarray(frame)


def _decode_by_pillow(data: bytes, header: Header, *, name: str) -> Frame:
    try:
        with Image.open(io.BytesIO(data), formats=(header.format,)) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            frame = np.empty((picture.height, picture.width, 3), np.uint8)
            for top in range(0, picture.height, _STRIP_ROWS):  # Pillow needs twelve bytes a pixel to convert it
                bottom = min(top + _STRIP_ROWS, picture.height)
                frame[top:bottom] = np.asarray(picture.crop((0, top, picture.width, bottom)).convert("RGB"))
            return frame
    except Exception as error:  # BLE001: Pillow may raise anything; it becomes an ImageError
        raise _damaged(header, name, str(error)) from error


def _damaged(header: Header, name: str, why: str = "") -> ImageError:
    return ImageError(
        f"{name}: the {header.format} data are truncated or damaged{f' ({why})' if why else ''} "
        f"(the header promises {header.width} x {header.height} pixels). Copy the file again from the camera."
    )


def _upright(frame: Frame, orientation: int) -> Frame:
    """Apply an EXIF orientation to a frame."""
    if orientation >= 5:
        frame = frame.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        frame = frame[:, ::-1]
    if orientation in (3, 4, 7, 8):
        frame = frame[::-1]
    return frame


def _encode(picture: np.ndarray, suffix: str, options: list[int]) -> bytes:
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    done, buffer = cv2.imencode(suffix, np.ascontiguousarray(bgr), options)
    if not done:
        raise ImageError(f"cannot encode a picture of shape {picture.shape} as {suffix}.")
    return bytes(buffer)
