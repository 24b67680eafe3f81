"""Decoding bombs: small files that would cost gigabytes or minutes. Each must be refused at once."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import seeds
from fuzz.pictures import Costs, decode_counted
from fuzz.seeds import chunk
from gonogo.progress import track

MOST_S = 0.1
"""Processor time within which a bomb must be refused."""
_START = b"\x89PNG\r\n\x1a\n"
_Maker = Callable[[np.random.Generator], bytes]


def refuse_bombs(each: int, *, seed: int, out: Path | None = None) -> dict[str, Any]:
    """Try bombs of each kind.

    Args:
        each: How many of each kind.
        seed: Random seed.
        out: Folder for bombs that were not refused.

    Returns:
        The figures of each kind.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    totals = Counter[str]()
    for kind, make in track(list(bombs().items()), "Bombs"):
        costs, late, most_bytes = Costs(out=out), 0, 0
        for number in range(each):
            data = make(rng)
            most_bytes = max(most_bytes, len(data))
            one = Costs(out=out)
            decode_counted(data, f"{kind}-{number}", one)
            late += one.longest_s > MOST_S
            costs.tried, costs.refused, costs.crashes = (
                costs.tried + 1, costs.refused + one.refused, costs.crashes + one.crashes
            )  # fmt: skip
            costs.longest_s = max(costs.longest_s, one.longest_s)
        found[kind] = {
            "tried": costs.tried, "refused": costs.refused, "over_100_ms": late, "largest_kb": round(most_bytes / 1e3),
            "longest_cpu_ms": round(1e3 * costs.longest_s),
        }  # fmt: skip
        totals.update(tried=costs.tried, refused=costs.refused, over_100_ms=late, crashes=costs.crashes)
    return {**totals, "not_refused": totals["tried"] - totals["refused"], "kinds": found}


def bombs() -> Mapping[str, _Maker]:
    """Ways to make a bomb, by what it abuses."""
    found: dict[str, _Maker] = {
        "png_size": lambda rng: _png(_START, _head(*_huge(rng))),
        "png_16_bits_rgba": lambda rng: _png(_START, _head(*_sides(rng, 64_000_000), depth=16, colour=6)),
        "png_chunks": lambda rng: _png(
            _START, _head(90, 90), chunk(b"teXt", b"") * int(rng.integers(100_000, 300_000))
        ),
        "png_text": lambda rng: _png(_START, _head(90, 90), _packed(rng, b"zTXt", b"a\0\0") * 50),
        "png_itxt": lambda rng: _png(_START, _head(90, 90), _packed(rng, b"iTXt", b"a\0\1\0\0\0") * 50),
        "png_profile": lambda rng: _png(_START, _head(90, 90), _packed(rng, b"iCCP", b"a\0\0") * 2),
        "jpeg_size": _jpeg_size,
        "jpeg_scans": _jpeg_scans,
        "jpeg_repeated_scans": _jpeg_repeated,
        "jpeg_segments": lambda rng: b"\xff\xd8" + b"\xff\xe5\x00\x02" * int(rng.integers(20_000, 900_000)),
        "bmp_size": lambda rng: _patched(seeds.saved(seeds.picture(rng), "BMP"), 18, struct.pack("<II", *_huge(rng))),
        "gif_size": _gif_size,
        "tiff_size": _tiff_size,
        "tiff_16_bits": _tiff_16_bits,
        "tiff_tags": _tiff_tags,
        "webp_size": _webp_size,
        "avif_size": lambda rng: _larger(seeds.saved(seeds.picture(rng), "AVIF", speed=10), rng),
        "zip": lambda rng: b"PK\x03\x04" + zlib.compress(bytes(10_000_000)) + rng.bytes(9),
    }  # fmt: skip
    if "HEIF" in seeds.makers():
        found["heif_size"] = lambda rng: _larger(seeds.saved(seeds.picture(rng), "HEIF", quality=50), rng)
    return found


def _huge(rng: np.random.Generator) -> tuple[int, int]:
    width, height = rng.integers(9_000, 60_000, 2)
    return int(width), int(height)


def _sides(rng: np.random.Generator, pixels: int) -> tuple[int, int]:
    width = int(rng.integers(4_000, 12_000))
    return width, pixels // width


def _head(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def _png(*pieces: bytes) -> bytes:
    return b"".join(pieces) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")


def _packed(rng: np.random.Generator, kind: bytes, head: bytes) -> bytes:
    return chunk(kind, head + zlib.compress(bytes(int(rng.integers(8, 40)) << 20), 1))


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _jpeg_size(rng: np.random.Generator) -> bytes:
    data = seeds.saved(seeds.picture(rng), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return _patched(data, at, struct.pack(">HH", *(int(side) for side in rng.integers(9_000, 65_500, 2))))


def _gif_size(rng: np.random.Generator) -> bytes:
    sides = struct.pack("<HH", *(int(side) for side in rng.integers(40_000, 65_536, 2)))
    return _patched(seeds.saved(seeds.picture(rng), "GIF", "P"), 6, sides)


def _scans(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """A progressive JPEG without its end that claims to be large, and its last scan."""
    data = seeds.saved(seeds.picture(rng), "JPEG", progressive=True)
    data = _patched(data, data.index(b"\xff\xc2") + 5, struct.pack(">HH", *_sides(rng, 60_000_000)))
    return data[:-2], data[data.rindex(b"\xff\xda") : -2]


def _jpeg_scans(rng: np.random.Generator) -> bytes:
    data, last = _scans(rng)
    return data + last * int(rng.integers(100, 3_000)) + b"\xff\xd9"


def _jpeg_repeated(rng: np.random.Generator) -> bytes:
    data, last = _scans(rng)
    return data + last * int(rng.integers(2, 20)) + b"\xff\xd9"


def _tags(data: bytes) -> Iterator[tuple[int, int]]:
    """Offset and number of each tag of a little-endian TIFF."""
    at = int.from_bytes(data[4:8], "little")
    for index in range(int.from_bytes(data[at : at + 2], "little")):
        place = at + 2 + 12 * index
        yield place, int.from_bytes(data[place : place + 2], "little")


def _with_tags(data: bytes, new: Mapping[int, int]) -> bytes:
    for place, tag in list(_tags(data)):
        if tag in new:
            data = _patched(data, place + 2, struct.pack("<HII", 4, 1, new[tag]))
    return data


def _tiff_size(rng: np.random.Generator) -> bytes:
    width, height = _huge(rng)
    how = ("raw", "tiff_lzw", "tiff_adobe_deflate")[int(rng.integers(3))]
    return _with_tags(seeds.saved(seeds.picture(rng), "TIFF", compression=how), {256: width, 257: height})


def _tiff_16_bits(rng: np.random.Generator) -> bytes:
    import cv2

    width, height = _sides(rng, 63_000_000)
    data = bytes(cv2.imencode(".tiff", rng.integers(0, 65_536, (40, 60, 3)).astype(np.uint16))[1])
    return _with_tags(data, {256: width, 257: height})


def _tiff_tags(rng: np.random.Generator) -> bytes:
    """Every tag claims four thousand million values."""
    data = seeds.saved(seeds.picture(rng), "TIFF")
    for place, _ in list(_tags(data)):
        data = _patched(data, place + 4, struct.pack("<I", int(rng.integers(2**31, 2**32))))
    return data


def _webp_size(rng: np.random.Generator) -> bytes:
    data = seeds.saved(seeds.picture(rng), "WEBP")
    at = data.index(b"\x9d\x01\x2a") + 3
    return _patched(data, at, struct.pack("<HH", *(int(side) for side in rng.integers(9_000, 16_383, 2))))


def _larger(data: bytes, rng: np.random.Generator) -> bytes:
    """Claims another size in the box ``ispe``."""
    at = data.index(b"ispe") + 8
    return _patched(data, at, struct.pack(">II", *_huge(rng)))
