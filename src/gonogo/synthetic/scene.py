"""Renders one part from a seed and a part number, with its ground truth."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from gonogo import images
from gonogo.errors import InputError
from gonogo.schema import Box, Frame, Label, Mask
from gonogo.synthetic.camera import VIEW_WH, SceneCamera, project
from gonogo.synthetic.canvas import Points
from gonogo.synthetic.catalogue import CHIPS, EPOXY, BoardType, ChipType, Defect, Material, scaled_board
from gonogo.synthetic.chip import Mount, make_mark
from gonogo.synthetic.difficulty import Difficulty
from gonogo.synthetic.shading import Light
from gonogo.synthetic.stage import Scene, Streams, expose

LOT_SIZE = 5
"""Number of parts in a lot, which is one panel of boards."""
_EDGE_PX = 6


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A picture and its ground truth."""

    part_index: int
    jpeg: bytes
    """The encoded picture."""
    board: BoardType
    chip: ChipType
    chips: int
    """Number of chips on the board: 0, 1 or 2; only a picture with one chip has a label and a box."""
    box: Box | None
    """Tight box around body and leads of the intact chip, in frame pixels."""
    quad: tuple[tuple[float, float], ...] | None
    """Corners of the chip (body and leads), clockwise from its top left, in frame pixels."""
    label: Label | None
    defect: Defect | None
    mask: Mask | None
    """Pixels that the defect changed; ``None`` for a good part."""

    @property
    def part(self) -> str:
        """The part's name."""
        return f"part-{self.part_index:06d}"

    @property
    def lot(self) -> str:
        """The lot's name; `LOT_SIZE` consecutive parts share it, and the code printed on the chip."""
        return f"lot-{self.part_index // LOT_SIZE:05d}"

    @functools.cached_property
    def frame(self) -> Frame:
        """The picture, decoded from `jpeg`."""
        return images.decode(self.jpeg, name=self.part)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Composition of a series of parts; choices are uniformly distributed."""

    bad: float = 0.5
    """Share of the boards with one chip that are bad."""
    without_chip: float = 0.02
    with_two_chips: float = 0.02
    defects: tuple[Defect, ...] = tuple(Defect)
    boards: tuple[BoardType, ...] = tuple(BoardType)
    chips: tuple[ChipType, ...] = tuple(ChipType)

    def __post_init__(self) -> None:
        shares = (self.bad, self.without_chip, self.with_two_chips, self.without_chip + self.with_two_chips)
        if min(shares) < 0 or max(shares) > 1 or not (self.defects and self.boards and self.chips):
            raise InputError(
                f"expected shares from 0 to 1 with a sum of at most 1, and at least one choice of each; found {self}."
            )


def render_scene(
    part_index: int,
    *,
    seed: int = 1,
    difficulty: float = 0.5,
    size_wh: tuple[int, int] = (640, 480),
    mix: Mix | None = None,
) -> Rendering:
    """Render one part; the same arguments always give the same bytes.

    Args:
        part_index: Which part, from 0.
        seed: Random seed of the series.
        difficulty: 0 to 1, see `Difficulty`.
        size_wh: Width and height of the picture in pixels, at least 64 each.
        mix: Share of bad parts, and the boards, chips and defects to choose from.

    Raises:
        InputError: A number is out of range.
    """
    mix = mix or Mix()
    fate = Streams.of(seed, part_index).fate
    roll, bad, kind = fate.random(), fate.random() < mix.bad, mix.defects[int(fate.integers(len(mix.defects)))]
    chips = 0 if roll < mix.without_chip else 2 if roll > 1 - mix.with_two_chips else 1
    defect = kind if bad and chips == 1 else None
    return render_with(
        part_index, defect=defect, chips=chips, seed=seed, difficulty=difficulty, size_wh=size_wh, mix=mix
    )


def render_with(
    part_index: int,
    *,
    defect: Defect | None,
    chips: int = 1,
    seed: int = 1,
    difficulty: float = 0.5,
    size_wh: tuple[int, int] = (640, 480),
    mix: Mix | None = None,
) -> Rendering:
    """Render one part with a given defect, or without; board, light and noise do not depend on it.

    Args:
        part_index: Index of the part, from 0.
        defect: Defect of the chip; ``None`` for a good one. Needs ``chips=1``.
        chips: Number of chips on the board: 0, 1 or 2.
        seed: Random seed of the series.
        difficulty: 0 to 1, see `Difficulty`.
        size_wh: Width and height of the picture in pixels, at least 64 each.
        mix: The boards and chips to choose from.

    Raises:
        InputError: A number is out of range.
    """
    mix = mix or Mix()
    if part_index < 0 or seed < 0 or min(size_wh) < 64 or chips not in (0, 1, 2) or (defect and chips != 1):
        raise InputError(
            f"expected part and seed from 0, at least 64 x 64 pixels, 0 to 2 chips and a defect only on a single one; "
            f"found part {part_index}, seed {seed}, {size_wh[0]} x {size_wh[1]}, {chips} chips, defect {defect}."
        )
    streams, level = Streams.of(seed, part_index), Difficulty(difficulty=difficulty)
    scene = _compose(streams, level, mix, chips=chips, size_wh=size_wh, seed=seed, lot=part_index // LOT_SIZE)
    ideal, mask = expose(scene, streams, level, defect)
    outline, silhouette = (
        project(scene.homography, points) / scene.enlarged
        for points in (scene.mounts[0].outline, scene.mounts[0].silhouette)
    )
    return Rendering(
        part_index=part_index,
        jpeg=scene.camera.finish(ideal, streams.noise),
        board=scene.board,
        chip=scene.chip,
        chips=chips,
        box=_tight(silhouette) if chips == 1 else None,
        quad=tuple((float(x), float(y)) for x, y in outline) if chips == 1 else None,
        label=None if chips != 1 else Label.BAD if defect else Label.GOOD,
        defect=defect,
        mask=mask,
    )


def _tight(points: Points) -> Box:
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def _compose(
    streams: Streams, level: Difficulty, mix: Mix, *, chips: int, size_wh: tuple[int, int], seed: int, lot: int
) -> Scene:
    board, chip, mounts = _lay_out(streams.layout, level, mix, chips=chips)
    # Small pictures are rendered larger and averaged down, so that lines are never thinner than a pixel.
    enlarged = max(1, int(np.ceil(0.6 / min(size_wh[0] / VIEW_WH[0], size_wh[1] / VIEW_WH[1]))))
    large_wh = size_wh[0] * enlarged, size_wh[1] * enlarged
    scale = min(large_wh[0] / VIEW_WH[0], large_wh[1] / VIEW_WH[1])
    camera = SceneCamera.draw(level, streams.camera)
    outlines = np.concatenate([mount.outline for mount in mounts])
    # The lot's code is a year and a week; the rest of the print depends on the product.
    code = f"{20 + lot % 7}{1 + (lot * 17) % 52:02d}"
    product = np.random.default_rng((seed, list(BoardType).index(board), list(ChipType).index(chip)))
    contrast = float(streams.chip.uniform(0.55, 1))
    gloss = round(EPOXY.gloss * streams.chip.uniform(0.6, 1.6))
    tone = scaled_board(EPOXY.rgb, streams.chip.uniform(0.75, 1.25))
    return Scene(
        board=board,
        chip=chip,
        mounts=mounts,
        chips=chips,
        marks=tuple(make_mark(mount.style, code, contrast, product) for mount in mounts),
        epoxy=Material(rgb=tone, height=EPOXY.height, gloss=gloss),
        camera=camera,
        light=Light.draw(level, streams.light),
        homography=camera.homography(outlines, large_wh, margin=_EDGE_PX * scale),
        size_wh=size_wh,
        enlarged=enlarged,
        scale=scale,
    )


def _lay_out(
    rng: np.random.Generator, level: Difficulty, mix: Mix, *, chips: int
) -> tuple[BoardType, ChipType, tuple[Mount, ...]]:
    """Choose board, chip and positions of the chips; the first chip is the one to judge."""
    board, chip = mix.boards[int(rng.integers(len(mix.boards)))], mix.chips[int(rng.integers(len(mix.chips)))]
    style = CHIPS[chip]
    turned = rng.random() < level.difficulty
    slack = np.deg2rad(rng.normal(0, level.between(0.3, 1.2)))
    first = Mount(style=style, centre_xy=(0.0, 0.0), angle_rad=float(slack + turned * np.pi / 2))
    if chips < 2:
        return board, chip, (first,)
    other = CHIPS[mix.chips[int(rng.integers(len(mix.chips)))]]
    direction = rng.uniform(0, 2 * np.pi)
    clear = (max(style.extent_wh) + max(other.extent_wh)) / 2 + rng.uniform(16, 50)
    apart = clear / max(abs(np.cos(direction)), abs(np.sin(direction)))
    centre = (float(np.cos(direction) * apart), float(np.sin(direction) * apart))
    return board, chip, (first, Mount(style=other, centre_xy=centre, angle_rad=float(np.deg2rad(rng.normal(0, 1)))))
