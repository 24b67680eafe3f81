"""Shading of colour and relief: diffuse light, highlights, cast shadows, ambient occlusion, uneven illumination."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.array_types import Float32, UInt8
from gonogo.synthetic.difficulty import Difficulty

Picture = Float32[np.ndarray, "height width 3"]
Plane = Float32[np.ndarray, "height width"]

_LINEAR = ((np.arange(256) / 255) ** 2).astype(np.float32)
"""sRGB approximated by a square, whose inverse is a square root."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of whole pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for indexing a picture."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, other: Window) -> tuple[slice, slice]:
        """Slices for the same pixels in a picture of another window."""
        rows = slice(self.top - other.top, self.bottom - other.top)
        return rows, slice(self.left - other.left, self.right - other.left)


@dataclass(frozen=True, kw_only=True)
class Light:
    """One lamp and ambient light."""

    azimuth_rad: float
    """Direction of the lamp, clockwise from the right in the picture."""
    slant: float
    """Sine of the lamp's angle from the vertical."""
    hot_xy: tuple[float, float]
    """Position of the lamp's reflection in a flat mirror, as shares of the picture's width and height."""
    glare: float
    """Brightness of that reflection."""
    ambient: float
    exposure: float
    cast_rgb: tuple[float, float, float]
    """Gain of each channel: the lamp's colour relative to the camera's white balance."""
    field: Float32[np.ndarray, "3 4"]
    """Coarse map of the brightness over the picture."""
    vignette: float

    @classmethod
    def draw(cls, level: Difficulty, rng: np.random.Generator) -> Light:
        """Draw a random lamp; difficulty increases slant, unevenness and glare."""
        spread = level.between(0.05, 0.28)
        return cls(
            azimuth_rad=float(rng.uniform(0, 2 * np.pi)),
            slant=float(rng.uniform(0.35, level.between(0.5, 0.72))),
            hot_xy=(float(rng.uniform(-0.1, 1.1)), float(rng.uniform(-0.1, 1.1))),
            glare=float(rng.uniform(0.1, level.between(0.35, 1.2))),
            ambient=float(rng.uniform(0.32, 0.48)),
            exposure=float(np.exp(rng.normal(0, level.between(0.04, 0.16)))),
            cast_rgb=_triple(np.exp(rng.normal(0, level.between(0.015, 0.06), 3))),
            field=(1 + spread * rng.uniform(-1, 1, (3, 4))).astype(np.float32),
            vignette=float(rng.uniform(0.1, level.between(0.22, 0.45))),
        )


def shade(
    albedo: UInt8[np.ndarray, "height width 3"],
    relief: UInt8[np.ndarray, "height width 3"],
    light: Light,
    *,
    scale: float,
    view_wh: tuple[int, int],
    window: Window,
) -> Picture:
    """Render the picture of an ideal camera, or a window of it.

    Shadows are computed at a half and at a quarter of the size, so a window whose edges are multiples of 4 gives the
    same pixels as the whole picture, except near its edges.

    Args:
        albedo: Colour under white light, sRGB.
        relief: Height, gloss and metal.
        light: The lamp.
        scale: Pixels per unit, so that shadows have the same length at any size.
        view_wh: Width and height of the whole picture, for the lamp's field.
        window: Pixels of the whole picture that the layers cover.

    Returns:
        sRGB as float32, 0 to 1, slightly more at glare.
    """
    height = relief[..., 0].astype(np.float32) * np.float32(0.25 * scale)  # pixels above the board
    slope_x, slope_y = _slopes(height)
    lean = np.sqrt(1 / (1 + slope_x**2 + slope_y**2))
    normal_x, normal_y = -slope_x * lean, -slope_y * lean
    diffuse = _diffuse(normal_x, normal_y, lean, height, light, scale=scale)

    tight, wide = _highlights(normal_x, normal_y, light, view_wh, window)
    gloss = relief[..., 1].astype(np.float32) * np.float32(1 / 255)
    metal = relief[..., 2].astype(np.float32) * np.float32(1 / 255)
    # A metal has no diffuse colour; it reflects the room with a tint.
    body = diffuse * (1 - metal * np.float32(0.62)) + metal * wide * np.float32(0.62) * (0.35 + 0.65 * diffuse)
    shine = gloss**2 * tight * (0.25 + 0.75 * diffuse) * np.float32(1.1 * light.glare)
    shine += gloss * wide * np.float32(0.05 + 0.10 * light.glare)

    uneven = _lamp_field(light, view_wh, window)
    tinted = (body + metal * shine * np.float32(1.6)) * uneven
    white = (1 - metal) * shine * uneven
    planes = []
    for channel, gain in zip(cv2.split(albedo), light.cast_rgb, strict=True):
        planes.append(np.sqrt((cv2.LUT(channel, _LINEAR) * tinted + white) * np.float32(gain)))
    return np.asarray(cv2.merge(planes), np.float32)


def _diffuse(normal_x: Plane, normal_y: Plane, lean: Plane, height: Plane, light: Light, *, scale: float) -> Plane:
    """Diffuse light at every pixel, from the lamp and from the room."""
    lamp_x, lamp_y = light.slant * np.cos(light.azimuth_rad), light.slant * np.sin(light.azimuth_rad)
    lamp_z = np.sqrt(1 - light.slant**2)
    facing = np.maximum(normal_x * np.float32(lamp_x) + normal_y * np.float32(lamp_y) + lean * np.float32(lamp_z), 0)
    lit = facing * np.float32((1 - light.ambient) / lamp_z) * _sunlit(height, light, scale=scale)
    diffuse: Plane = lit + np.float32(light.ambient) * _openness(height, scale=scale)
    return diffuse


def _slopes(height: Plane) -> tuple[Plane, Plane]:
    soft = cv2.GaussianBlur(height, (0, 0), 0.9)
    gain = 0.125 * 0.55  # Sobel's weight of 8, and a relief softer than the true one
    slope_x, slope_y = (cv2.Sobel(soft, cv2.CV_32F, *axes, ksize=3, scale=gain) for axes in ((1, 0), (0, 1)))
    return np.asarray(slope_x, np.float32), np.asarray(slope_y, np.float32)


def _highlights(
    normal_x: Plane, normal_y: Plane, light: Light, view_wh: tuple[int, int], window: Window
) -> tuple[Plane, Plane]:
    """Reflection of the lamp (narrow) and of the bright room around it (wide), 0 to 1.

    The lamp is near, so the mirror direction varies over the picture and level surfaces glare around one hot spot.
    """
    width, height = view_wh
    step = np.float32(0.9 / max(view_wh))
    want_x = (np.arange(window.left, window.right, dtype=np.float32) - light.hot_xy[0] * width) * step
    want_y = ((np.arange(window.top, window.bottom, dtype=np.float32) - light.hot_xy[1] * height) * step)[:, None]
    # Away from the hot spot, a surface must tilt to reflect the lamp.
    distance = (normal_x + want_x) ** 2 + (normal_y + want_y) ** 2
    return np.exp(distance * np.float32(-1 / (2 * 0.13**2))), 0.25 + 1.1 * np.exp(
        distance * np.float32(-1 / (2 * 0.5**2))
    )


def _sunlit(height: Plane, light: Light, *, scale: float) -> Plane:
    """1 in full light, less in cast shadows; computed at half size because shadows are soft."""
    small = cv2.resize(height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    rise = np.float32(np.sqrt(1 - light.slant**2) / light.slant)
    shadow = np.zeros_like(small)
    reach = 26 * scale * light.slant
    for step in (0.15, 0.35, 0.6, 1.0):
        distance = reach * step
        move = np.array(
            [(1, 0, np.cos(light.azimuth_rad) * distance / 2), (0, 1, np.sin(light.azimuth_rad) * distance / 2)]
        )
        towards_lamp = cv2.warpAffine(
            small,
            move,
            small.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.maximum(shadow, towards_lamp - small - np.float32(distance) * rise, out=shadow)
    dark = np.minimum(shadow * np.float32(0.4 / scale), 1)
    soft = cv2.GaussianBlur(dark, (0, 0), 1.6 * scale)
    return np.asarray(1 - 0.8 * cv2.resize(soft, height.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _openness(height: Plane, *, scale: float) -> Plane:
    """Ambient light that reaches a point; less beside tall components."""
    small = cv2.resize(height, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    around = cv2.GaussianBlur(small, (0, 0), 2.2 * scale)
    blurred = cv2.resize(around, height.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(1 - np.clip((blurred - height) * np.float32(0.05 / scale), 0, 0.55), np.float32)


def _lamp_field(light: Light, view_wh: tuple[int, int], window: Window) -> Plane:
    width, height = view_wh
    field = cv2.resize(light.field, view_wh, interpolation=cv2.INTER_CUBIC)[window.slices]
    x = np.linspace(-1, 1, width, dtype=np.float32)[window.left : window.right]
    y = np.linspace(-1, 1, height, dtype=np.float32)[window.top : window.bottom, None]
    fall = 1 - np.float32(light.vignette) * (x**2 + y**2) * np.float32(0.5)
    return np.asarray(field * fall * np.float32(1.25 * light.exposure), np.float32)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (values / values.mean()).tolist()
    return red, green, blue
