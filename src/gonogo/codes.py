"""Reads the codes on a part: DataMatrix, QR and 1-D codes in the code zones of a recipe.

Codes are read from the full-resolution picture, in the smallest rectangle around each zone. What they say completes a
verdict; a code that cannot be read makes it worse, never better. Reading is bounded by the size of the cut-out. A
station reads in its worker, so that a reader that crashes or hangs costs that part a fault and the worker a restart.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from gonogo.array_types import Float64, UInt8
from gonogo.config import IDENTITY, CodeZone
from gonogo.errors import ImageError, MissingExtraError
from gonogo.images import Photograph
from gonogo.images.zones import Place, ZoneCut, cut_zone
from gonogo.names import clean_name, readable
from gonogo.schema import Frame, PartIdentity, State, Verdict

LONGEST_TEXT = 500
"""Longest text of a code, in characters; a longer one counts as unreadable."""
MOST_PIXELS = 4_000_000
"""A larger cut-out is reduced before it is read."""
_SMALL_PX = 400
"""A cut-out whose longer side is shorter is also read enlarged."""
_TURN_DEG = 12.0
_LEAST_CONTRAST = 12.0
_MATRIX = ("DataMatrix", "QRCode", "MicroQRCode", "Aztec")
"""Formats that are read at any angle; the bars of the others must not be tilted by more than some degrees."""
_SEVERITY = (State.GO, State.REVIEW, State.NO_GO, State.FAULT)

Grey = UInt8[np.ndarray, "_height _width"]
Affine = Float64[np.ndarray, "3 3"]


@dataclass(frozen=True, kw_only=True)
class ReadCode:
    """A code that was found and decoded, with its checksum intact."""

    text: str
    format: str
    centre_xy: tuple[float, float]
    """In pixels of the picture that was read."""


def require_reader() -> None:
    """Check that codes can be read.

    Raises:
        MissingExtraError: the package zxing-cpp is not installed.
    """
    if importlib.util.find_spec("zxingcpp") is None:
        raise MissingExtraError(
            "expected zxing-cpp, because the recipe has a code zone, found no such package. "
            "Install it: pip install 'gonogo[codes]'"
        )


def read_codes(picture: Frame, formats: Sequence[str]) -> list[ReadCode]:
    """Read all codes of some formats in a picture.

    It is read as it is, then, until a code is found: at two and three times its size if it is small, with its contrast
    stretched locally, and, for 1-D codes, turned by 12 degrees either way.

    Args:
        picture: RGB, at least one pixel.
        formats: Names of formats, see `gonogo.config.CodeFormat`.
    """
    import zxingcpp

    wanted = zxingcpp.barcode_formats_from_str(",".join(formats))
    for grey, to_picture in _attempts(picture, turned=any(each not in _MATRIX for each in formats)):
        found = zxingcpp.read_barcodes(grey, formats=wanted)
        codes = [_read(each, to_picture) for each in found if each.valid and 0 < len(each.text) <= LONGEST_TEXT]
        if codes:
            return codes
    return []


def _attempts(picture: Frame, *, turned: bool) -> Iterator[tuple[Grey, Affine]]:
    """Yield grey pictures to read, and the transform from their pixels to the given picture's."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    scale = max(1.0, (grey.size / MOST_PIXELS) ** 0.5)
    if scale > 1.0:
        size_wh = (max(1, int(grey.shape[1] / scale)), max(1, int(grey.shape[0] / scale)))
        grey = cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)
    yield grey, _scaling(scale)
    for times in (2, 3) if max(grey.shape) < _SMALL_PX else ():
        yield cv2.resize(grey, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), _scaling(scale / times)
    yield _stretched(grey), _scaling(scale)
    for angle in (-_TURN_DEG, _TURN_DEG) if turned else ():
        height, width = grey.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        turned_grey = cv2.warpAffine(grey, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        yield turned_grey, _scaling(scale) @ np.vstack([cv2.invertAffineTransform(turn), [0, 0, 1]])


def _scaling(factor: float) -> Affine:
    return np.diag([factor, factor, 1.0])


def _stretched(grey: Grey) -> Grey:
    """Stretch the contrast between the darkest and the brightest pixel around each pixel."""
    side = max(5, max(grey.shape) // 6) | 1
    kernel = np.ones((side, side), np.uint8)
    low = cv2.blur(cv2.erode(grey, kernel), (side, side)).astype(np.float32)
    high = cv2.blur(cv2.dilate(grey, kernel), (side, side)).astype(np.float32)
    stretched = (grey - low) / np.maximum(high - low, _LEAST_CONTRAST) * 255
    found: Grey = np.clip(stretched, 0, 255).astype(np.uint8)
    return found


def _read(found: Any, to_picture: Affine) -> ReadCode:
    corners = (
        found.position.top_left, found.position.top_right, found.position.bottom_left, found.position.bottom_right
    )  # fmt: skip
    centre = np.array([sum(getattr(corner, axis) for corner in corners) / 4 for axis in "xy"] + [1.0])
    x, y = (float(value) for value in (to_picture @ centre)[:2])
    return ReadCode(text=found.text, format=str(found.format), centre_xy=(x, y))


def read_identity(frame: Frame, place: Place, zones: Sequence[CodeZone]) -> tuple[PartIdentity, State]:
    """Read the code of every zone.

    Args:
        frame: The picture at full resolution.
        place: Where the part is in it.
        zones: The recipe's code zones.

    Returns:
        What the codes say, and the best verdict that the part may get: go if every zone has one code that matches its
        pattern and no two contradict each other.
    """
    said: dict[str, str] = {}
    texts, troubles, at_best = [], [], State.GO
    for zone in zones:
        text, groups, trouble = _read_zone(frame, place, zone)
        texts += [] if text is None else [text]
        contradiction = next((name for name in groups if said.get(name, groups[name]) != groups[name]), None)
        if contradiction is not None:
            trouble = f"code zone {zone.name}: {contradiction} {groups[contradiction]!r}, another code says "
            trouble += repr(said[contradiction])
        if trouble:
            troubles.append(trouble)
            allowed = State.FAULT if contradiction is not None else State(zone.unreadable)
            at_best = max(at_best, allowed, key=_SEVERITY.index)
        said = {**groups, **said}
    return PartIdentity(codes=tuple(texts), trouble="; ".join(troubles), **said), at_best


def _read_zone(frame: Frame, place: Place, zone: CodeZone) -> tuple[str | None, dict[str, str], str]:
    """Return the text of a zone's code, its named groups, and why there is none."""
    where = f"code zone {zone.name}"
    try:
        cut = cut_zone(frame, zone.polygon, place)
    except ImageError as error:
        return None, {}, f"{where}: {error}"
    texts = list(dict.fromkeys(code.text for code in read_codes(cut.picture, zone.formats) if _inside(code, cut)))
    if not texts:
        return None, {}, f"{where}: no code could be read (expected {', '.join(zone.formats)})"
    matching = {text: groups for text in texts if (groups := _groups(text, zone)) is not None}
    if not matching:
        return None, {}, f"{where}: expected a text like {zone.pattern}, found {readable(texts[0])[:80]!r}"
    if len(matching) > 1:
        return None, {}, f"{where}: expected one code, found {len(matching)} different ones"
    text, groups = matching.popitem()
    return readable(text), groups, ""


def _groups(text: str, zone: CodeZone) -> dict[str, str] | None:
    """Return the named groups of a text; ``None`` if it does not match, or a group is no name for the ledger."""
    match = re.fullmatch(zone.pattern, text)
    if match is None:
        return None
    try:
        return {name: clean_name(match[name]) for name in IDENTITY if match.groupdict().get(name) is not None}
    except ValueError:
        return None


def _inside(code: ReadCode, cut: ZoneCut) -> bool:
    height, width = cut.mask.shape
    x, y = (int(value) for value in code.centre_xy)
    return 0 <= x < width and 0 <= y < height and bool(cut.mask[y, x])


def identified(verdict: Verdict, photograph: Photograph, zones: Sequence[CodeZone]) -> Verdict:
    """Complete the verdict on a judged picture with what the codes on the part say.

    Args:
        verdict: A verdict with a region.
        photograph: The picture.
        zones: The recipe's code zones.

    Returns:
        The verdict with its identity, and worse than before if a code cannot be read; its score stays.
    """
    assert verdict.region is not None, "only judged pictures are read"
    try:
        identity, at_best = read_identity(photograph.frame, Place(region=verdict.region, margin=verdict.margin), zones)
    except Exception as error:  # noqa: BLE001  the edge of judging: a reader may fail in any way, the part is a fault
        identity, at_best = PartIdentity(trouble=f"codes not read ({type(error).__name__}: {error})"), State.FAULT
    state = max(verdict.state, at_best, key=_SEVERITY.index)
    if state is verdict.state:
        reason = f"{verdict.reason}; {identity.trouble}" if identity.trouble else verdict.reason
        return replace(verdict, identity=identity, reason=reason)
    return replace(verdict, state=state, identity=identity, reason=f"{identity.trouble}; otherwise {verdict.reason}")
