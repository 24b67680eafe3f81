"""Search space for tuning a classical ROI config: random templates, neighbours of a config, and smaller pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import ValidationError

from gonogo.roi.config import ClassicalConfig
from gonogo.roi.steps import (
    BlackHat,
    Blur,
    Canny,
    Channel,
    Clahe,
    Close,
    Fill,
    Gradient,
    Median,
    Open,
    Step,
    ThresholdAdaptive,
    ThresholdFixed,
    ThresholdOtsu,
    TopHat,
)

Steps = tuple[Step, ...]

CHANNELS = ("red", "green", "blue", "brightest", "darkest", "chroma")
FAST_MEDIANS = (3, 5)
"""Largest median kernel in the search. In OpenCV, larger ones cost thirty times as much, more than all other steps
together; they can be configured by hand."""
_MOVES: dict[str, tuple[float, ...]] = {
    "size": (-10, -4, -2, 2, 4, 10),
    "level": (-20, -6, 6, 20),
    "offset": (-20, -6, 6, 20),
    "low": (-30, 30),
    "high": (-60, 60),
}


def draw_template(rng: np.random.Generator, side_px: int) -> ClassicalConfig:
    """Draw a random config: a template, then its parameters."""
    structures = (_body, _body, _outlines, _plain, _edges, _texture)
    steps = structures[rng.integers(len(structures))](rng)
    return ClassicalConfig.model_validate(
        {
            "side_px": side_px,
            "regions": str(rng.choice(["contours", "components"])),
            "shape": str(rng.choice(["quad", "quad", "box"])),
            "steps": steps,
        }
    )


def neighbours(recipe: ClassicalConfig) -> Iterator[ClassicalConfig]:
    """Yield every config one move away: one parameter changed, one step removed or added, shape or regions swapped."""
    content = recipe.model_dump()
    for key, values in (("shape", ("quad", "box")), ("regions", ("contours", "components"))):
        for value in values:
            if content[key] != value:
                yield recipe.model_copy(update={key: value})
    for steps in _moved(recipe.steps):
        try:
            yield ClassicalConfig.model_validate({**content, "steps": steps})
        except ValidationError:  # a parameter out of range, or a step without its mask
            continue


def halved(recipe: ClassicalConfig) -> ClassicalConfig | None:
    """Halve the side of the reduced picture and all kernels; ``None`` if that is not possible."""
    content = recipe.model_dump()
    for step in content["steps"]:
        if "size" in step:
            step["size"] = max(3, round((step["size"] - 1) / 4) * 2 + 1)
    try:
        return ClassicalConfig.model_validate({**content, "side_px": recipe.side_px // 2})
    except ValidationError:  # too small a picture
        return None


def _moved(steps: Steps) -> Iterator[list[Any]]:
    for number, step in enumerate(steps):
        content = step.model_dump()
        before, after = [*steps[:number]], [*steps[number + 1 :]]
        for key, moves in _MOVES.items():
            if key in content and not isinstance(step, Median):
                yield from ([*before, {**content, key: content[key] + move}, *after] for move in moves)
        if isinstance(step, Channel):
            yield from ([*before, Channel(channel=one), *after] for one in CHANNELS if one != step.channel)  # type: ignore[arg-type]
        if isinstance(step, Median):
            yield from ([*before, Median(size=size), *after] for size in FAST_MEDIANS if size != step.size)
        yield [*before, *after]
        for added in (Open(size=7), Close(size=7), Median(size=5), Fill()):
            yield [*before, step, added, *after]


def _body(rng: np.random.Generator) -> Steps:
    """A body darker or brighter than its surroundings."""
    return (_channel(rng), *_smooth(rng), _threshold(rng), *_cleaned(rng))


def _outlines(rng: np.random.Generator) -> Steps:
    """A region with many edges, such as leads and print."""
    gradient = Gradient(size=_odd(rng, 3, 7))
    return (_channel(rng), *_smooth(rng), gradient, *_smooth(rng), _bright(rng), *_merged(rng))


def _plain(rng: np.random.Generator) -> Steps:
    """A region with fewer edges than its surroundings."""
    gradient = Gradient(size=_odd(rng, 3, 9))
    level = ThresholdFixed(keep="dark", level=_odd(rng, 5, 99))
    return (_channel(rng), *_smooth(rng), gradient, *_smooth(rng), level, *_cleaned(rng))


def _edges(rng: np.random.Generator) -> Steps:
    """A region with many edges, by Canny's method."""
    low = int(rng.integers(20, 160))
    return (_channel(rng), *_smooth(rng), Canny(low=low, high=low + int(rng.integers(20, 250))), *_merged(rng))


def _texture(rng: np.random.Generator) -> Steps:
    """Details smaller than a kernel, brighter or darker than their surroundings."""
    hat = (TopHat if rng.random() < 0.5 else BlackHat)(size=_odd(rng, 9, 99))
    return (_channel(rng), *_smooth(rng), hat, _bright(rng), *_merged(rng))


def _channel(rng: np.random.Generator) -> Step:
    return Channel.model_validate({"channel": str(rng.choice(CHANNELS))})


def _smooth(rng: np.random.Generator) -> Steps:
    kind = rng.integers(5)
    if kind == 0:
        return (Clahe(clip=float(rng.choice([1.0, 2.0, 4.0]))),)
    if kind == 1:
        return (Blur(size=_odd(rng, 3, 15)),)
    return (Median(size=int(rng.choice(FAST_MEDIANS))),) if kind < 4 else ()


def _threshold(rng: np.random.Generator) -> Step:
    keep = str(rng.choice(["dark", "bright"]))
    kind = rng.integers(3)
    if kind == 0:
        return ThresholdOtsu.model_validate({"keep": keep, "offset": int(rng.integers(-40, 41))})
    if kind == 1:
        return ThresholdFixed.model_validate({"keep": keep, "level": int(rng.integers(20, 230))})
    values = {"keep": keep, "size": _odd(rng, 31, 127), "offset": int(rng.integers(-10, 31))}
    return ThresholdAdaptive.model_validate(values)


def _bright(rng: np.random.Generator) -> Step:
    if rng.random() < 0.5:
        return ThresholdOtsu(keep="bright", offset=int(rng.integers(-30, 31)))
    return ThresholdFixed(keep="bright", level=int(rng.integers(10, 120)))


def _cleaned(rng: np.random.Generator) -> Steps:
    """Close over marks and defects, and separate touching objects."""
    steps: list[Step] = []
    if rng.random() < 0.6:
        steps.append(Close(size=_odd(rng, 3, 21)))
    if rng.random() < 0.5:
        steps.append(Fill())
    if rng.random() < 0.8:
        steps.append(Open(size=_odd(rng, 3, 41)))
    return tuple(steps)


def _merged(rng: np.random.Generator) -> Steps:
    """Merge lines into a region, and remove thinner structures."""
    fill: Steps = (Fill(),) if rng.random() < 0.6 else ()
    return (Close(size=_odd(rng, 5, 25)), *fill, Open(size=_odd(rng, 9, 61)))


def _odd(rng: np.random.Generator, least: int, greatest: int) -> int:
    """Draw an odd number, log-uniformly."""
    return int(np.exp(rng.uniform(np.log(least), np.log(greatest + 1)))) // 2 * 2 + 1
