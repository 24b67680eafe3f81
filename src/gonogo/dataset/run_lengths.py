"""Run-length codes of masks: plain, COCO's compressed text, and Label Studio's brush."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gonogo.array_types import Bool

Flat = Bool[np.ndarray, "_pixels"]

_BRUSH_BITS = (3, 4, 8, 16)
"""Sizes of the length field that a brush run chooses from, in bits."""
_BRUSH_VALUE_BITS = 8
_BRUSH_CHANNELS = 4
"""A brush is stored as red, green, blue and alpha; alpha is the mask."""


def run_lengths(flat: Flat) -> list[int]:
    """Return the lengths of alternating runs; the first counts unmarked pixels and may be 0.

    >>> run_lengths(np.array([False, True, True]))
    [1, 2]
    """
    if not flat.size:
        return []
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def from_run_lengths(lengths: Sequence[int], pixels: int) -> Flat:
    """Inverse of `run_lengths`.

    Raises:
        ValueError: A length is negative, or they do not add up to the number of pixels.
    """
    if any(length < 0 for length in lengths) or sum(lengths) != pixels:
        raise ValueError(f"expected runs that add up to {pixels} pixels, found {sum(lengths)}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, np.asarray(lengths, np.int64))


def coco_text(lengths: Sequence[int]) -> str:
    """Compress run lengths as the COCO tools do: five bits a character, differences to the second last run."""
    signs = []
    for index, length in enumerate(lengths):
        rest = length - lengths[index - 2] if index > 2 else length
        more = True
        while more:
            five, rest = rest & 0x1F, rest >> 5
            more = rest != (-1 if five & 0x10 else 0)
            signs.append(chr(48 + five + (0x20 if more else 0)))
    return "".join(signs)


def coco_lengths(text: str) -> list[int]:
    """Inverse of `coco_text`.

    Raises:
        ValueError: The text is not such a code.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for sign in text:
        code = ord(sign) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError(f"expected a compressed run length, found {sign!r}")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("expected a complete run length, found the end of the text")
    return lengths


def brush_code(flat: Flat) -> list[int]:
    """Encode a mask as Label Studio's brush does: the bytes of a bit stream of runs over four equal channels."""
    bits = [f"{flat.size * _BRUSH_CHANNELS:032b}{_BRUSH_VALUE_BITS - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in _BRUSH_BITS]
    for index, length in enumerate(run_lengths(flat)):
        value, left = 255 * (index % 2), length * _BRUSH_CHANNELS
        while left:
            part = min(left, 1 << _BRUSH_BITS[-1])
            choice = next(number for number, size in enumerate(_BRUSH_BITS) if part <= 1 << size)
            bits.append(f"1{choice:02b}{part - 1:0{_BRUSH_BITS[choice]}b}{value:08b}")
            left -= part
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


def brush_mask(code: Sequence[int], pixels: int) -> Flat:
    """Inverse of `brush_code`: true where alpha is not 0.

    Raises:
        ValueError: The code is malformed, or is not of a picture with this many pixels.
    """
    try:
        data = bytes(list(code))
    except TypeError as error:
        raise ValueError(f"expected a list of bytes, found {str(code)[:40]!r}") from error
    stream = _Bits(data)
    count, value_bits = stream.read(32), stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in range(4)]
    if count != pixels * _BRUSH_CHANNELS or value_bits != _BRUSH_VALUE_BITS:
        raise ValueError(f"expected {pixels} pixels of four bytes, found {count} values of {value_bits} bits")
    values, done = np.zeros(count, np.uint8), 0
    while done < count:
        same, size = stream.read(1), sizes[stream.read(2)]
        end = done + 1 + stream.read(size)
        if end > count:
            raise ValueError(f"expected {count} values, found more")
        values[done:end] = stream.read(8) if same else np.frombuffer(stream.take(end - done), np.uint8)
        done = end
    return values[_BRUSH_CHANNELS - 1 :: _BRUSH_CHANNELS] > 0


class _Bits:
    """A bit stream, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, bits: int) -> int:
        end = self._at + bits
        window = self._data[self._at // 8 : (end + 7) // 8]
        if end > 8 * len(self._data):
            raise ValueError("expected more run lengths, found the end of the code")
        self._at = end
        return (int.from_bytes(window, "big") >> (-end % 8)) & ((1 << bits) - 1)

    def take(self, count: int) -> bytes:
        """Read bytes that need not start at a byte's border."""
        return self.read(8 * count).to_bytes(count, "big")
