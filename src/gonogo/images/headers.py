"""Picture headers: size, format and depth, read without decoding pixels."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError, features

from gonogo.errors import ImageError
from gonogo.images.structure import JPEG_START, PNG_START, JpegStructure, jpeg_structure, require_few_chunks

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "HEIF")
"""Supported formats, by Pillow's names; HEIF needs the extra ``heif``."""
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".heic", ".heif", ".hif"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_ORIENTATION = 0x0112

_CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3, "RGBA": 4, "RGBX": 4, "CMYK": 4, "YCbCr": 3}
_CHANNELS |= {"I;16": 1, "I;16B": 1, "I;16L": 1, "I": 1}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Header of a picture, read without decoding."""

    format: str
    width: int
    height: int
    mode: str
    decoded_bytes: int
    """Memory for decoding: the samples in their original depth, and the frame."""
    orientation: int = 1
    """EXIF orientation of a JPEG, 1 to 8."""
    deep_grey: bool = False
    """Whether it is a grey picture with more than 8 bits per pixel."""
    complete: bool = True
    """``False`` if a JPEG ends before all its scans."""


def read_header(data: bytes, *, name: str = "picture") -> Header:
    """Read size, format and depth from encoded bytes without decoding them.

    Raises:
        ImageError: The format is not in `FORMATS`, the header is unreadable, or decoding would be disproportionately
            expensive.
    """
    jpeg = None
    if data.startswith(JPEG_START):
        jpeg = jpeg_structure(data, name=name)
    elif data.startswith(PNG_START):
        require_few_chunks(data, name=name)
    formats: tuple[str, ...] = FORMATS[:6]
    if data[4:8] == b"ftyp" and (kind := _of_phones(data)) is not None:
        formats = (kind,)
        _require_codec(kind, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's bomb warning; the limits decide
            with Image.open(io.BytesIO(data), formats=formats) as picture:
                if picture.mode not in _CHANNELS:
                    raise ImageError(
                        f"{name}: expected 8 or 16 bit samples, found Pillow mode {picture.mode!r}. "
                        "Save it as 8 or 16 bit grey or colour."
                    )
                return _header(picture, data, jpeg)
    except UnidentifiedImageError:
        raise ImageError(
            f"{name}: expected a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF or HEIC picture, found {_describe(data)}. "
            "Remove the file or save it again as one of these."
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too many pixels ({error}). Reduce the picture.") from None
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # BLE001: Pillow may raise anything; it becomes an ImageError
        raise ImageError(f"{name}: the picture's header is damaged ({error}). Copy the file again.") from error


def _header(picture: Image.Image, data: bytes, jpeg: JpegStructure | None) -> Header:
    width, height = picture.size
    samples = width * height * _CHANNELS[picture.mode] * _sample_bytes(picture, data)
    if jpeg is not None:
        samples = jpeg.coefficient_bytes  # pixels are decoded directly into the frame
    return Header(
        format=picture.format or "?",
        width=width,
        height=height,
        mode=picture.mode,
        deep_grey=picture.mode.startswith("I"),
        decoded_bytes=samples + 3 * width * height,
        orientation=_orientation(picture.info.get("exif")) if jpeg is not None else 1,
        complete=jpeg is None or jpeg.complete,
    )


def _sample_bytes(picture: Image.Image, data: bytes) -> int:
    """Bytes per sample. Pillow's mode does not tell, because it is RGB for 16-bit colour pictures, too."""
    if data.startswith(PNG_START):
        return 2 if data[24] > 8 else 1
    bits = getattr(picture, "tag_v2", {}).get(258, ()) if picture.format == "TIFF" else ()
    return 2 if picture.mode.startswith("I") or max(bits or (8,)) > 8 else 1


def _orientation(exif: bytes | None) -> int:
    """Read the orientation from the EXIF block only; Pillow also uses XMP, unlike other programs."""
    if not exif:
        return 1
    found = Image.Exif()
    try:
        found.load(exif)
        value = found.get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  a broken EXIF block means no orientation
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _of_phones(data: bytes) -> str | None:
    """Return the format if the file is HEIC or AVIF, which begin like a video; otherwise ``None``."""
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4], "big"), 64), 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def _require_codec(kind: str, name: str) -> None:
    """Make Pillow read HEIC or AVIF.

    Raises:
        ImageError: The codec is not installed; the message says what to install.
    """
    if kind == "AVIF":
        if not features.check("avif"):
            raise ImageError(f"{name}: AVIF is not supported by this build of Pillow. Save the picture as JPEG.")
        return
    try:
        import pillow_heif  # an optional extra, because its codecs are LGPL and GPL
    except ImportError:
        raise ImageError(
            f"{name}: HEIC (the iPhone format) needs an extra. Install it with: pip install 'gonogo[heif]'; "
            "or save the picture as JPEG (iPhone: Settings, Camera, Formats, Most Compatible)."
        ) from None
    pillow_heif.register_heif_opener(thumbnails=False)


def _describe(data: bytes) -> str:
    head = data[:24]
    return f"text starting with {head.decode()!r}" if head.isascii() else f"{len(data):,} bytes of something else"
