"""Encodes a picture in the format that its file's name asks for."""

from __future__ import annotations

from pathlib import Path

from gonogo.errors import InputError
from gonogo.images.codec import encode_jpeg, encode_png
from gonogo.schema import Frame


def encode_as(picture: Frame, path: Path, *, option: str) -> bytes:
    """Encode a picture as PNG or JPEG.

    Args:
        picture: uint8, height x width x 3.
        path: The file that is going to be written.
        option: Name of the option that gave the path, for the message.

    Raises:
        InputError: The name ends in something else than ``.png`` or ``.jpg``.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        return encode_png(picture)
    if suffix in (".jpg", ".jpeg"):
        return encode_jpeg(picture)
    raise InputError(f"{option} {path}: expected a name ending in .png or .jpg, found {suffix or 'no ending'}.")
