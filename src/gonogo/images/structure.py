"""What a JPEG or PNG is made of, found without unpacking it: its parts are counted, and what is missing is named.

Two things are settled here that decoders leave open. A progressive JPEG that ends between two scans is shown by every
decoder as if it were whole, only less sharp; and a small file can cost minutes when it repeats one scan, or one empty
chunk, many thousand times.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from gonogo.errors import ImageError

MOST_SCANS = 32
"""Of one JPEG; encoders write 1 to about 20. Each costs about 60 ms on 64 megapixels, however short it is."""
MOST_SEGMENTS = 10_000
_BYTES_PER_CHUNK = 512
_FREE_CHUNKS = 1_000
"""A PNG may have this many chunks, and one more for each `_BYTES_PER_CHUNK` of the file."""

JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_COEFFICIENTS = 64
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_ALONE = frozenset((0x01, 0xD8, *range(0xD0, 0xD8)))
"""Markers without a length: TEM, SOI, RST0 to RST7."""
_SCAN, _END = 0xDA, 0xD9


@dataclass
class JpegStructure:
    """The scans of a JPEG and what they bring."""

    scans: int = 0
    progressive: bool = False
    sampled: dict[int, int] = field(default_factory=dict)
    """Samples of a component by its id, as its subsampling says."""
    missing_bits: dict[int, list[int]] = field(default_factory=dict)
    """How many low bits of each coefficient of a component have not come; -1 where nothing came of it."""

    @property
    def complete(self) -> bool:
        """Whether every bit of every coefficient has come."""
        return all(not any(bits) for bits in self.missing_bits.values())

    @property
    def coefficient_bytes(self) -> int:
        """Memory for the coefficients, which a decoder holds back where they come in several scans."""
        return 2 * sum(self.sampled.values()) if self.progressive or self.scans > 1 else 0


def jpeg_structure(data: bytes, *, name: str) -> JpegStructure:
    """Read the markers of a JPEG up to its end.

    Malformed segments end the reading: what they mean is left to the decoder, which refuses them.

    Raises:
        ImageError: more scans or segments than a camera or a program writes.
    """
    found = JpegStructure()
    for count, (marker, body) in enumerate(_segments(data, found)):
        if count >= MOST_SEGMENTS:
            raise ImageError(f"{name}: more than {MOST_SEGMENTS:,} segments before the picture. Save it again.")
        if marker in _FRAMES:
            _note_frame(found, marker, body)
        elif marker == _SCAN:
            _note_scan(found, body)
            if found.scans > MOST_SCANS:
                raise ImageError(
                    f"{name}: the JPEG has more than the {MOST_SCANS} scans that are allowed: it would take far longer "
                    "to decode than its size says. Save it again."
                )
    return found


def require_few_chunks(data: bytes, *, name: str) -> None:
    """Refuse a PNG of countless tiny chunks: each costs time whatever it holds.

    Raises:
        ImageError: more chunks than its size explains.
    """
    most = _FREE_CHUNKS + len(data) // _BYTES_PER_CHUNK
    at, count = len(PNG_START), 0
    while at + 12 <= len(data):
        count += 1
        if count > most:
            raise ImageError(
                f"{name}: the PNG has more than {most:,} chunks, far more than its {len(data):,} bytes explain: it "
                "would take far longer to decode than its size says. Save it again."
            )
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _segments(data: bytes, found: JpegStructure) -> Iterator[tuple[int, bytes]]:
    """Every marker with a length, and its body; a decoder skips what lies between them, and so does this."""
    at = len(JPEG_START)
    while (mark := _MARKER.search(data, at)) is not None:
        marker, at = mark[1][0], mark.end()
        if marker == _END:
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            return
        yield marker, data[at + 2 : at + length]
        at += length
        if marker == _SCAN and not found.progressive and found.complete:
            return  # one scan of everything: nothing may follow it


def _note_frame(found: JpegStructure, marker: int, body: bytes) -> None:
    if found.sampled or len(body) < 6:
        return
    _, height, width, count = struct.unpack_from(">BHHB", body)
    parts = [body[6 + 3 * index : 9 + 3 * index] for index in range(count)]
    if not parts or len(parts[-1]) < 3:
        return
    factors = {part[0]: (part[1] >> 4, part[1] & 15) for part in parts}
    across, down = (max(1, *(factor[axis] for factor in factors.values()), 1) for axis in (0, 1))
    found.progressive = marker in _PROGRESSIVE
    found.sampled = {name: -(-width * h // across) * -(-height * v // down) for name, (h, v) in factors.items()}
    found.missing_bits = {name: [-1] * _COEFFICIENTS for name in factors}


def _note_scan(found: JpegStructure, body: bytes) -> None:
    found.scans += 1
    count = body[0] if body else 0
    if len(body) < 4 + 2 * count:
        return
    first, last, bits = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
    if not found.progressive:
        first, last, bits = 0, _COEFFICIENTS - 1, 0
    for index in range(count):
        missing = found.missing_bits.get(body[1 + 2 * index], [])
        missing[first : last + 1] = [bits] * len(missing[first : last + 1])
