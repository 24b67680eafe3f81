"""Structure of JPEG and PNG files, read without decoding: missing scans and excessive numbers of scans or chunks.

Decoders do not handle two cases. A progressive JPEG that ends between two scans is decoded as if it were complete, only
less sharp; and a small file can take minutes to decode if it repeats a scan or an empty chunk many thousand times.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from gonogo.errors import ImageError

MOST_SCANS = 32
"""Largest number of scans in a JPEG; encoders write 1 to about 20. Each takes about 60 ms at 64 megapixels, even if it
is short."""
MOST_SEGMENTS = 10_000
_BYTES_PER_CHUNK = 512
_FREE_CHUNKS = 1_000
"""Largest number of chunks in a PNG, plus one for each `_BYTES_PER_CHUNK` of the file."""

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
    """Components and scans of a JPEG."""

    scans: int = 0
    progressive: bool = False
    sampled: dict[int, int] = field(default_factory=dict)
    """Number of samples of each component by its id, according to its subsampling."""
    missing_bits: dict[int, list[int]] = field(default_factory=dict)
    """Number of missing low bits of each coefficient of a component; -1 if the coefficient is missing."""

    @property
    def complete(self) -> bool:
        """Whether all bits of all coefficients are present."""
        return all(not any(bits) for bits in self.missing_bits.values())

    @property
    def coefficient_bytes(self) -> int:
        """Memory for the coefficients, which a decoder must store if there are several scans."""
        return 2 * sum(self.sampled.values()) if self.progressive or self.scans > 1 else 0


def jpeg_structure(data: bytes, *, name: str) -> JpegStructure:
    """Read all markers of a JPEG.

    Reading stops at a malformed segment, which the decoder will refuse.

    Raises:
        ImageError: There are more scans or segments than any camera or program writes, or a scan adds nothing.
    """
    found = JpegStructure()
    for count, (marker, body) in enumerate(_segments(data, found)):
        if count >= MOST_SEGMENTS:
            raise ImageError(f"{name}: more than {MOST_SEGMENTS:,} segments before the picture. Save it again.")
        if marker in _FRAMES:
            _note_frame(found, marker, body)
        elif marker == _SCAN:
            if not _note_scan(found, body):
                raise ImageError(f"{name}: the JPEG repeats a scan, which only wastes time. Save it again.")
            if found.scans > MOST_SCANS:
                raise ImageError(
                    f"{name}: the JPEG has more than the {MOST_SCANS} scans allowed, so decoding would take far too "
                    "long for its size. Save it again."
                )
    return found


def require_few_chunks(data: bytes, *, name: str) -> None:
    """Refuse a PNG with too many small chunks, because each chunk takes time.

    Raises:
        ImageError: There are too many chunks for the size of the file.
    """
    most = _FREE_CHUNKS + len(data) // _BYTES_PER_CHUNK
    at, count = len(PNG_START), 0
    while at + 12 <= len(data):
        count += 1
        if count > most:
            raise ImageError(
                f"{name}: the PNG has more than {most:,} chunks, too many for its {len(data):,} bytes, so decoding "
                "would take far too long. Save it again."
            )
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def png_claims_too_much(data: bytes) -> bool:
    """Whether a chunk of a PNG says that it is longer than the rest of the file; decoders may take memory for it."""
    at = len(PNG_START)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return True
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at = end
    return False


def _segments(data: bytes, found: JpegStructure) -> Iterator[tuple[int, bytes]]:
    """Yield every marker with a length, and its body; bytes in between are skipped, as in decoders."""
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
            return  # a single scan of all components is the last one


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


def _note_scan(found: JpegStructure, body: bytes) -> bool:
    """Note the coefficients of a scan; return whether it adds any, or more bits of one."""
    found.scans += 1
    count = body[0] if body else 0
    if len(body) < 4 + 2 * count:
        return True  # malformed; the decoder refuses it
    first, last, bits = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
    if not found.progressive:
        first, last, bits = 0, _COEFFICIENTS - 1, 0
    adds = False
    for index in range(count):
        missing = found.missing_bits.get(body[1 + 2 * index], [])
        adds = adds or any(before < 0 or bits < before for before in missing[first : last + 1])
        missing[first : last + 1] = [bits] * len(missing[first : last + 1])
    return adds
