"""Measure the time of every page with many parts: ``python benchmarks/page_times.py [--demo demo] [--parts 100000]``.

Takes what ``make demo`` made as the inspector in use, fills a ledger, serves it in a separate process, waits until
what is worked out in the background is done, fetches every GET route of the route table that is no stream as the
administrator, and prints the median and the 95 % quantile of each in milliseconds, the slowest last. Beside them stands
the processor time that the server took for a visit, which does not depend on what else the machine has to do.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import psutil

from gonogo.dataset import Dataset, Sample, Split, write_metadata
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Action, Ledger, VerdictRecord, View
from gonogo.progress import track
from gonogo.schema import Label, State
from gonogo.server import Workspace
from gonogo.server.access import Role
from gonogo.server.routes import PICTURE, ROUTES
from gonogo.server.training.jobs import JobRequest, Phase, Status, write_status
from gonogo.server.training.presets import Effort
from streams import log_in, prepare

STREAMS = ("/station/events",)


def main() -> None:
    """Fill a workspace, serve it, fetch all pages and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of 'make demo'")
    parser.add_argument("--parts", type=int, default=100_000)
    parser.add_argument("--visits", type=int, default=40)
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/dev/shm"),
        help="folder for the workspace; in memory there is no cost for fsync",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        space = Workspace.open(Path(folder) / "plant")
        prepare(space, 1, role=Role.ADMIN)
        fill(space, equip(space, arguments.demo), arguments.parts)
        hand_over(space)
        command = [sys.executable, "-m", "gonogo", "serve", str(space.root), "--port", str(arguments.port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            times, processor = measure(
                f"http://127.0.0.1:{arguments.port}", arguments.visits, psutil.Process(server.pid)
            )
        finally:
            server.terminate()
            server.wait(timeout=20)
    for path, durations in sorted(times.items(), key=lambda item: float(np.quantile(item[1], 0.95))):
        median, slow = np.quantile(durations, (0.5, 0.95))
        took = 1e3 * processor[path] / arguments.visits
        print(f"{path:32s} median {median:6.1f} ms   p95 {slow:6.1f} ms   processor {took:6.1f} ms")  # noqa: T201


def equip(space: Workspace, demo: Path) -> Inspector:
    """Copy data set and inspector of the demo into a workspace."""
    shutil.copytree(demo / "dataset", space.datasets / "chip")
    shutil.copytree(demo / "chip.inspector", space.bundles / "chip.inspector")
    space.activate("chip.inspector")
    return Inspector.load(space.bundles / "chip.inspector")


def fill(space: Workspace, judge: Inspector, parts: int) -> None:
    """Fill the ledger: 10 % of the parts in review, half of them decided, 1 % faults; frames are test pictures."""
    dataset = Dataset.read(space.datasets / "chip")
    with Ledger.open(space.ledger) as ledger:
        frames = [ledger.frames.put(dataset.path(sample).read_bytes()) for sample in dataset.split(Split.TEST)]
        for number in track(range(parts), "recording"):
            row = ledger.append_verdict(part(number, frames[number % len(frames)], judge))
            if number % 20 == 0 and row.record.state is State.REVIEW:
                said = Label.BAD if number % 40 == 0 else Label.GOOD
                defect = ("scratch", "crack", "stain")[number % 3] if said is Label.BAD else None
                ledger.append_action(Action(action="review", who="anna", about=row.seq, label=said, defect=defect))


def hand_over(space: Workspace) -> None:
    """A data set of 10,000 pictures, half of them labelled, and a finished training run on it."""
    root = space.datasets / PICTURE["name"]
    (root / PICTURE["file"]).parent.mkdir(parents=True)
    frame = np.random.default_rng(3).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    (root / PICTURE["file"]).write_bytes(encode_png(frame))
    others = [f"images/{number:05d}.png" for number in range(9_999)]
    for file in others:
        (root / file).hardlink_to(root / PICTURE["file"])
    samples = [Sample(file_name=file, box_xyxy=(9, 9, 99, 99)) for file in (PICTURE["file"], *others)]
    half = len(samples) // 2
    labelled = [sample.model_copy(update={"label": Label.GOOD}) for sample in samples[:half]]
    write_metadata(root, [*labelled, *samples[half:]])
    request = JobRequest(
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
    (folder / "job.json").write_text(request.model_dump_json())
    write_status(folder, Status(phase=Phase.DONE, began_at=request.asked_at, ended_at=request.asked_at))
    (folder / "report.html").write_text("<!doctype html><title>Report</title>" + 500_000 * " ")


def part(number: int, frame: str, judge: Inspector) -> VerdictRecord:
    """One part of the line."""
    point = judge.operating_point
    assert point is not None, "the demo certifies one"
    fault, doubtful = number % 100 == 99, number % 10 == 0
    score = (point.go_below + point.no_go_above) / 2 if doubtful else point.go_below - 0.01 - number % 17 / 10
    state = State.FAULT if fault else point.state(score)
    reason = "no picture" if fault else f"score {score:.2f}"
    view = View(
        frame_sha256=None if fault else frame,
        state=state,
        score=None if fault else score,
        reason=reason,
        box_xyxy=(10.0, 10.0, 100.0, 90.0),
    )
    return VerdictRecord(
        station="line-1",
        trigger_id=f"t{number}",
        part=f"P-{number}",
        lot=f"L-{number // 500}",
        state=state,
        score=None if fault else score,
        reason=reason,
        cause="no_frame" if fault else None,
        bundle_sha256=judge.bundle_sha256,
        bundle=str(judge.path),
        views=(view,),
        go_below=point.go_below,
        no_go_above=point.no_go_above,
        triggered_at=datetime.now(UTC),
    )


def measure(address: str, visits: int, server: psutil.Process) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the milliseconds of each visit to each route, and the server's total processor time in seconds."""
    times: dict[str, list[float]] = {}
    processor: defaultdict[str, float] = defaultdict(float)
    routes = [route for route in ROUTES if route.method == "GET" and route.path not in STREAMS]
    with httpx.Client(cookies=log_in(address, f"{Role.ADMIN} 0"), timeout=120) as client:
        dealt = deal(client, address)
        wait_for_background(client, address)
        for _ in track(range(visits), "visiting"):
            for route in routes:
                path = route.example_path.replace("/review/none/", f"/review/{dealt}/")
                begun, before = time.perf_counter(), sum(server.cpu_times()[:2])
                answer = client.get(address + path)
                times.setdefault(route.path, []).append((time.perf_counter() - begun) * 1e3)
                processor[route.path] += sum(server.cpu_times()[:2]) - before
                assert answer.status_code in (200, 303), f"{path}: {answer.status_code} {answer.text[:200]}"
    return times, processor


def deal(client: httpx.Client, address: str) -> str:
    """Return the ticket of a part in review."""
    csrf = client.get(f"{address}/review").text.split('name="csrf" content="')[1].split('"')[0]
    headers = {"origin": address, "x-csrf-token": csrf}
    answer = client.post(f"{address}/review/deal", json={"want": 1, "holding": []}, headers=headers)
    return str(answer.json()["items"][0]["ticket"])


def wait_for_background(client: httpx.Client, address: str) -> None:
    """Wait until the pages have judged the labelled pictures and analysed the line."""
    client.get(f"{address}/understand")
    while client.get(f"{address}/understand/progress").json()["tasks"]:
        time.sleep(1)


if __name__ == "__main__":
    main()
