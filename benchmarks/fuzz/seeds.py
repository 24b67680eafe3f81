"""Small valid pictures of every kind that is read, to be mutated, and of some kinds that are not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image

Frame = np.ndarray

HEADER_BYTES: Mapping[str, int] = {
    "JPEG": 640, "PNG": 33, "BMP": 54, "TIFF": 8, "WEBP": 30, "GIF": 13, "AVIF": 300, "HEIF": 500,
}  # fmt: skip
"""Bytes at the start of a file that count as its header."""
FOREIGN = ("PPM", "JPEG2000", "ICO", "TGA", "PCX", "DDS", "SGI")
"""Formats that are not read: they must be refused without any decoder."""


def picture(rng: np.random.Generator, *, size_wh: tuple[int, int] = (96, 72)) -> Frame:
    """A smooth random picture with some noise."""
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    noise = rng.integers(-6, 7, (size_wh[1], size_wh[0], 3))
    smooth = cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(smooth + noise, 0, 255), np.uint8)


def saved(frame: Frame, kind: str, mode: str = "RGB", **options: object) -> bytes:
    """Encode a picture with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(frame).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(size_wh: tuple[int, int], rows: bytes, *, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """A PNG with these rows, each begun by its filter."""
    head = struct.pack(">IIBBBBB", *size_wh, depth, colour, 0, 0, interlaced)
    body = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def interlaced_png(rng: np.random.Generator) -> bytes:
    """An interlaced PNG (Adam7) of noise."""
    side, pixel = 48, 3
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for x, y, across, down in passes:
        width = -(-(side - x) // across)
        for _ in range(-(-(side - y) // down)):
            rows += bytes([int(rng.integers(5))]) + rng.bytes(width * pixel)
    return png((side, side), rows, interlaced=1)


def _by_opencv(suffix: str, dtype: type[np.uint16], channels: int) -> Callable[[np.random.Generator], bytes]:
    def make(rng: np.random.Generator) -> bytes:
        shape = (40, 60, channels) if channels > 1 else (40, 60)
        noise = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        return bytes(cv2.imencode(suffix, noise)[1])

    return make


def _by_pillow(kind: str, mode: str = "RGB", **options: object) -> Callable[[np.random.Generator], bytes]:
    return lambda rng: saved(picture(rng), kind, mode, **options)


def _animated(kind: str) -> Callable[[np.random.Generator], bytes]:
    def make(rng: np.random.Generator) -> bytes:
        frames = [Image.fromarray(picture(rng, size_wh=(48, 36))) for _ in range(3)]
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        return buffer.getvalue()

    return make


def _turned(rng: np.random.Generator) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    exif[0x010E] = "x" * int(rng.integers(1, 300))
    return saved(picture(rng), "JPEG", exif=exif.tobytes())


def makers() -> dict[str, dict[str, Callable[[np.random.Generator], bytes]]]:
    """Ways to make a valid picture, by format; HEIF only where its codec is installed."""
    found: dict[str, dict[str, Callable[[np.random.Generator], bytes]]] = {
        "JPEG": {
            **{f"baseline {way}": _by_pillow("JPEG", subsampling=way, quality=85) for way in (0, 1, 2)},
            "progressive": _by_pillow("JPEG", progressive=True),
            "grey": _by_pillow("JPEG", "L"),
            "cmyk": _by_pillow("JPEG", "CMYK"),
            "optimized": _by_pillow("JPEG", optimize=True, quality=40),
            "exif": _turned,
        },
        "PNG": {
            **{mode: _by_pillow("PNG", mode) for mode in ("RGB", "RGBA", "P", "L", "1")},
            "grey 16": _by_opencv(".png", np.uint16, 1),
            "colour 16": _by_opencv(".png", np.uint16, 3),
            "interlaced": interlaced_png,
        },
        "BMP": {mode: _by_pillow("BMP", mode) for mode in ("RGB", "P", "L", "1", "RGBA")},
        "TIFF": {
            **{
                way: _by_pillow("TIFF", compression=way)
                for way in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
            },
            "group4": _by_pillow("TIFF", "1", compression="group4"),
            "grey 16": _by_opencv(".tiff", np.uint16, 1),
            "colour 16": _by_opencv(".tiff", np.uint16, 3),
            "cmyk": _by_pillow("TIFF", "CMYK"),
        },
        "WEBP": {
            "lossy": _by_pillow("WEBP"),
            "lossless": _by_pillow("WEBP", lossless=True),
            "alpha": _by_pillow("WEBP", "RGBA"),
            "animated": _animated("WEBP"),
        },
        "GIF": {"still": _by_pillow("GIF", "P"), "animated": _animated("GIF")},
        "AVIF": {"still": _by_pillow("AVIF", speed=10), "animated": _animated("AVIF")},
    }
    try:
        import pillow_heif
    except ImportError:
        return found
    pillow_heif.register_heif_opener(thumbnails=False)
    found["HEIF"] = {"still": _by_pillow("HEIF", quality=50), "alpha": _by_pillow("HEIF", "RGBA", quality=50)}
    return found


def foreign(rng: np.random.Generator) -> list[bytes]:
    """Valid pictures of formats that are not read, and files that are no pictures."""
    frame = picture(rng, size_wh=(64, 64))
    return [
        *(saved(frame, kind) for kind in FOREIGN),
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(1)</script></svg>",
        b"%PDF-1.7\n" + rng.bytes(200),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        b"PK\x03\x04" + rng.bytes(200),
    ]
