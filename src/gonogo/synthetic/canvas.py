"""A canvas: colour, height and gloss of a surface at every pixel, before shading.

Because colour and relief are drawn together, one shading pass renders embossed traces, bevels, highlights and shadows,
so none of them has to be painted.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.array_types import Float32, Float64, Int32, UInt8
from gonogo.synthetic.catalogue import Material, Rgb

Points = Float64[np.ndarray, "points 2"]

_SUBPIXEL_BITS = 4
_GRAIN_SIZE = 512


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Layers of a drawing; positions are in units and mapped to pixels by ``origin_xy`` and ``scale``."""

    albedo: UInt8[np.ndarray, "height width 3"]
    """Colour under white light, sRGB."""
    relief: UInt8[np.ndarray, "height width 3"]
    """Height, gloss and metal, see `Material`."""
    origin_xy: tuple[float, float]
    """Position of the top left corner of the top left pixel, in units."""
    scale: float
    """Pixels per unit."""

    @classmethod
    def blank(cls, *, size_wh: tuple[int, int], origin_xy: tuple[float, float], scale: float, fill: Material) -> Canvas:
        """Create a canvas of one material."""
        shape = (size_wh[1], size_wh[0], 3)
        canvas = cls(
            albedo=np.empty(shape, np.uint8), relief=np.empty(shape, np.uint8), origin_xy=origin_xy, scale=scale
        )
        for layer, value in canvas._layers(fill):
            cv2.rectangle(layer, (0, 0), size_wh, value, -1)  # ten times faster than broadcasting three channels
        return canvas

    def copy(self) -> Canvas:
        """Copy the canvas."""
        return Canvas(albedo=self.albedo.copy(), relief=self.relief.copy(), origin_xy=self.origin_xy, scale=self.scale)

    def polygon(self, points: Points, material: Material) -> None:
        """Fill a polygon given in units."""
        where = [self._fixed_point(points)]
        for layer, value in self._layers(material):
            cv2.fillPoly(layer, where, value, cv2.LINE_AA, _SUBPIXEL_BITS)

    def line(self, points: Points, width: float, material: Material) -> None:
        """Draw an open polyline with round ends, ``width`` in units."""
        self.lines([points], width, material)

    def lines(self, paths: Sequence[Points], width: float, material: Material) -> None:
        """Draw many polylines at once."""
        where, thickness = [self._fixed_point(points) for points in paths], max(1, round(width * self.scale))
        for layer, value in self._layers(material):
            cv2.polylines(layer, where, False, value, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def disc(self, centre_xy: tuple[float, float], radius: float, material: Material) -> None:
        """Fill a circle given in units."""
        (centre,) = self._fixed_point(np.array([centre_xy])).tolist()
        size = max(1, round(radius * self.scale * 2**_SUBPIXEL_BITS))
        for layer, value in self._layers(material):
            cv2.circle(layer, centre, size, value, -1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def text(
        self,
        text: str,
        centre_xy: tuple[float, float],
        height: float,
        ink: Material,
        *,
        turns: int = 0,
        opacity: float = 1,
    ) -> None:
        """Print text centred at a point: ``height`` in units, rotated counter-clockwise by quarter turns."""
        mask = np.rot90(letters(text, max(5, round(height * self.scale))), turns)
        x, y = (np.asarray(centre_xy) - self.origin_xy) * self.scale
        self.blend(mask, round(x - mask.shape[1] / 2), round(y - mask.shape[0] / 2), ink, opacity=opacity)

    def blend(
        self, mask: UInt8[np.ndarray, "rows columns"], left: int, top: int, ink: Material, *, opacity: float = 1
    ) -> None:
        """Blend ink over the canvas by a pixel mask; the height of the relief is kept."""
        height, width = self.albedo.shape[:2]
        x1, y1, x2, y2 = max(0, left), max(0, top), min(width, left + mask.shape[1]), min(height, top + mask.shape[0])
        if x1 >= x2 or y1 >= y2:
            return
        share = mask[y1 - top : y2 - top, x1 - left : x2 - left, None] * np.float32(opacity / 255)
        colour, gloss = self.albedo[y1:y2, x1:x2], self.relief[y1:y2, x1:x2, 1:2]
        colour[:] = colour + share * (np.array(ink.rgb, np.float32) - colour) + 0.5
        gloss[:] = gloss + share * (np.float32(ink.gloss) - gloss) + 0.5

    def _layers(self, material: Material) -> tuple[tuple[UInt8[np.ndarray, "height width 3"], Rgb], ...]:
        return (self.albedo, material.rgb), (self.relief, (material.height, material.gloss, material.metal))

    def _fixed_point(self, points: Points) -> Int32[np.ndarray, "points 2"]:
        # In OpenCV, integers are pixel centres; here they are pixel corners.
        pixels = (points - self.origin_xy) * self.scale - 0.5
        fixed: Int32[np.ndarray, "points 2"] = np.rint(pixels * 2**_SUBPIXEL_BITS).astype(np.int32)
        return fixed


def rectangle(x1: float, y1: float, x2: float, y2: float, *, cut: float = 0) -> Points:
    """Outline of a rectangle whose corners are cut off by ``cut``."""
    if not cut:
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], float)
    outline = [(x1 + cut, y1), (x2 - cut, y1), (x2, y1 + cut), (x2, y2 - cut)]
    outline += [(x2 - cut, y2), (x1 + cut, y2), (x1, y2 - cut), (x1, y1 + cut)]
    return np.array(outline, float)


def placed(points: Points, centre_xy: tuple[float, float], angle_rad: float) -> Points:
    """Rotate points about the origin (clockwise in the picture, as y points down) and move them to a centre."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + centre_xy, float)


def ribbon(path: Points, widths: Float64[np.ndarray, " points"]) -> Points:
    """Outline of a stroke of varying width along a path."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * widths[:, None] / 2
    return np.concatenate([path + normal, (path - normal)[::-1]])


@functools.lru_cache(maxsize=4096)
def letters(text: str, height_px: int, weight: int = 400) -> UInt8[np.ndarray, "rows columns"]:
    """Coverage of a line of text, cropped to its ink; uses OpenCV's built-in font."""
    size = max(6, round(height_px * 1.4))
    page = np.zeros((2 * size, size * (len(text) + 1)), np.uint8)
    cv2.putText(page, text, (size // 2, round(1.5 * size)), (255,), _font(), size, weight)
    rows, columns = np.flatnonzero(page.any(axis=1)), np.flatnonzero(page.any(axis=0))
    if not rows.size:
        return page[:1, :1]
    return page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@functools.cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


@functools.cache
def grain(sigma_px: float) -> Float32[np.ndarray, "512 512"]:
    """Tileable noise with zero mean and unit variance, smooth over ``sigma_px``; deterministic."""
    noise = np.random.default_rng(round(sigma_px * 1000)).standard_normal((_GRAIN_SIZE, _GRAIN_SIZE), dtype=np.float32)
    pad = int(4 * sigma_px) + 1
    noise = np.asarray(cv2.GaussianBlur(np.pad(noise, pad, mode="wrap"), (0, 0), sigma_px), np.float32)
    noise = noise[pad:-pad, pad:-pad]
    noise -= noise.mean()
    return np.asarray(noise / noise.std(), np.float32)


def grain_window(
    sigma_px: float, size_wh: tuple[int, int], rng: np.random.Generator
) -> Float32[np.ndarray, "height width"]:
    """A window of `grain` at a random position, tiled if it is larger than the tile."""
    x, y = (int(value) for value in rng.integers(0, _GRAIN_SIZE, 2))
    rows = (np.arange(size_wh[1]) + y) % _GRAIN_SIZE
    columns = (np.arange(size_wh[0]) + x) % _GRAIN_SIZE
    return grain(sigma_px)[rows[:, None], columns]
