"""Random changes of a file: bits, bytes, holes, repetitions, splices, and numbers that programs trip over."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PNG = b"\x89PNG\r\n\x1a\n"


def mutant(data: bytes, other: bytes, start: int, end: int, rng: np.random.Generator) -> bytes:
    """Change a file between two offsets, one to four times.

    Args:
        data: The file.
        other: Another file of the same format, pieces of which are put into this one.
        start: First byte that may change.
        end: The byte after the last that may change.
        rng: Random generator.
    """
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if len(changed) > start + 8:
            _change(changed, other, start, min(end, len(changed)), rng)
    return mended(bytes(changed)) if changed != data else mutant(data, other, start, end, rng)


def _change(data: bytearray, other: bytes, start: int, end: int, rng: np.random.Generator) -> None:
    at = int(rng.integers(start, max(start + 1, end - 4)))
    size = int(rng.integers(1, max(2, min(200, end - at))))
    match int(rng.integers(9)):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at] = int(rng.integers(256))
        case 2:
            data[at : at + size] = rng.bytes(size)
        case 3:
            data[at : at + size] = bytes(size)
        case 4:
            del data[at : at + size]
        case 5:
            data[at:at] = data[at : at + size] * int(rng.integers(1, 20))
        case 6:
            begin = int(rng.integers(len(other)))
            data[at : at + size] = other[begin : begin + size]
        case 7:
            number = _ODD_NUMBERS[int(rng.integers(len(_ODD_NUMBERS)))]
            big, wide = rng.integers(2, size=2)
            form = (">" if big else "<") + ("I" if wide else "H")
            packed = struct.pack(form, number & (2**32 - 1 if wide else 65535))
            data[at : at + len(packed)] = packed
        case _:
            del data[at:]


def mended(data: bytes) -> bytes:
    """Correct the check sums of a PNG, so that its decoder does not stop at them; other files stay as they are."""
    if not data.startswith(_PNG):
        return data
    mended_data, at = bytearray(data), len(_PNG)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        mended_data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(mended_data)
