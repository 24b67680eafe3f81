"""Pictures of parts: the stored frame, reduced, with the inspected region outlined and an optional heat map."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2

from gonogo import bundle, images
from gonogo.config import Zone
from gonogo.errors import GonogoError
from gonogo.heatmap import HeatScale, overlay
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.ledger import VerdictRecord, View
from gonogo.manifest import Manifest
from gonogo.rules import draw_findings
from gonogo.schema import Box, Frame, Region, Verdict
from gonogo.server.ledger_pool import LedgerPool
from gonogo.signing import NOT_REQUIRED

WIDTHS = (320, 960, 1920)
"""Available widths in pixels; other requests get the next larger one."""
_CACHE_BYTES = 64_000_000
_INSPECTORS = 2
_VERDICTS = 200
_NO_SCALE = HeatScale(cold=0.0, hot=1.0)  # of a picture without a heat map


class PartPictures:
    """Draws and caches pictures. The heat map is computed by judging the stored frame again with the same bundle."""

    def __init__(self, ledger_pool: LedgerPool, bundle_paths: Callable[[], list[Path]]) -> None:
        self._ledger_pool, self._bundle_paths = ledger_pool, bundle_paths
        self._drawn: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._held = 0
        self._remembering = threading.Lock()
        self._verdicts: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._inspectors: OrderedDict[str, Inspector] = OrderedDict()
        self._revisions: dict[str, frozenset[str]] = {}
        self._judging = threading.Lock()  # inspectors are not thread-safe

    def jpeg(self, record: VerdictRecord, *, view: int = 0, heat: bool = False, width: int = 960) -> bytes | None:
        """Draw one view of a part as JPEG, with its region outlined in the colour of the verdict.

        Args:
            record: The verdict.
            view: Index of the view.
            heat: Whether to draw the heat map; it is omitted if the bundle no longer exists.
            width: Width in pixels; a smaller frame is not enlarged.

        Returns:
            The JPEG bytes; ``None`` if there is no such view or its frame was not kept.
        """
        if not 0 <= view < len(record.views):
            return None
        shown = record.views[view]
        if shown.frame_sha256 is None:
            return None
        width = next((known for known in WIDTHS if known >= width), WIDTHS[-1])
        key = (shown.frame_sha256, record.bundle_sha256 if heat else None, shown.state, shown.box_xyxy, width)
        with self._remembering:
            if key in self._drawn:
                self._drawn.move_to_end(key)
                return self._drawn[key]
        with self._ledger_pool.reading() as ledger:
            if not ledger.frames.holds(shown.frame_sha256):
                return None
            photograph = ledger.frames.photograph(shown.frame_sha256)
        drawn = self._draw(photograph, shown, record if heat else None, width)
        self._remember(key, drawn)
        return drawn

    def judged(self, record: VerdictRecord, *, view: int = 0) -> Verdict | None:
        """Judge one view of a part again with the same bundle; ``None`` if the frame or the bundle no longer exists."""
        shown, inspector = record.views[view], self._inspector(record)
        if inspector is None or shown.frame_sha256 is None:
            return None
        with self._remembering:
            known = self._verdicts.get((shown.frame_sha256, inspector.bundle_sha256))
        if known is not None:
            return known
        with self._ledger_pool.reading() as ledger:
            if not ledger.frames.holds(shown.frame_sha256):
                return None
            photograph = ledger.frames.photograph(shown.frame_sha256)
        return self._judge(inspector, shown, photograph)

    def _judge(self, inspector: Inspector, shown: View, photograph: Photograph) -> Verdict:
        key = (str(shown.frame_sha256), inspector.bundle_sha256)
        with self._remembering:
            known = self._verdicts.get(key)
        if known is not None:
            return known
        with self._judging:
            found = inspector.inspect(photograph)
        with self._remembering:
            self._verdicts[key] = found
            while len(self._verdicts) > _VERDICTS:
                self._verdicts.popitem(last=False)
        return found

    def _draw(self, photograph: Photograph, shown: View, record: VerdictRecord | None, width: int) -> bytes:
        inspector = self._inspector(record) if record is not None else None
        photograph.depth = None if inspector is None else inspector.recipe.depth
        small, factor = smaller_picture(photograph.frame, width)
        box = None if shown.box_xyxy is None else Box.from_xyxy(shown.box_xyxy)
        judged, scale = Verdict(state=shown.state, score=shown.score, reason=shown.reason, region=box), _NO_SCALE
        zones: tuple[Zone, ...] = ()
        if inspector is not None:
            again = self._judge(inspector, shown, photograph)
            judged = replace(again, state=shown.state, score=shown.score, reason=shown.reason)
            scale, zones = inspector.heat_scale, inspector.recipe.zones
        region = None if judged.region is None else _scaled(judged.region, factor)
        drawn = overlay(small, replace(judged, region=region), scale, zones)
        draw_findings(drawn, shown, factor=factor)
        return images.encode_jpeg(drawn, quality=85)

    def _remember(self, key: tuple[object, ...], drawn: bytes) -> None:
        with self._remembering:
            self._held += len(drawn) - len(self._drawn.pop(key, b""))
            self._drawn[key] = drawn
            while self._held > _CACHE_BYTES:
                self._held -= len(self._drawn.popitem(last=False)[1])

    def _inspector(self, record: VerdictRecord) -> Inspector | None:
        if record.bundle_sha256 is None:
            return None
        with self._judging:
            found = self.find_bundle(record)
            if found is None:
                return None
            path, sha256 = found
            known = self._inspectors.get(sha256)
            if known is not None:
                self._inspectors.move_to_end(sha256)
                return known
            try:
                opened = Inspector.load(path, replay=False, policy=NOT_REQUIRED)
            except GonogoError:
                return None  # show the picture without a heat map; the station itself refuses such a bundle
            self._inspectors[sha256] = opened
            while len(self._inspectors) > _INSPECTORS:
                self._inspectors.popitem(last=False)
            return opened

    def find_bundle(self, record: VerdictRecord) -> tuple[Path, str] | None:
        """Find the bundle of a verdict and its current hash; ``None`` if it no longer exists.

        A later revision has other limits but the same heat map.
        """
        candidates = self._bundle_paths() + ([Path(record.bundle)] if record.bundle else [])
        revised = None
        for path in candidates:
            seal = path / bundle.SEAL
            if not seal.is_file():
                continue
            sha256 = hashlib.sha256(seal.read_bytes()).hexdigest()
            if sha256 == record.bundle_sha256:
                return path, sha256
            if revised is None and record.bundle_sha256 in self._earlier(path, sha256):
                revised = path, sha256
        return revised

    def _earlier(self, path: Path, sha256: str) -> frozenset[str]:
        if sha256 not in self._revisions:
            try:
                manifest = Manifest.model_validate_json((path / bundle.MANIFEST).read_bytes())
            except (OSError, ValueError):
                return frozenset()
            self._revisions[sha256] = frozenset(revision.bundle_sha256 for revision in manifest.revisions)
        return self._revisions[sha256]


def smaller_picture(frame: Frame, width: int) -> tuple[Frame, float]:
    """Reduce a frame to a maximum width; returns it with the scale factor."""
    factor = min(1.0, width / frame.shape[1])
    if factor == 1.0:
        return frame, 1.0
    size_wh = (width, max(1, round(frame.shape[0] * factor)))
    return cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA), factor


def _scaled(region: Region, factor: float) -> Region:
    if isinstance(region, Box):
        return Box(x1=region.x1 * factor, y1=region.y1 * factor, x2=region.x2 * factor, y2=region.y2 * factor)
    first, second, third, fourth = ((x * factor, y * factor) for x, y in region)
    return (first, second, third, fourth)
