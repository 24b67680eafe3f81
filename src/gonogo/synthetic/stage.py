"""Renders a scene to an ideal picture, with and without its defect; the mask is the difference."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.schema import Mask
from gonogo.synthetic.board import Plan, Region, draw_board
from gonogo.synthetic.camera import Dirt, Homography, SceneCamera, between_pixels, project
from gonogo.synthetic.canvas import Canvas
from gonogo.synthetic.catalogue import BOARDS, EPOXY, BoardType, ChipType, Defect, Material
from gonogo.synthetic.chip import ChipMark, Mount, draw_chip, draw_pads
from gonogo.synthetic.defects import Strength, mar_body, pin_fault, stronger
from gonogo.synthetic.difficulty import Difficulty
from gonogo.synthetic.shading import Light, Picture, Window, shade

VISIBLE_CHANGE = 4 / 255
"""Smallest change of a channel, before noise and JPEG, for a pixel to belong to the mask."""
MIN_MASK_SHARE = 1e-4
"""Smallest share of the picture that a defect must change; fainter defects are made more visible."""
DETAIL = 2
"""Pixels of the chip's canvas per pixel of the board's canvas."""
_PLAINER_TRIES = 6
_DETAIL_MARGIN = 30


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Independent random generators, so that nothing depends on the label."""

    fate: np.random.Generator
    layout: np.random.Generator
    board: np.random.Generator
    chip: np.random.Generator
    flaw: np.random.Generator
    light: np.random.Generator
    camera: np.random.Generator
    dirt: np.random.Generator
    noise: np.random.Generator

    @classmethod
    def of(cls, seed: int, part_index: int) -> Streams:
        """Create the generators of one part; they are unique to the part and the series."""
        names = list(cls.__dataclass_fields__)
        children = np.random.SeedSequence(seed, spawn_key=(part_index,)).spawn(len(names))
        return cls(**{name: np.random.default_rng(child) for name, child in zip(names, children, strict=True)})


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All parameters of a picture except its defect."""

    board: BoardType
    chip: ChipType
    mounts: tuple[Mount, ...]
    """Positions of the chips; the first chip is the one to judge."""
    chips: int
    marks: tuple[ChipMark, ...]
    epoxy: Material
    camera: SceneCamera
    light: Light
    homography: Homography
    size_wh: tuple[int, int]
    """The picture's width and height in pixels."""
    enlarged: int
    """Supersampling factor of the rendering."""
    scale: float
    """Rendered pixels per unit at zoom 1."""

    @property
    def view_wh(self) -> tuple[int, int]:
        """Rendered width and height, rounded up to a multiple of 4 and cropped afterwards."""
        width, height = (-(-side * self.enlarged // 4) * 4 for side in self.size_wh)
        return width, height


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """Layers shared by the intact and the defective picture of a part, drawn once."""

    scene: Scene
    view: Canvas
    """The bare board in the camera's view, before shading."""
    details: tuple[Canvas, ...]
    """Surroundings of each chip at twice the resolution, with its pads."""
    chip_seeds: tuple[int, ...]
    dirt: Dirt


def _set_stage(scene: Scene, streams: Streams, level: Difficulty) -> _Stage:
    width, height = scene.view_wh
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    region = Region.around(project(np.linalg.inv(scene.homography), corners), margin=4)
    plan = Plan(style=BOARDS[scene.board], region=region, mounts=scene.mounts)
    board = draw_board(plan, scale=scene.scale, clutter=level.difficulty, rng=streams.board)
    return _Stage(
        scene=scene,
        view=_warped(board, scene.homography, scene.view_wh),
        details=tuple(_detail(board, mount, scene) for mount in scene.mounts),
        chip_seeds=tuple(streams.chip.integers(2**32, size=len(scene.mounts)).tolist()),
        dirt=Dirt.draw(scene.camera, scene.view_wh, scale=scene.scale, rng=streams.dirt),
    )


def expose(scene: Scene, streams: Streams, level: Difficulty, defect: Defect | None) -> tuple[Picture, Mask | None]:
    """Render the ideal picture of a part, and the mask of its defect.

    The intact part is rendered only around the chip, as far as a defect and its shadow reach plus a rim, because
    shadows and blur are wrong at the edges of a window.
    """
    stage = _set_stage(scene, streams, level)
    whole = Window(left=0, top=0, right=scene.view_wh[0], bottom=scene.view_wh[1])
    intact = _populate(stage, None, None, streams.flaw)
    if defect is None:
        return _reduced(_photograph(stage, intact, whole), scene), None
    near, core = _surroundings(scene, margin=84), _surroundings(scene, margin=36)
    before = _photograph(stage, intact, near)[core.within(near)]
    strength = Strength(contrast=level.between(1.0, 0.34), size=level.between(1.9, 0.6))
    flaw_state = streams.flaw.bit_generator.state
    for _ in range(_PLAINER_TRIES):
        streams.flaw.bit_generator.state = flaw_state
        flawed = _photograph(stage, _populate(stage, defect, strength, streams.flaw), whole)
        clean = flawed.copy()
        clean[core.slices] = before
        ideal = _reduced(flawed, scene)
        red, green, blue = cv2.split(cv2.absdiff(ideal, _reduced(clean, scene)))
        mask: Mask = np.maximum(np.maximum(red, green), blue) > VISIBLE_CHANGE
        if mask.mean() >= MIN_MASK_SHARE:
            break
        strength = stronger(strength)
    return ideal, mask


def _reduced(picture: Picture, scene: Scene) -> Picture:
    """Crop a rendered picture and average it down to the requested size."""
    width, height = scene.size_wh
    cut = picture[: height * scene.enlarged, : width * scene.enlarged]
    if scene.enlarged == 1:
        return cut
    return np.asarray(cv2.resize(cut, scene.size_wh, interpolation=cv2.INTER_AREA), np.float32)


def _surroundings(scene: Scene, *, margin: float) -> Window:
    """Window around the judged chip with a margin in units; edges are multiples of 4."""
    outline = project(scene.homography, scene.mounts[0].outline)
    left, top = (np.maximum(outline.min(axis=0) - margin * scene.scale, 0) // 4 * 4).astype(int).tolist()
    far = np.ceil((outline.max(axis=0) + margin * scene.scale) / 4) * 4
    right, bottom = np.minimum(far, scene.view_wh).astype(int).tolist()
    return Window(left=left, top=top, right=right, bottom=bottom)


def _populate(stage: _Stage, defect: Defect | None, strength: Strength | None, rng: np.random.Generator) -> Canvas:
    """Draw the board with its chips in the camera's view, before shading."""
    layers, scene = stage.view.copy(), stage.scene
    for number, mount in enumerate(scene.mounts):
        detail = stage.details[number].copy()
        if scene.chips:
            flaw, grade = (defect, strength) if number == 0 and strength else (None, Strength(contrast=1, size=1))
            fault = pin_fault(flaw, mount.style, grade, rng)
            draw_chip(
                detail,
                mount,
                scene.marks[number],
                missing=fault.missing,
                bent=fault.bent,
                epoxy=scene.epoxy,
                rng=np.random.default_rng(stage.chip_seeds[number]),
            )
            mar_body(detail, mount.style, flaw, grade, rng)
        _lay(detail, mount, scene, layers)
    return layers


def _photograph(stage: _Stage, layers: Canvas, window: Window) -> Picture:
    """Apply light, dirt and blur to a window, at rendering size."""
    scene = stage.scene
    albedo, relief = layers.albedo[window.slices], layers.relief[window.slices]
    lit = shade(albedo, relief, scene.light, scale=scene.scale, view_wh=scene.view_wh, window=window)
    blurred = cv2.GaussianBlur(stage.dirt.over(lit, window), (0, 0), scene.camera.blur_sigma * scene.scale)
    return np.asarray(np.clip(blurred, 0, 1, out=blurred), np.float32)


def _detail(board: Canvas, mount: Mount, scene: Scene) -> Canvas:
    """Draw the board around one chip at twice the resolution, in chip coordinates, with its pads."""
    scale = scene.scale * DETAIL
    half_w, half_h = mount.style.extent_wh[0] / 2 + _DETAIL_MARGIN, mount.style.extent_wh[1] / 2 + _DETAIL_MARGIN
    size_wh = (round(2 * half_w * scale), round(2 * half_h * scale))
    canvas = Canvas.blank(size_wh=size_wh, origin_xy=(-half_w, -half_h), scale=scale, fill=EPOXY)
    cos, sin = np.cos(mount.angle_rad), np.sin(mount.angle_rad)
    to_board = np.array([(cos, -sin, mount.centre_xy[0]), (sin, cos, mount.centre_xy[1]), (0, 0, 1)])
    to_pixels = np.array(
        [
            (board.scale, 0, -board.origin_xy[0] * board.scale),
            (0, board.scale, -board.origin_xy[1] * board.scale),
            (0, 0, 1),
        ]
    )
    matrix = between_pixels(to_pixels @ to_board, origin_xy=canvas.origin_xy, scale=scale)[:2]
    for source, target in ((board.albedo, canvas.albedo), (board.relief, canvas.relief)):
        cv2.warpAffine(
            source,
            matrix,
            size_wh,
            dst=target,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    draw_pads(canvas, mount, BOARDS[scene.board])
    return canvas


def _warped(canvas: Canvas, homography: Homography, size_wh: tuple[int, int]) -> Canvas:
    matrix = between_pixels(homography, origin_xy=canvas.origin_xy, scale=canvas.scale)
    albedo, relief = (
        cv2.warpPerspective(layer, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for layer in (canvas.albedo, canvas.relief)
    )
    return Canvas(albedo=albedo, relief=relief, origin_xy=(0, 0), scale=1)


def _lay(detail: Canvas, mount: Mount, scene: Scene, layers: Canvas) -> None:
    """Warp a chip's canvas onto the picture's layers."""
    cos, sin = np.cos(mount.angle_rad), np.sin(mount.angle_rad)
    to_board = np.array([(cos, -sin, mount.centre_xy[0]), (sin, cos, mount.centre_xy[1]), (0, 0, 1)])
    homography = scene.homography @ to_board
    half = -np.asarray(detail.origin_xy)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
    window = project(homography, corners)
    left, top = np.maximum(np.floor(window.min(axis=0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(window.max(axis=0)), scene.view_wh).astype(int).tolist()
    shifted = np.array([(1, 0, -left), (0, 1, -top), (0, 0, 1)]) @ homography
    matrix = between_pixels(shifted, origin_xy=detail.origin_xy, scale=detail.scale)
    for source, target in ((detail.albedo, layers.albedo), (detail.relief, layers.relief)):
        patch = target[top:bottom, left:right].copy()
        cv2.warpPerspective(
            source,
            matrix,
            (right - left, bottom - top),
            dst=patch,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        target[top:bottom, left:right] = patch
