"""Whether the bundles of a station's cameras were certified together, for exactly these cameras."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.station.models import LoadedBundle


def not_together(loaded: Mapping[str, LoadedBundle]) -> str:
    """Return why a part must not be judged with these bundles; empty if it may.

    Args:
        loaded: The bundle of each camera, by the camera's name.
    """
    certified = [each for each in loaded.values() if each.cameras]
    if not certified:
        return ""
    names = ", ".join(sorted(loaded))
    for camera, each in loaded.items():
        if each.part is None:
            return f"{each.name}, which judges camera {camera}, is not certified together with the other bundles"
        if set(each.part.cameras) != set(loaded):
            cameras = ", ".join(each.part.cameras)
            return f"{each.name} is certified for parts seen by {cameras}, and this station has {names}"
        if camera not in each.cameras:
            return f"{each.name} is certified for camera {', '.join(each.cameras)}, and judges camera {camera}"
    if len({(each.part.id, each.part.id or each.sha256) for each in certified if each.part is not None}) > 1:
        return "the bundles of the cameras were not certified together: run gonogo bundle together"
    return ""


def without_promise(loaded: Mapping[str, LoadedBundle]) -> str:
    """Return a warning about bundles that know of no cameras and judge a part of several; empty otherwise."""
    if len(loaded) < 2 or any(each.cameras for each in loaded.values()):
        return ""
    return (
        f"Parts are judged from {len(loaded)} cameras without a promise: the bundle was certified for parts with one "
        "picture. Import the pictures with --camera-regex, train and certify again."
    )
