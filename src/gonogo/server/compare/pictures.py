"""A picture with the heat map of any inspector of the workspace, for looking at two of them side by side."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from gonogo import images
from gonogo.config import Settings
from gonogo.errors import GonogoError
from gonogo.heatmap import overlay
from gonogo.images import Photograph
from gonogo.images.geometry import scaled_region
from gonogo.inspector import Inspector
from gonogo.server.inspectors import OpenBundle
from gonogo.server.language import N_, RefusedError
from gonogo.server.parts.pictures import smaller_picture
from gonogo.signing import NOT_REQUIRED

WIDTH_PX = 320
_CACHE_BYTES = 32_000_000
_INSPECTORS = 2


class InspectorPictures:
    """Draws and caches pictures; judges one at a time, on one thread."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._held = 0
        self._inspectors: OrderedDict[str, Inspector] = OrderedDict()
        self._judging = threading.Lock()  # inspectors are not thread-safe
        self._remembering = threading.Lock()

    def jpeg(self, opened: OpenBundle, photograph: Photograph, name: str) -> bytes:
        """Draw a picture as JPEG with the region and the heat map of an inspector.

        Args:
            opened: The inspector.
            photograph: The picture.
            name: Identifies the picture's content.

        Raises:
            RefusedError: the inspector cannot be opened.
        """
        key = (opened.sha256, name)  # the outline has the colour of the verdict, so limits count
        with self._remembering:
            known = self._drawn.get(key)
            if known is not None:
                self._drawn.move_to_end(key)
                return known
        with self._judging:
            inspector = self._open(opened)
            photograph.depth = inspector.recipe.depth
            verdict = inspector.inspect(photograph)
        small, factor = smaller_picture(photograph.frame, WIDTH_PX)
        region = None if verdict.region is None else scaled_region(verdict.region, factor, factor)
        drawn = overlay(small, replace(verdict, region=region), inspector.heat_scale, inspector.recipe.zones)
        data = images.encode_jpeg(drawn, quality=85)
        with self._remembering:
            self._held += len(data) - len(self._drawn.pop(key, b""))
            self._drawn[key] = data
            while self._held > _CACHE_BYTES:
                self._held -= len(self._drawn.popitem(last=False)[1])
        return data

    def _open(self, opened: OpenBundle) -> Inspector:
        known = self._inspectors.get(opened.sha256)
        if known is not None:
            self._inspectors.move_to_end(opened.sha256)
            return known
        try:
            made = Inspector.load(opened.path, machine=Settings(threads=1), replay=False, policy=NOT_REQUIRED)
        except GonogoError as error:
            raise RefusedError(N_("%(name)s cannot be opened: %(why)s"), name=opened.name, why=str(error)) from error
        self._inspectors[opened.sha256] = made
        while len(self._inspectors) > _INSPECTORS:
            self._inspectors.popitem(last=False)
        return made
