"""What a destination receives, and how it says that it could not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gonogo.errors import GonogoError, LedgerError
from gonogo.ledger.frames import Frames
from gonogo.results.document import Document, Result, moment_of

_TYPES = ((b"BM", "bmp"), (b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"II*\x00", "tif"), (b"MM\x00*", "tif"))


class DeliveryError(GonogoError):
    """A batch was not delivered, or only its beginning.

    Args:
        message: What was expected, what was found; no secrets.
        delivered: Number of results at the start of the batch that were acknowledged.
        refused: Whether the receiver answered and refused, so that a person must look.
        malformed: Whether it refused only the content of the next result.
    """

    def __init__(self, message: str, *, delivered: int = 0, refused: bool = False, malformed: bool = False) -> None:
        super().__init__(message)
        self.delivered, self.refused, self.malformed = delivered, refused, malformed


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One document, its bytes, and the pictures that go with it."""

    document: Document
    content: bytes = field(repr=False)
    frames: Frames | None = None
    """Where its pictures are; ``None`` if none are delivered."""
    missing: Callable[[str], None] = lambda digest: None
    """Called with the hash of each picture that is missing or damaged."""

    @property
    def name(self) -> str:
        """Path without suffix, relative to a destination; made of day and result id alone."""
        return f"{moment_of(self.document):%Y-%m-%d}/{self.document.result_id}"

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Yield relative path and bytes of each stored picture, one at a time; missing ones are counted and skipped."""
        if self.frames is None or not isinstance(self.document, Result):
            return
        for number, view in enumerate(self.document.views, start=1):
            if view.frame_sha256 is None:
                continue
            try:
                data = self.frames.read(view.frame_sha256)
            except LedgerError:
                self.missing(view.frame_sha256)
                continue
            suffix = next((suffix for start, suffix in _TYPES if data.startswith(start)), "bin")
            yield f"{self.name}.{number}.{suffix}", data


class Destination(Protocol):
    """Where results go. It is used by one thread."""

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Deliver results in order; returns once all are acknowledged.

        Raises:
            DeliveryError: not all were acknowledged. Those that follow the acknowledged ones are delivered again.
        """

    def close(self) -> None:
        """Release connections; the next delivery opens them again."""
