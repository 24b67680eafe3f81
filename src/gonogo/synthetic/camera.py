"""Camera model: pose, dirt on the lens, blur, noise and JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gonogo import images
from gonogo.array_types import Float64, UInt8
from gonogo.schema import Frame
from gonogo.synthetic.canvas import Points
from gonogo.synthetic.difficulty import Difficulty
from gonogo.synthetic.shading import Picture, Window

Homography = Float64[np.ndarray, "3 3"]

VIEW_WH = (640.0, 480.0)
"""Units visible at scale 1, along the tighter side of the picture."""


@dataclass(frozen=True, kw_only=True)
class SceneCamera:
    """Camera parameters of one picture: pose, dirt, blur, noise and compression."""

    angle_rad: float
    zoom: float
    tilt_xy: tuple[float, float]
    """Perspective: relative change of scale from one edge of the picture to the other."""
    shift_xy: tuple[float, float]
    """Position of the first chip, as a share of the free space around the centre, -1 to 1."""
    specks: int
    hairs: int
    blur_sigma: float
    """Blur in pixels of a 640 x 480 picture."""
    read_noise: float
    shot_noise: float
    quality: int

    @classmethod
    def draw(cls, level: Difficulty, rng: np.random.Generator) -> SceneCamera:
        """Draw random parameters; the difficulty affects all of them."""
        tilt = level.between(0.01, 0.10)
        return cls(
            angle_rad=float(np.deg2rad(rng.uniform(-1, 1) * level.between(2, 24))),
            zoom=float(np.exp(rng.uniform(-1, 1) * level.between(0.04, 0.22))) * 1.05,
            tilt_xy=(float(rng.uniform(-tilt, tilt)), float(rng.uniform(-tilt, tilt))),
            shift_xy=_pair(rng.uniform(-1, 1, 2) * level.between(0.25, 0.95)),
            specks=int(rng.poisson(level.between(1, 14))),
            hairs=int(rng.poisson(level.between(0.1, 1.4))),
            blur_sigma=float(rng.uniform(0.35, level.between(0.6, 1.25))),
            read_noise=float(rng.uniform(0.5, level.between(1.0, 3.2))),
            shot_noise=float(rng.uniform(0.5, level.between(1.2, 4.0))),
            quality=int(rng.integers(round(level.between(92, 68)), 96)),
        )

    def homography(self, outline: Points, size_wh: tuple[int, int], *, margin: float) -> Homography:
        """Compute the homography from board units to picture pixels, with all chips inside the picture.

        Args:
            outline: Board points that must be inside the picture, in units; the scale is reduced if necessary.
            size_wh: The picture in pixels.
            margin: Free space at each edge, in pixels.
        """
        width, height = size_wh
        scale = min(width / VIEW_WH[0], height / VIEW_WH[1]) * self.zoom
        cos, sin = np.cos(self.angle_rad) * scale, np.sin(self.angle_rad) * scale
        turn = np.array([(cos, -sin, 0), (sin, cos, 0), (0, 0, 1)])
        lean = np.array([(1, 0, 0), (0, 1, 0), (self.tilt_xy[0] / width, self.tilt_xy[1] / height, 1)])
        target_x, target_y = outline.mean(axis=0).tolist()
        centred = lean @ turn @ np.array([(1, 0, -target_x), (0, 1, -target_y), (0, 0, 1)])
        low, high = project(centred, outline).min(axis=0), project(centred, outline).max(axis=0)
        free = np.array([width, height]) - 2 * margin
        fit = min(1.0, float((free / (high - low)).min()))
        room = (free - (high - low) * fit) / 2
        x, y = (np.array([width, height]) - (low + high) * fit) / 2 + np.array(self.shift_xy) * room
        return np.asarray(np.array([(fit, 0, x), (0, fit, y), (0, 0, 1)]) @ centred, float)

    def finish(self, ideal: Picture, rng: np.random.Generator) -> bytes:
        """Add noise to an ideal picture, round it and encode it as JPEG."""
        noisy = ideal * np.float32(255)
        np.clip(noisy, 0, 255, out=noisy)
        spread = np.sqrt(noisy * np.float32(self.shot_noise**2 / 255) + np.float32(self.read_noise**2))
        noisy += spread * _normal(noisy.shape, rng)
        frame: Frame = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
        return images.encode_jpeg(frame, quality=self.quality)


@dataclass(frozen=True, kw_only=True)
class Dirt:
    """Dust and hairs at random positions over the whole picture."""

    cover: UInt8[np.ndarray, "height width"]
    tone: UInt8[np.ndarray, "height width"]

    @classmethod
    def draw(cls, camera: SceneCamera, view_wh: tuple[int, int], *, scale: float, rng: np.random.Generator) -> Dirt:
        """Draw the dirt for a camera."""
        columns, rows = view_wh
        cover, tone = np.zeros((rows, columns), np.uint8), np.full((rows, columns), 220, np.uint8)
        for _ in range(camera.specks):
            centre = (round(rng.uniform(0, columns) * 16), round(rng.uniform(0, rows) * 16))
            long, short = (max(6, round(axis * scale * 16)) for axis in rng.uniform(0.7, 2.6, 2).tolist())
            angle, opacity = float(rng.uniform(0, 180)), int(rng.uniform(70, 220))
            cv2.ellipse(cover, centre, (long, short), angle, 0, 360, (opacity,), -1, cv2.LINE_AA, 4)
            if rng.random() < 0.3:
                cv2.ellipse(tone, centre, (long + 24, short + 24), angle, 0, 360, (36,), -1, cv2.LINE_8, 4)
        for _ in range(camera.hairs):
            heading = (
                rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, 30)) + np.linspace(0, rng.uniform(-2, 2), 30)
            )
            path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * rng.uniform(1, 3) * scale
            path += (rng.uniform(0, columns), rng.uniform(0, rows))
            fixed = np.rint(path * 16).astype(np.int32)
            cv2.polylines(cover, [fixed], False, (int(rng.uniform(90, 190)),), max(1, round(scale)), cv2.LINE_AA, 4)
        return cls(cover=cv2.GaussianBlur(cover, (0, 0), 0.6), tone=tone)

    def over(self, picture: Picture, window: Window) -> Picture:
        """Apply the dirt to a picture or to a window of it."""
        cover = self.cover[window.slices]
        if not cover.any():
            return picture
        share = cv2.cvtColor(cover, cv2.COLOR_GRAY2RGB).astype(np.float32) * np.float32(1 / 255)
        tone = cv2.cvtColor(self.tone[window.slices], cv2.COLOR_GRAY2RGB).astype(np.float32) * np.float32(1 / 255)
        return np.asarray(picture + share * (tone - picture), np.float32)


def project(homography: Homography, points: Points) -> Points:
    """Project board points by a homography to continuous picture pixels."""
    mapped = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ homography.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], float)


def between_pixels(homography: Homography, *, origin_xy: tuple[float, float], scale: float) -> Homography:
    """Convert a homography to OpenCV's pixel indices, from a canvas to the picture."""
    half = 0.5
    from_canvas = np.array(
        [(1 / scale, 0, origin_xy[0] + half / scale), (0, 1 / scale, origin_xy[1] + half / scale), (0, 0, 1)]
    )
    to_index = np.array([(1, 0, -half), (0, 1, -half), (0, 0, 1)])
    return np.asarray(to_index @ homography @ from_canvas, float)


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Picture:
    """Nearly normal noise as the sum of four random bytes, in a fifth of the time of exact normal numbers.

    Eight bytes are added at once, in the 16-bit lanes of a 64-bit word.
    """
    count = int(np.prod(shape))
    words = rng.integers(0, 2**64, size=2 * -(-count // 4), dtype=np.uint64)
    lanes = np.uint64(0x00FF00FF00FF00FF)
    pairs = (words & lanes) + ((words >> np.uint64(8)) & lanes)
    half = len(pairs) // 2
    total = (pairs[:half] + pairs[half:]).view(np.uint16)[:count].astype(np.float32)
    total -= np.float32(510)
    total *= np.float32(1 / np.sqrt(4 * (256**2 - 1) / 12))
    return total.reshape(shape)


def _pair(values: np.ndarray) -> tuple[float, float]:
    first, second = values.tolist()
    return first, second
