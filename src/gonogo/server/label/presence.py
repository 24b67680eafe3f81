"""Tracks who has which picture open, so that two people do not label the same one."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

PRESENT_S = 20.0
"""After this time without a request, a page no longer holds a picture."""


@dataclass(frozen=True, kw_only=True)
class _OpenPage:
    file: str
    next: str
    who: str
    at: float


class Presence:
    """The open label pages, kept in memory."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, _OpenPage]] = defaultdict(dict)
        self._lock = threading.Lock()

    def look(self, dataset: str, place: str, who: str, file: str, following: str) -> tuple[dict[str, str], list[str]]:
        """Record the picture that a browser shows, and reserve the next one for it unless it is already taken.

        Returns:
            Other people's open pictures, and every picture that is open or reserved elsewhere.
        """
        now = time.monotonic()
        with self._lock:
            pages = self._open[dataset]
            for other in [key for key, each in pages.items() if now - each.at > PRESENT_S]:
                del pages[other]
            others = [each for key, each in pages.items() if key != place]
            held = {name for each in others for name in (each.file, each.next) if name}
            pages[place] = _OpenPage(file=file, next="" if following in held else following, who=who, at=now)
            return {each.file: each.who for each in others if each.file}, sorted(held)
