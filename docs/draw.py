"""Draw the pictures of docs/architecture.md: ``make docs-pictures`` writes docs/images/rooms.svg and frame.svg.

The rooms are those of the import contract in pyproject.toml, so the picture shows what is enforced.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

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
    """Write both pictures."""
    (ROOT / "docs/images/rooms.svg").write_text(rooms())
    (ROOT / "docs/images/frame.svg").write_text(frame())


if __name__ == "__main__":
    main()
