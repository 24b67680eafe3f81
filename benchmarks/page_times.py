"""Measure the time of every page with many parts and pictures: ``python benchmarks/page_times.py [--demo demo]``.

Takes what ``make demo`` made as the inspector in use, fills a ledger with ``--parts`` parts, a data set with
``--pictures`` pictures, all judged, and another one with ``--revisions`` revisions. Serves it in a separate process,
waits until what is worked out in the background is done, fetches every GET route of the route table that is no stream
as the administrator, and prints the first visit, the median and the 95 % quantile of each in milliseconds, the slowest
last. Beside them stands the processor time that the server took for a visit, which does not depend on what else the
machine has to do. Searches, the grid and revisions are measured one by one, the next picture in review and in labelling
too, and all verdicts are exported. ``--against SRC`` serves a copy with the code in another ``src`` folder and visits
both in turn, for before and after. ``QUICK=1``: 2,000 parts and pictures, 200 revisions, 5 visits.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import tomli_w

from gonogo.dataset import Dataset, Split
from gonogo.inspector import Inspector
from gonogo.ledger import Action, Ledger, VerdictRecord, View
from gonogo.progress import track
from gonogo.schema import Label, State
from gonogo.server import Workspace
from gonogo.server.access import Role
from gonogo.server.routes import PICTURE, ROUTES, STATION
from gonogo.server.stations.form import Fixed, to_content, usual_values
from gonogo.server.training.jobs import JobRequest, Phase, Status, write_status
from gonogo.server.training.presets import Effort
from page_times_data import HISTORY, many_pictures, many_revisions, predictions
from streams import log_in, prepare

STREAMS = ("/station/events",)
LIVE = ("/stations/{name}/picture.jpg",)
"""Pictures of a camera, which come when they come."""
PREPARED = ("/compare/setting", "/compare/picture.jpg", "/shadow/setting")
"""Pieces of pages that need a comparison or a trial, which this workspace has none of."""
SEARCHES = (
    "/parts?text=P-{parts}",
    "/parts?text=P-",
    "/parts?text=L-1+line-1&verdict=review",
    "/parts?text=line-1&verdict=no_go",
    "/parts?text=zz",
    "/parts?until=2020-01-01",
    "/parts?verdict=fault&before={half}",
    "/parts/{half}",
    "/audit?text=crack",
    "/audit?until=2020-01-01",
    "/datasets/{name}/pictures?sort=name",
    "/datasets/{name}/pictures?sort=doubt",
    "/datasets/{name}/pictures?q=P-4711",
    "/datasets/{name}/pictures?q=zz",
    "/datasets/{name}/pictures?label=bad&kind=crack&split=test",
    "/datasets/{name}/pictures?verdict=disagrees&sort=score",
    "/datasets/{name}/pictures?page=200",
    "/datasets/{name}/pictures?like={picture}",
    "/datasets/{history}/revisions",
    "/datasets/{history}/revisions?first=10&second={revisions}",
    "/datasets/{history}",
)
"""Addresses that find one, few, many or no rows or pictures; ``/parts/ROW`` is one part, the others are pages."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server and the times of its visits."""

    address: str
    client: httpx.Client
    process: psutil.Process
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    processor: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def visit(self, name: str, path: str, *, method: str = "GET", **more: Any) -> httpx.Response | None:
        """Send a request and note its time; ``None`` if this server does not have the page."""
        begun, before = time.perf_counter(), sum(self.process.cpu_times()[:2])
        answer = self.client.request(method, self.address + path, **more)
        if answer.status_code == 404 and path != "/":
            return None
        self.times[name].append((time.perf_counter() - begun) * 1e3)
        self.processor[name] += sum(self.process.cpu_times()[:2]) - before
        assert answer.status_code in (200, 303), f"{path}: {answer.status_code} {answer.text[:200]}"
        return answer

    def csrf(self, page: str) -> dict[str, str]:
        """The headers of a change, with the token that a page holds."""
        token = self.client.get(self.address + page).text.split('name="csrf" content="')[1].split('"')[0]
        return {"origin": self.address, "x-csrf-token": token}


def main() -> None:
    """Fill a workspace, serve it, fetch all pages and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of 'make demo'")
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--parts", type=int, default=2_000 if quick else 100_000)
    parser.add_argument("--visits", type=int, default=5 if quick else 40)
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--only", default="", help="measure only the addresses that begin with this regular expression")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/dev/shm"),
        help="folder for the workspace; in memory there is no cost for fsync",
    )
    parser.add_argument("--pictures", type=int, default=2_000 if quick else 100_000)
    parser.add_argument("--revisions", type=int, default=200 if quick else 10_000)
    parser.add_argument("--keep", type=Path, help="folder in which the workspace is made once, and then used again")
    parser.add_argument("--against", type=Path, help="src folder of another version, which is measured in turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = arguments.keep or Path(folder) / "plant"
        if not root.exists():
            made = Workspace.open(root.with_name(f"{root.name}.making"))
            prepare(made, 1, role=Role.ADMIN)
            judge = equip(made, arguments.demo)
            fill(made, judge, arguments.parts)
            hand_over(made, judge, arguments)
            set_up_station(made)
            made.root.rename(root)
        space = Workspace.open(copied(root, Path(folder) / "now"))
        with ExitStack() as stack:
            versions = {"": stack.enter_context(served(space.root, arguments.port, None))}
            if arguments.against is not None:
                other = copied(root, Path(folder) / "before")
                versions["before "] = stack.enter_context(served(other, arguments.port + 1, arguments.against))
            measure(list(versions.values()), arguments)
            for version, server in versions.items():
                tell(version, server, arguments)


def tell(version: str, server: Served, arguments: argparse.Namespace) -> None:
    """Print the times of one server."""
    p95_ms = {path: round(float(np.quantile(times, 0.95)), 1) for path, times in server.times.items()}
    for path in sorted(p95_ms, key=lambda path: p95_ms[path]):
        times = server.times[path]
        took = 1e3 * server.processor[path] / len(times)
        print(  # noqa: T201
            f"{version}{path:56s} first {times[0]:7.1f}  median {np.median(times):7.1f}  p95 {p95_ms[path]:7.1f}  "
            f"processor {took:7.1f} ms"
        )
    first_ms = {path: round(times[0], 1) for path, times in server.times.items()}
    counts = {name: getattr(arguments, name) for name in ("parts", "pictures", "revisions", "visits")}
    print(json.dumps({"version": version or "this", **counts, "p95_ms": p95_ms, "first_ms": first_ms}))  # noqa: T201


@contextmanager
def served(root: Path, port: int, source: Path | None) -> Iterator[Served]:
    """Serve a workspace in a process of its own, with this code or that of another ``src`` folder."""
    command = [sys.executable, "-m", "gonogo", "serve", str(root), "--port", str(port)]
    environment = dict(os.environ) if source is None else os.environ | {"PYTHONPATH": str(source)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(cookies=log_in(address, f"{Role.ADMIN} 0"), timeout=300) as client:
            yield Served(address=address, client=client, process=psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(timeout=60)


def copied(root: Path, target: Path) -> Path:
    """A copy whose database says format 2, so that an older version opens it and this one brings it up to date."""
    shutil.copytree(root, target, copy_function=_linked)
    with sqlite3.connect(target / "server.db") as database:
        database.execute("PRAGMA user_version = 2")
    return target


def _linked(source: str, target: str) -> str:
    """Pictures are shared, everything else is copied."""
    if source.endswith((".png", ".jpg")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
    return target


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


def set_up_station(space: Workspace) -> Path:
    """Set up a station that does not run; returns its folder."""
    folder = space.root / "stations" / STATION["name"]
    (folder / "incoming").mkdir(parents=True)
    fixed = Fixed(name=folder.name, ledger=os.path.relpath(space.ledger, folder), bundles="../..")
    (folder / "station.toml").write_text(tomli_w.dumps(to_content(usual_values(folder.name), fixed)), encoding="utf-8")
    return folder


def hand_over(space: Workspace, judge: Inspector, arguments: argparse.Namespace) -> None:
    """The data sets of `page_times_data`, and a finished training run."""
    many_pictures(space, arguments.pictures)
    many_revisions(space, arguments.revisions)
    assert judge.operating_point is not None, "the demo certifies one"
    predictions(space, judge.operating_point)
    request = JobRequest(
        number=1,
        dataset=PICTURE["name"],
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


def measure(servers: Sequence[Served], arguments: argparse.Namespace) -> None:
    """Visit every page of every server in turn."""
    routes = [route for route in ROUTES if route.method == "GET" and route.path not in STREAMS + LIVE + PREPARED]
    dealt = {}
    for server in servers:
        dealt[server.address] = deal(server)
        wait_for_background(server)
        if re.match(arguments.only, "/export"):
            export(server)
    values = {
        **{"parts": arguments.parts - 1, "half": arguments.parts // 2 + 1, "name": PICTURE["name"]},
        **{"picture": PICTURE["file"], "history": HISTORY, "revisions": arguments.revisions},
    }
    for number in track(range(arguments.visits), "visiting"):
        # The order changes, so that neither always comes after the other's work.
        for server in servers[:: 1 if number % 2 else -1]:
            ticket = dealt[server.address]
            paths = [(route.path, _address(route.example_path, ticket)) for route in routes]
            paths += [(search, search) for search in (each.format(**values) for each in SEARCHES)]
            for name, path in paths:
                if re.match(arguments.only, name):
                    server.visit(name, path)
            if re.match(arguments.only, "/next"):
                go_on(server, number, ticket)


def _address(example: str, ticket: str) -> str:
    """The example of a route, with a ticket and an inspector that exist here."""
    return example.replace("/review/none/", f"/review/{ticket}/").replace("tiny.inspector", "chip.inspector")


def go_on(server: Served, number: int, ticket: str) -> None:
    """The next picture in review and in labelling, as their scripts fetch them, and a label that is saved."""
    headers = server.csrf("/review")
    answer = server.visit(
        "next in review: deal", "/review/deal", method="POST", json={"want": 1, "holding": [ticket]}, headers=headers
    )
    assert answer is not None
    if items := answer.json()["items"]:
        server.visit("next in review: picture", f"/review/{items[0]['ticket']}/picture.jpg?width=1280")
    name = PICTURE["name"]
    file = f"images/{(2 * number + 1) * 7919 % 1_000_003:07d}.png"
    server.visit("next in labelling: picture", f"/datasets/{name}/picture.jpg?file={file}&width=1280")
    rows = server.visit("label page: all records", f"/datasets/{name}/samples")
    assert rows is not None
    row = next(each for each in rows.json()["rows"] if each["file"] == file)
    body = {"place": "page", "file": file, "since": rows.json()["version"]}
    server.visit("next in labelling: look", f"/datasets/{name}/look", method="POST", json=body, headers=headers)
    label = {"file": file, "label": "good", "box_xyxy": [9, 9, 99, 99], "revision": row["revision"]}
    server.visit("label saved, in the background", f"/datasets/{name}/save", method="POST", json=label, headers=headers)


def export(server: Served) -> None:
    """Export the table of verdicts, and print how long it took and how large the file is."""
    begun = time.monotonic()
    headers = server.csrf("/export")
    fields = {"csrf": headers["x-csrf-token"], "kind": "verdicts", "table_format": "csv"}
    server.client.post(f"{server.address}/export/table", data=fields, headers={"origin": server.address})
    while server.client.get(f"{server.address}/export/state").json()["busy"]:
        time.sleep(0.2)
    size = len(server.client.get(f"{server.address}/export/1/file").content)
    print(f"export of all verdicts: {time.monotonic() - begun:.1f} s, {size / 1e6:.1f} MB")  # noqa: T201


def deal(server: Served) -> str:
    """Return the ticket of a part in review."""
    headers = server.csrf("/review")
    answer = server.client.post(f"{server.address}/review/deal", json={"want": 1, "holding": []}, headers=headers)
    return str(answer.json()["items"][0]["ticket"])


def wait_for_background(server: Served) -> None:
    """Wait until the pages have judged the labelled pictures and analysed the line."""
    server.client.get(f"{server.address}/understand")
    while server.client.get(f"{server.address}/understand/progress").json()["tasks"]:
        time.sleep(1)
    while "are being read" in server.client.get(f"{server.address}/parts").text:
        time.sleep(1)


if __name__ == "__main__":
    main()
