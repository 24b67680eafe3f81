"""Draw the pictures of the docs that are no screenshots: ``make docs-pictures`` writes them to docs/images.

The rooms are those of the import contract in pyproject.toml, so the picture shows what is enforced.
"""

from __future__ import annotations

import tomllib
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.config import Depth

ROOT = Path(__file__).resolve().parents[1]
ROW, GAP, WIDTH = 34, 10, 980
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1d2733}.note{font-size:12px;fill:#5a6b7d}"
    ".room{fill:#e7eef6;stroke:#8fa6bf}.line{fill:#e3f2e6;stroke:#7fae8a}.lab{fill:#fdf0dd;stroke:#cfa566}"
)
WAY = (
    ("trigger", "PLC, folder, HTTP", "line"),
    ("camera", "frame, or JPEG bytes", "line"),
    ("health check", "dark, blurred, frozen", "line"),
    ("region", "cut and resized once", "line"),
    ("network", "score and map, one pass", "line"),
    ("operating point", "go, review, no-go", "line"),
    ("ledger", "committed before the answer", "line"),
    ("answer", "fault after the deadline", "line"),
)
BACK = (
    ("review", "a person decides", "room"),
    ("data set", "new labels", "lab"),
    ("train", "evidence, out of fold", "lab"),
    ("certify", "calibrate, once", "lab"),
    ("bundle", "sealed", "room"),
)

SELECTS = (
    ("trigger", "its field product"),
    ("code on the part", "its group product"),
    ("person", "station page, command"),
)
JUDGES = (("chip", "loaded, selected"), ("pill", "loaded"), ("board", "unloaded, memory_mb"))


def layers() -> list[list[str]]:
    """The rooms of the import contract, upper ones first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(each["layers"] for each in contracts if each["type"] == "layers")
    return [[room.strip(" ()") for room in row.split("|")] for row in rows]


def rooms() -> str:
    """One row for each layer; a room imports only rooms of the rows below it."""
    rows = layers()
    shapes = []
    for number, row in enumerate(rows):
        top = 30 + number * (ROW + GAP)
        width = (WIDTH - GAP * (len(row) - 1)) / len(row)
        for place, room in enumerate(row):
            shapes.append(_box(place * (width + GAP), top, width, room, "", "room"))
    note = (
        '<text class="note" x="0" y="16">A room imports only rooms of the rows below its own, never the reverse.</text>'
    )
    return _svg(WIDTH, 30 + len(rows) * (ROW + GAP), [note, *shapes])


def frame() -> str:
    """The way of a frame through the line, and the way back of what people decide."""
    shapes = []
    rows = (
        ("On the line, without torch", WAY[:4]),
        ("", WAY[4:]),
        ("Back in the lab: the next inspector learns from what people decide", BACK),
    )
    for row, (title, steps) in enumerate(rows):
        top = 30 + row * 84 + (26 if row == 2 else 0)
        width = (WIDTH - 22 * (len(steps) - 1)) / len(steps)
        shapes.append(f'<text class="note" x="0" y="{top - 10}">{title}</text>')
        for number, (name, note, kind) in enumerate(steps):
            left = number * (width + 22)
            shapes.append(_box(left, top, width, name, note, kind, height=62))
            if number:
                arrow = f"M{left - 19:.0f} {top + 31} h15 m-6 -5 l6 5 l-6 5"
                shapes.append(f'<path d="{arrow}" fill="none" stroke="#5a6b7d"/>')
    return _svg(WIDTH, 300, shapes)


def tracking() -> str:
    """A belt with the camera, the parts on their way, the gate, and the second sensor."""
    belt, camera, gate, left, right = 96, 150, 690, 40, 940
    shapes = [
        f'<rect class="room" x="{left}" y="{belt}" width="{right - left}" height="22" rx="11"/>',
        _box(camera - 60, 20, 120, "camera", "trigger, count", "line", height=44),
        f'<path d="M{camera} 64V{belt}" stroke="#7fae8a" stroke-width="2" stroke-dasharray="4 3"/>',
        _box(gate - 75, 20, 150, "sensor at the gate", "part seen, count", "line", height=44),
        f'<path d="M{gate} 64V{belt}" stroke="#7fae8a" stroke-width="2" stroke-dasharray="4 3"/>',
        f'<rect x="{gate - 26}" y="{belt - 22}" width="52" height="22" fill="#2f6fb0" opacity="0.18"/>',
        f'<text class="note" x="{gate - 36}" y="{belt - 8}" text-anchor="end">distance ± tolerance</text>',
        _box(gate - 75, 190, 150, "second sensor", "reject confirmed", "lab", height=44),
        f'<path d="M{gate} {belt + 24}V188" stroke="#c0392b" stroke-width="3"/>',
        f'<text class="note" x="{gate + 12}" y="160">fire: not go, no verdict, unknown part</text>',
        f'<text class="note" x="{gate + 60}" y="{belt - 8}">exactly one trigger, and go: passes</text>',
        f'<text class="note" x="{left}" y="150">encoder, or clocks of a shift register →</text>',
    ]
    for place, mark in ((232, "○"), (330, "●"), (428, "✕"), (526, "●"), (624, "●"), (790, "●"), (880, "●")):
        color = {"○": "#5a6b7d", "●": "#2f8f4e", "✕": "#c0392b"}[mark]
        shapes.append(
            f'<text x="{place}" y="{belt + 17}" text-anchor="middle" style="font-size:17px;fill:{color}">{mark}</text>'
        )
    shapes.append(f'<text class="note" x="{left}" y="226">○ no verdict yet, ● go, ✕ to be rejected</text>')
    return _svg(WIDTH, 246, shapes)


def changeover() -> str:
    """Who selects the product, what judges the part, and what is recorded."""
    arrow = '<path d="M{x1} {y1} L{x2} {y2}" fill="none" stroke="#5a6b7d"/>'
    arrow += '<circle cx="{x2}" cy="{y2}" r="3" fill="#5a6b7d"/>'
    columns = (
        (0, "selects the product", [(name, note, "room") for name, note in SELECTS]),
        (270, "names the product", [("selected: chip", "kept across a restart", "line")]),
        (540, "judges the part", [(f"{name}.inspector", note, "line") for name, note in JUDGES]),
        (810, "keeps the record", [("ledger", "change, verdict, SHA-256", "lab")]),
    )
    shapes, middles = [], []
    for left, title, boxes in columns:
        shapes.append(f'<text class="note" x="{left}" y="16">{title}</text>')
        tops = [30 + 70 * row + 35 * (3 - len(boxes)) for row in range(len(boxes))]
        middles.append([(left, top + 26) for top in tops])
        shapes += [_box(left, top, 170, *box, height=52) for top, box in zip(tops, boxes, strict=True)]
    for before, after in pairwise(middles):
        for start in before:
            for end in after:
                shapes.append(arrow.format(x1=start[0] + 170, y1=start[1], x2=end[0] - 5, y2=end[1]))
    return _svg(WIDTH, 240, shapes)


def cameras() -> str:
    """One part, two views, two verdicts, and the verdict on the part."""
    arrow = '<path d="M{0} {1}H{2}" stroke="#8fa6bf" stroke-width="2" marker-end="url(#tip)"/>'
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#8fa6bf"/></marker></defs>'
    )
    shapes = [tip, _box(20, 76, 110, "part p018", "one trial", "room", height=48)]
    for top, camera, score, verdict in ((20, "top", "score 0.4", "go"), (132, "side", "score 3.1", "no-go")):
        centre, turn = top + 24, 100
        shapes += [
            f'<path d="M130 {turn}L196 {centre}" stroke="#8fa6bf" stroke-width="2" marker-end="url(#tip)"/>',
            _box(200, top, 150, f"camera {camera}", "one picture", "line", height=48),
            arrow.format(350, centre, 406),
            _box(410, top, 170, "its bundle", score, "lab", height=48),
            arrow.format(580, centre, 636),
            _box(640, top, 100, verdict, "", "room", height=48),
            f'<path d="M740 {centre}L806 {turn}" stroke="#8fa6bf" stroke-width="2" marker-end="url(#tip)"/>',
        ]
    shapes.append(_box(810, 76, 150, "no-go", "the worst view decides", "line", height=48))
    return _svg(WIDTH, 200, shapes)


def depth() -> bytes:
    """A part with a spot of 100 counts in 65,536, as its upper byte shows it and with levels; PNG."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:150, :300]
    raw = 30_000 + 200 * columns / 300 + rng.normal(0, 12, (150, 300))
    raw[(columns - 190) ** 2 + (rows - 70) ** 2 < 400] += 100
    counts = raw.astype(np.uint16)
    shown = [images.decode(images.encode_png(counts)), images.levelled(counts, Depth(black=29_800, white=30_450))]
    gap = np.full((150, 12, 3), 255, np.uint8)
    return images.encode_png(np.hstack([shown[0], gap, shown[1]]))


def _box(left: float, top: float, width: float, name: str, note: str, kind: str, *, height: int = ROW) -> str:
    middle, centre = left + width / 2, top + height / 2
    said = [("", name, centre - 6 if note else centre + 5), (' class="note"', note, centre + 14)]
    texts = [
        f'<text{style} x="{middle:.0f}" y="{y:.0f}" text-anchor="middle">{escape(text)}</text>'
        for style, text, y in said
        if text
    ]
    box = f'<rect class="{kind}" x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="5"/>'
    return box + "".join(texts)


def _svg(width: int, height: int, shapes: list[str]) -> str:
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def main() -> None:
    """Write all pictures."""
    (ROOT / "docs/images/rooms.svg").write_text(rooms())
    (ROOT / "docs/images/frame.svg").write_text(frame())
    (ROOT / "docs/images/tracking.svg").write_text(tracking())
    (ROOT / "docs/images/changeover.svg").write_text(changeover())
    (ROOT / "docs/images/cameras.svg").write_text(cameras())
    (ROOT / "docs/images/depth.png").write_bytes(depth())


if __name__ == "__main__":
    main()
