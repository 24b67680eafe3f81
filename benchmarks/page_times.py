"""How long every page takes with many parts: ``python benchmarks/page_times.py [--parts 100000] [--visits 40]``.

Fills a ledger, serves it in a process of its own, fetches every GET route of the route table that is no stream as the
administrator, and prints the median and the 95 % quantile of each in milliseconds, the slowest last.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
from streams import log_in, prepare

from gonogo.dataset import Sample, write_metadata
from gonogo.images import encode_png
from gonogo.ledger import Action, Ledger, VerdictRecord, View
from gonogo.progress import track
from gonogo.schema import Label, State
from gonogo.server import Workspace
from gonogo.server.jobs import Asked, Phase, Status, write_status
from gonogo.server.recipes import Effort
from gonogo.server.routes import PICTURE, ROUTES

STREAMS = ("/station/events",)
LENT = ("/review/{ticket}/picture.jpg", "/review/{ticket}/nearest", "/taught/{number}/picture.jpg")
"""Need a part in hand, or an inspector; `gonogo.server.pictures` is timed by the picture of a part."""


def main() -> None:
    """Fill, serve, fetch, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=100_000)
    parser.add_argument("--visits", type=int, default=40)
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where to fill; memory spares the fsyncs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        space = Workspace.open(Path(folder) / "plant")
        prepare(space)
        fill(space, arguments.parts)
        hand_over(space)
        command = [sys.executable, "-m", "gonogo", "serve", str(space.root), "--port", str(arguments.port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            times = measure(f"http://127.0.0.1:{arguments.port}", arguments.visits)
        finally:
            server.terminate()
            server.wait(timeout=20)
    for path, durations in sorted(times.items(), key=lambda item: float(np.quantile(item[1], 0.95))):
        median, slow = np.quantile(durations, (0.5, 0.95))
        print(f"{path:32s} median {median:6.1f} ms   p95 {slow:6.1f} ms")  # noqa: T201


def fill(space: Workspace, parts: int) -> None:
    """Every tenth part doubtful, half of those decided, one fault in a hundred."""
    rng = np.random.default_rng(3)
    with Ledger.open(space.ledger) as ledger:
        frame = ledger.frames.put(encode_png(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)))
        for number in track(range(parts), "recording"):
            row = ledger.append_verdict(part(number, frame))
            if number % 20 == 0 and row.record.state is State.REVIEW:
                ledger.append_action(Action(action="review", who="anna", about=row.seq, label=Label.GOOD))


def hand_over(space: Workspace) -> None:
    """A data set of 10,000 pictures, the one that the route table names, and a finished training run on it."""
    root = space.datasets / PICTURE["name"]
    (root / PICTURE["file"]).parent.mkdir(parents=True)
    frame = np.random.default_rng(3).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    (root / PICTURE["file"]).write_bytes(encode_png(frame))
    others = [f"images/{number:05d}.png" for number in range(9_999)]
    for file in others:
        (root / file).hardlink_to(root / PICTURE["file"])
    write_metadata(root, [Sample(file_name=file, box_xyxy=(9, 9, 99, 99)) for file in (PICTURE["file"], *others)])
    asked = Asked(
        number=1,
        dataset=root.name,
        bundle="one.inspector",
        effort=Effort.QUICK,
        weights="none",
        who="anna",
        asked_at=datetime.now(UTC),
    )
    folder = space.jobs / "0001"
    folder.mkdir()
    (folder / "job.json").write_text(asked.model_dump_json())
    write_status(folder, Status(phase=Phase.DONE, began_at=asked.asked_at, ended_at=asked.asked_at))
    (folder / "report.html").write_text("<!doctype html><title>Report</title>" + 500_000 * " ")


def part(number: int, frame: str) -> VerdictRecord:
    """One part of the line."""
    fault, doubtful = number % 100 == 99, number % 10 == 0
    state = State.FAULT if fault else State.REVIEW if doubtful else State.GO
    score, reason = (None, "no picture") if fault else (float(number % 17), f"score {number % 17}")
    view = View(
        frame_sha256=None if fault else frame,
        state=state,
        score=score,
        reason=reason,
        box_xyxy=(10.0, 10.0, 500.0, 400.0),
    )
    return VerdictRecord(
        station="line-1",
        trigger_id=f"t{number}",
        part=f"P-{number}",
        lot=f"L-{number // 500}",
        state=state,
        score=score,
        reason=reason,
        cause="no_frame" if fault else None,
        views=(view,),
        go_below=9.0,
        no_go_above=16.0,
        triggered_at=datetime.now(UTC),
    )


def measure(address: str, visits: int) -> dict[str, list[float]]:
    """Milliseconds of each visit to each route."""
    times: dict[str, list[float]] = {}
    paths = [route for route in ROUTES if route.method == "GET" and route.path not in (*STREAMS, *LENT)]
    with httpx.Client(cookies=log_in(address), timeout=60) as client:
        for _ in range(visits):
            for route in paths:
                begun = time.perf_counter()
                answer = client.get(address + route.example_path)
                times.setdefault(route.path, []).append((time.perf_counter() - begun) * 1e3)
                assert answer.status_code in (200, 303), f"{route.path}: {answer.status_code} {answer.text[:200]}"
    return times


if __name__ == "__main__":
    main()
