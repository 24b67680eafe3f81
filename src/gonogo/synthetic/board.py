"""Draws the board without its chip: laminate, copper, vias, components, silk-screen and traces of handling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from gonogo.synthetic import components
from gonogo.synthetic.canvas import Canvas, Points, grain_window, placed, rectangle, ribbon
from gonogo.synthetic.catalogue import HOLE, LAMINATE, BoardStyle, Component, Material
from gonogo.synthetic.chip import Mount
from gonogo.synthetic.components import Site

TRACE_HEIGHT = 5
CLEARANCE = 3.5


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle on the board, in units."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def size_wh(self) -> tuple[float, float]:
        """Width and height."""
        return self.x2 - self.x1, self.y2 - self.y1

    def meets(self, other: Region, *, gap: float = 0) -> bool:
        """Whether two rectangles are closer than ``gap``."""
        across = self.x1 - gap < other.x2 and other.x1 < self.x2 + gap
        return across and self.y1 - gap < other.y2 and other.y1 < self.y2 + gap

    def spot(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw a random point inside."""
        return float(rng.uniform(self.x1, self.x2)), float(rng.uniform(self.y1, self.y2))

    @classmethod
    def centred(cls, centre_xy: tuple[float, float], size_wh: tuple[float, float]) -> Region:
        """A region of a size around a point."""
        (x, y), (width, height) = centre_xy, size_wh
        return cls(x1=x - width / 2, y1=y - height / 2, x2=x + width / 2, y2=y + height / 2)

    @classmethod
    def around(cls, points: Points, *, margin: float = 0) -> Region:
        """The smallest region around some points, widened by a margin."""
        (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return cls(x1=x1 - margin, y1=y1 - margin, x2=x2 + margin, y2=y2 + margin)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Layout of one board before it is drawn."""

    style: BoardStyle
    region: Region
    mounts: tuple[Mount, ...]
    taken: list[Region] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    traces: list[tuple[Points, float]] = field(default_factory=list)
    vias: list[tuple[float, float]] = field(default_factory=list)

    def claim(self, region: Region, *, gap: float = 0) -> bool:
        """Reserve a region if it is free, and return whether it was."""
        free = not any(region.meets(other, gap=gap) for other in self.taken)
        if free:
            self.taken.append(region)
        return free


def draw_board(plan: Plan, *, scale: float, clutter: float, rng: np.random.Generator) -> Canvas:
    """Draw a populated board with empty places for its chips.

    Args:
        plan: Style, visible region and chip positions; this function fills its lists.
        scale: Pixels per unit.
        clutter: Density of components, 0 to 1.
        rng: Random generator.
    """
    style = plan.style
    for mount in plan.mounts:
        plan.taken.append(Region.around(mount.outline, margin=13))
    _place_components(plan, clutter, rng)
    _fan_out(plan, rng)
    _route_buses(plan, clutter, rng)

    bare = Material(rgb=style.mask_rgb, height=0, gloss=80)
    size_wh = (round(plan.region.size_wh[0] * scale), round(plan.region.size_wh[1] * scale))
    canvas = Canvas.blank(size_wh=size_wh, origin_xy=(plan.region.x1, plan.region.y1), scale=scale, fill=bare)
    _draw_copper(canvas, plan, bare, rng)
    _weave(canvas, rng)
    _draw_vias(canvas, plan)
    _print_silkscreen(canvas, plan, rng)
    _handle(canvas, plan, clutter, rng)
    for site in plan.sites:
        components.draw_component(canvas, site, style, rng)
    return canvas


def _place_components(plan: Plan, clutter: float, rng: np.random.Generator) -> None:
    kinds = list(plan.style.parts)
    weights = np.array([plan.style.parts[kind] for kind in kinds])
    width, height = plan.region.size_wh
    tries = round(width * height / 9000 * (0.7 + 1.5 * clutter))
    for _ in range(tries):
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        x, y = plan.region.spot(rng)
        first = Site(kind=kind, centre_xy=(round(x / 12) * 12, round(y / 12) * 12), turns=int(rng.integers(4)))
        # Small components are placed in rows, as on real boards.
        count = int(rng.integers(1, 5)) if kind in (Component.RESISTOR, Component.CAPACITOR, Component.LED) else 1
        step = (-33.0, 0.0) if first.turns % 2 else (0.0, 33.0)
        for number in range(count):
            centre = (first.centre_xy[0] + number * step[0], first.centre_xy[1] + number * step[1])
            site = replace(first, centre_xy=centre)
            if not plan.claim(Region.centred(centre, site.size_wh), gap=6):
                break
            plan.sites.append(site)


def _fan_out(plan: Plan, rng: np.random.Generator) -> None:
    """Route a trace outwards from every lead of every chip: straight, oblique, straight, via."""
    for mount in plan.mounts:
        style = mount.style
        width = min(5.0, style.lead_width * 0.55)
        spread = rng.uniform(0.25, 0.7)
        for slot in mount.slots:
            outward, along = np.array(slot.outward_xy), np.array([-slot.outward_xy[1], slot.outward_xy[0]])
            start = np.array(slot.root_xy) + outward * style.lead_length
            side = float(np.dot(slot.root_xy, along))
            first = start + outward * (12 + 0.10 * abs(side))
            shift = abs(side) * spread
            second = first + outward * shift + along * shift * np.sign(side)
            last = second + outward * (rng.uniform(6, 26) if rng.random() < 0.6 else rng.uniform(60, 260))
            path = mount(np.array([start, first, second, last]))
            plan.traces.append((path, width))
            plan.vias.append((float(path[-1, 0]), float(path[-1, 1])))
    for site in plan.sites:
        if site.kind in (Component.RESISTOR, Component.CAPACITOR, Component.LED, Component.TANTALUM):
            reach = components.SIZE_WH[site.kind][0] / 2
            for side in (-1, 1):
                if rng.random() < 0.75:
                    run, turn = rng.uniform(8, 30), rng.uniform(-18, 18)
                    local = [
                        (side * (reach - 6), 0),
                        (side * (reach + run), 0),
                        (side * (reach + run + abs(turn)), turn),
                    ]
                    path = site(np.array(local, float))
                    plan.traces.append((path, 4.0))
                    plan.vias.append((float(path[-1, 0]), float(path[-1, 1])))


def _route_buses(plan: Plan, clutter: float, rng: np.random.Generator) -> None:
    """Route groups of parallel traces with oblique bends, away from the chips."""
    keep_out = [Region.around(mount.outline, margin=30) for mount in plan.mounts]
    size = max(plan.region.size_wh)
    for _ in range(round(plan.style.buses * (0.7 + 0.8 * clutter) * 2)):
        x, y = plan.region.spot(rng)
        heading = int(rng.integers(4)) * np.pi / 2
        bend = float(rng.choice([-1, 1])) * rng.uniform(30, 160)
        first = rng.uniform(0.15, 0.5) * size
        spine = np.array([(-size, 0), (0, 0), (abs(bend), bend), (abs(bend) + first, bend), (2 * size, bend + first)])
        spine[4] = (abs(bend) + 2 * size, bend)
        path = placed(spine, (x, y), heading)
        count, pitch, width = int(rng.integers(2, 8)), rng.uniform(8, 11), rng.uniform(3, 4.6)
        dense = np.concatenate([np.linspace(a, b, 40) for a, b in itertools.pairwise(path)])
        hull = Region.around(dense)
        if any(
            _passes(dense, zone, margin=count * pitch / 2) for zone in keep_out if hull.meets(zone, gap=count * pitch)
        ):
            continue
        for number in range(count):
            offset = (number - (count - 1) / 2) * pitch
            # Mitre: at a 45 degree bend, the corner of a parallel trace moves by tan(22.5 degrees) of its offset.
            slip = -offset * np.tan(np.pi / 8) * np.sign(bend)
            shifted = spine + np.array([(0, offset), (slip, offset), (slip, offset), (0, offset), (0, offset)])
            plan.traces.append((placed(shifted, (x, y), heading), width))


def _passes(points: Points, zone: Region, *, margin: float) -> bool:
    inside_x = (points[:, 0] > zone.x1 - margin) & (points[:, 0] < zone.x2 + margin)
    inside_y = (points[:, 1] > zone.y1 - margin) & (points[:, 1] < zone.y2 + margin)
    return bool((inside_x & inside_y).any())


def _draw_copper(canvas: Canvas, plan: Plan, bare: Material, rng: np.random.Generator) -> None:
    copper = Material(rgb=plan.style.copper_rgb, height=TRACE_HEIGHT, gloss=92)
    for _ in range(plan.style.pours):
        x, y = plan.region.spot(rng)
        half_w, half_h = rng.uniform(70, 260, 2)
        canvas.polygon(rectangle(x - half_w, y - half_h, x + half_w, y + half_h, cut=rng.uniform(10, 50)), copper)
    widths: dict[float, list[Points]] = {}
    for path, width in plan.traces:
        widths.setdefault(width, []).append(path)
    for width, paths in widths.items():
        canvas.lines(paths, width + 2 * CLEARANCE, bare)
    for width, paths in widths.items():
        canvas.lines(paths, width, copper)
    for site in plan.sites:
        x, y = site.centre_xy
        half_w, half_h = site.size_wh[0] / 2 + 2, site.size_wh[1] / 2 + 2
        canvas.polygon(rectangle(x - half_w, y - half_h, x + half_w, y + half_h), bare)


def _weave(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw the laminate's glass weave, faintly visible through the mask, and the mask's uneven thickness."""
    height, width = canvas.albedo.shape[:2]
    pitch = 5.5 * canvas.scale
    threads = np.sin(np.arange(width, dtype=np.float32) * (2 * np.pi / pitch))
    cross = np.sin(np.arange(height, dtype=np.float32) * (2 * np.pi / pitch))[:, None]
    tint = 1 + 0.022 * threads * cross + 0.03 * grain_window(24, (width, height), rng)
    tint += 0.016 * grain_window(1, (width, height), rng)
    cv2.multiply(canvas.albedo, cv2.merge([tint] * 3), canvas.albedo, 1, cv2.CV_8U)


def _draw_vias(canvas: Canvas, plan: Plan) -> None:
    ring = Material(rgb=plan.style.copper_rgb, height=9, gloss=110)
    for number, via in enumerate(plan.vias):
        tented = number % 3 == 0
        canvas.disc(via, 6.2, ring if tented else plan.style.finish)
        canvas.disc(via, 2.8, Material(rgb=plan.style.mask_rgb, height=2, gloss=60) if tented else HOLE)


def _print_silkscreen(canvas: Canvas, plan: Plan, rng: np.random.Generator) -> None:
    ink = Material(rgb=plan.style.silk_rgb, height=6, gloss=30)
    for site in plan.sites:
        x, y = site.centre_xy
        half_w, half_h = site.size_wh[0] / 2 + 2.5, site.size_wh[1] / 2 + 2.5
        if site.kind is not Component.TEST_POINT:
            outline = rectangle(x - half_w, y - half_h, x + half_w, y + half_h)
            for corner in range(4) if site.kind is Component.RESISTOR else ():
                ends = (
                    (outline[corner - 1] - outline[corner]) * 0.22,
                    (outline[(corner + 1) % 4] - outline[corner]) * 0.22,
                )
                canvas.line(np.stack([outline[corner] + ends[0], outline[corner], outline[corner] + ends[1]]), 1.2, ink)
            if site.kind is not Component.RESISTOR:
                canvas.line(np.concatenate([outline, outline[:1]]), 1.2, ink)
        name = f"{components.PREFIX[site.kind]}{rng.integers(1, 99)}"
        upright = site.turns % 2
        room = 3.2 * len(name) + 4
        where = (x, y - half_h - room) if upright else (x + half_w + room, y)
        canvas.text(name, where, 8, ink, turns=upright, opacity=0.95)
    for number, mount in enumerate(plan.mounts):
        _frame_chip(canvas, mount, ink, f"U{number + 1}")
    _print_titles(canvas, plan, ink, rng)


def _frame_chip(canvas: Canvas, mount: Mount, ink: Material, name: str) -> None:
    half_w, half_h = mount.style.extent_wh[0] / 2 + 9, mount.style.extent_wh[1] / 2 + 9
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        corner = np.array([(x * (half_w - 16), y * half_h), (x * half_w, y * half_h), (x * half_w, y * (half_h - 16))])
        canvas.line(mount(corner), 1.8, ink)
    mark = mount(np.array([(-half_w - 6, -half_h - 6)], float))[0]
    canvas.disc((float(mark[0]), float(mark[1])), 3.4, ink)
    label = mount(np.array([(half_w - 30, -half_h - 8)], float))[0]
    canvas.text(name, (float(label[0]), float(label[1])), 10, ink)


def _print_titles(canvas: Canvas, plan: Plan, ink: Material, rng: np.random.Generator) -> None:
    """Print the board's name, its revision and a data-matrix label where there is room."""
    names = plan.style.names
    wanted = [(names[int(rng.integers(len(names)))], rng.uniform(13, 22)) for _ in range(3)]
    wanted += [
        (f"REV {'ABCDE'[int(rng.integers(5))]}", 11),
        (f"S/N {rng.integers(10000, 99999)}", 10),
        ("", 34),
        ("", 30),
    ]
    for text, height in wanted:
        half_w = len(text) * height * 0.36 + 4 if text else height / 2 + 4
        for _ in range(6):
            x, y = plan.region.spot(rng)
            room = Region(x1=x - half_w, y1=y - height * 0.7, x2=x + half_w, y2=y + height * 0.7)
            if plan.claim(room, gap=4):
                if text:
                    canvas.text(text, (x, y), height, ink, opacity=0.95)
                else:
                    _data_matrix(canvas, (x, y), height, ink, rng)
                break


def _data_matrix(
    canvas: Canvas, centre_xy: tuple[float, float], size: float, ink: Material, rng: np.random.Generator
) -> None:
    modules = (rng.random((12, 12)) < 0.5).astype(np.uint8)
    modules[:, 0], modules[-1], modules[0], modules[:, -1] = 1, 1, np.arange(12) % 2 == 0, np.arange(12) % 2
    paper = np.pad(1 - modules if sum(ink.rgb) > 380 else modules, 1, constant_values=1 if sum(ink.rgb) > 380 else 0)
    cell = max(1, round(size * canvas.scale / 14))
    picture = np.kron(paper, np.full((cell, cell), 255, np.uint8))
    x, y = (np.asarray(centre_xy) - canvas.origin_xy) * canvas.scale
    canvas.blend(picture, round(x - picture.shape[1] / 2), round(y - picture.shape[0] / 2), ink, opacity=0.95)


def _handle(canvas: Canvas, plan: Plan, clutter: float, rng: np.random.Generator) -> None:
    """Draw scratches in the mask, pen dots and flux residue; equal on good and bad boards, and never on the chip."""
    keep_out = [Region.around(mount.outline, margin=45) for mount in plan.mounts]
    likely = 0.35 + 0.35 * clutter

    def spot() -> tuple[float, float] | None:
        point = plan.region.spot(rng)
        near = np.array([point])
        return None if any(_passes(near, zone, margin=0) for zone in keep_out) else point

    for _ in range(3):
        if rng.random() < likely and (centre := spot()):
            path = placed(_stroke(rng.uniform(20, 45), rng), centre, rng.uniform(0, 2 * np.pi))
            pale = Material(
                rgb=tuple((np.array(plan.style.copper_rgb) * 0.5 + 90).astype(int).tolist()), height=1, gloss=60
            )
            canvas.polygon(ribbon(path, 1.8 * np.sin(np.linspace(0.15, np.pi - 0.15, len(path)))), pale)
    for _ in range(2):
        if rng.random() < likely * 0.6 and (centre := spot()):
            rgb = ((190, 40, 46), (40, 60, 170), (236, 232, 120), (240, 240, 236))[int(rng.integers(4))]
            canvas.disc(centre, rng.uniform(5, 9), Material(rgb=rgb, height=4, gloss=120))
    if rng.random() < likely and (centre := spot()):
        _residue(canvas, centre, rng)


def _stroke(half_length: float, rng: np.random.Generator) -> Points:
    along = np.linspace(-half_length, half_length, 24)
    return np.stack([along, rng.uniform(-8, 8) * (along / half_length) ** 2 + rng.uniform(-5, 5) * along / 40], axis=1)


def _residue(canvas: Canvas, centre_xy: tuple[float, float], rng: np.random.Generator) -> None:
    size = max(8, round(rng.uniform(40, 80) * canvas.scale))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    field_ = 1 - np.hypot(x, y) + 0.22 * grain_window(6, (size, size), rng)
    mask = (np.clip(field_ * 3, 0, 1) * 255).astype(np.uint8)
    left, top = (round(value) for value in (np.asarray(centre_xy) - canvas.origin_xy) * canvas.scale - size / 2)
    canvas.blend(mask, left, top, Material(rgb=LAMINATE.rgb, gloss=150), opacity=rng.uniform(0.12, 0.3))
