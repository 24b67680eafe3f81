"""Screenshots of every page of the server at three widths: ``python benchmarks/screenshots.py [--demo demo]``.

Takes what ``make demo`` made as its workspace's data set and inspector, lets the inspector judge the test parts into a
ledger, has people review, label and compare, and visits every page of the route table as the administrator.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
from fastapi import FastAPI
from playwright.sync_api import Page, sync_playwright

from gonogo import images
from gonogo.certification import recertify
from gonogo.dataset import Dataset, Sample, Split, write_metadata
from gonogo.evaluate import evaluate
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Action, Ledger, VerdictRecord, View
from gonogo.operating_point import Promise
from gonogo.progress import track
from gonogo.schema import Label, State, Verdict
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import AccessKind, Role, Route
from gonogo.server.components import Components
from gonogo.server.review import BLIND_CHECK
from gonogo.server.routes import ROUTES
from gonogo.server.server_thread import running
from gonogo.server.training.jobs import JobRequest, Phase, Status, write_status
from gonogo.server.training.presets import Effort
from page_times import equip, set_up_station

CHROMIUM = "/usr/bin/chromium"
SIZES_WH = ((375, 812), (1280, 800), (2560, 1440))
DARK_WH = (1280, 800)
DARK = ("station", "station-setup", "review", "label", "understand", "people", "part")
"""Pages that are also captured in dark mode."""
NAMES = {"/": "overview", "/datasets": "data-sets", "/datasets/{name}": "data-set"}
NAMES |= {
    "/datasets/{name}/label": "label",
    "/datasets/{name}/pictures": "pictures",
    "/datasets/{name}/zones": "zones",
    "/datasets/{name}/sizes": "sizes",
    "/datasets/{name}/revisions": "revisions",
    "/training/{number}": "training-run",
    "/parts/{seq}": "part",
    "/stations/new": "station-new",
    "/stations/{name}": "station-setup",
}
NEED_NO_DEMO = ("zones", "station-setup")
"""Pages for which ``--only`` needs no ``make demo``."""
PASSWORD = "violet gasket 41 harbour"
PARTS = 240  # the last of them is bad, see `line`
TALLEST = 2400
ZONES = """\
drawn_on = "part"

[[zones]]
kind = "ignore"
name = "date code"
polygon = [[0.34, 0.50], [0.64, 0.50], [0.64, 0.72], [0.34, 0.72]]

[[zones]]
kind = "inspect"
name = "upper leads"
polygon = [[-0.02, -0.08], [1.02, -0.08], [1.02, 0.22], [-0.02, 0.22]]
sensitivity = 0.10

[[zones]]
kind = "inspect"
name = "lower leads"
polygon = [[-0.02, 0.78], [1.02, 0.78], [1.02, 1.08], [-0.02, 1.08]]
sensitivity = 0.10
"""
BELT: dict[str, object] = {
    "distance": 2000,
    "parts": [
        {"id": f"part {number}", "left": 150 + 230 * number, "verdict": verdict, "rejected": verdict != "go"}
        for number, verdict in enumerate(("go", "go", "no_go", "go", "go", "go", None))
    ],
    "unconfirmed": 0,
    "stopped": "",
    "counts": {"passed": 228, "fired": 5, "confirmed": 5},
}
"""What the station page shows between camera and gate."""
SECTIONS = ("mistakes", "drift", "kinds", "history")
"""Sections of the page Understand, which is taller than `TALLEST`."""
WIDEST = 1600
"""Wider screenshots are reduced to this width in pixels."""


def main() -> None:
    """Take all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of 'make demo'")
    parser.add_argument("--out", type=Path, default=Path("docs/images/pages"))
    parser.add_argument("--only", default="", help="only pages with this text in their name")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder) / "plant")
        draw_zones(space)
        show_camera(space)
        if arguments.only not in NEED_NO_DEMO:
            furnish(space, arguments.demo)
        app = create_app(space, options=Options())
        people(app.state.components)
        with running(app) as address, beating(space):
            take(app, address, arguments.out, arguments.only)


def furnish(space: Workspace, demo: Path) -> None:
    """A data set, an inspector in use and another one, a ledger, and a data set that is being labelled."""
    judge = equip(space, demo)
    dataset = Dataset.read(space.datasets / "chip")
    record_run(space, demo, judge, dataset, number=1)
    other = space.bundles / "chip-2.inspector"
    shutil.copytree(judge.path, other)
    recertify(Inspector.load(other), dataset, Promise(max_escape=0.1, max_overkill=0.05, bad_share=0.05))
    record_run(space, demo, Inspector.load(other), dataset, number=2)
    record_line(space, judge, dataset)
    begin_labelling(space, dataset)


def draw_zones(space: Workspace) -> None:
    """A small data set of rotated chips with zones."""
    given = ["--parts", "6", "--seed", "3", "--board", "radio", "--chip", "soic16", "--workers", "1"]
    root = space.datasets / "radio"
    subprocess.run([sys.executable, "-m", "gonogo", "dataset", "synth", *given, "--out", str(root)], check=True)
    (root / "zones.toml").write_text(ZONES, encoding="utf-8")


def show_camera(space: Workspace) -> None:
    """A station that does not run, and what its camera sees: one of the rotated chips."""
    folder = set_up_station(space)
    picture = next(iter(images.find(space.datasets / "radio" / "images")))
    shutil.copy(picture, folder / "incoming" / f"C-4440{picture.suffix}")


def record_line(space: Workspace, judge: Inspector, dataset: Dataset) -> None:
    """Parts judged, some of them reviewed by people who do not always agree."""
    point, begun = judge.operating_point, datetime.now(UTC)
    shown = track(dataset.split(Split.TEST, Split.VAL, Split.CALIBRATE), "judging")
    verdicts = {sample: judge.inspect(dataset.load(sample)) for sample in shown}
    with Ledger.open(space.ledger) as ledger:
        for number, sample in enumerate(line(verdicts)):
            fault = number in (PARTS // 3, PARTS // 2)
            data = (dataset.root / sample.file_name).read_bytes()
            verdict = verdicts[sample]
            view = View.of(verdict, frame_sha256=ledger.frames.put(data))
            row = ledger.append_verdict(
                VerdictRecord(
                    station="chip-line-1",
                    trigger_id=f"t{number}",
                    part=f"C-{4200 + number}",
                    lot=f"L-{70 + number // 40}",
                    state=State.FAULT if fault else verdict.state,
                    score=None if fault else verdict.score,
                    reason="the camera gave no picture within 0.8 s" if fault else verdict.reason,
                    cause="no_frame" if fault else None,
                    go_below=None if point is None else point.go_below,
                    no_go_above=None if point is None else point.no_go_above,
                    bundle_sha256=judge.bundle_sha256,
                    bundle=str(judge.path),
                    views=() if fault else (view,),
                    triggered_at=begun - timedelta(seconds=PARTS - number),
                )
            )
            if verdict.state is State.NO_GO and not fault:  # the doubtful ones wait
                who = ("Anna", "Bertram")[number // 8 % 2]
                said = {"label": sample.label, "defect": sample.defect}
                ledger.append_action(Action(action=REVIEW, who=who, about=row.seq, details={"ms": 1400}, **said))  # type: ignore[arg-type]
                check = {"ticket": f"{number}", "expected": sample.label if number % 9 else Label.GOOD}
                ledger.append_action(
                    Action(action=BLIND_CHECK, who="Bertram", about=row.seq, label=sample.label, details=check)
                )


def begin_labelling(space: Workspace, dataset: Dataset) -> None:
    """Create a partly labelled data set."""
    root = space.datasets / "chip-line-2"
    (root / "images").mkdir(parents=True)
    samples = []
    good, bad = ([sample for sample in dataset.split(Split.TEST) if sample.label is label] for label in Label)
    for number in range(60):
        sample = bad[number // 3 % len(bad)] if number % 3 == 2 else good[number % len(good)]
        file = f"images/shift-3-{number:03d}.jpg"
        shutil.copy(dataset.path(sample), root / file)
        height, width = dataset.load(sample).shape[:2]
        margin = 0.055 * width
        box = (margin, margin, width - margin, height - margin)
        said = {"label": sample.label, "defect": sample.defect, "box_xyxy": box, "labelled_by": "Anna"}
        samples.append(Sample(file_name=file, **(said if number < 34 else {})))  # type: ignore[arg-type]
    write_metadata(root, samples)
    (root / "kinds.json").write_text(json.dumps(["scratch", "crack", "stain", "missing_pin"]))


def record_run(space: Workspace, demo: Path, judge: Inspector, dataset: Dataset, *, number: int) -> None:
    """A training run that made an inspector, as the server would have recorded it."""
    folder = space.jobs / f"{number:04d}"
    folder.mkdir()
    request = JobRequest(
        number=number,
        dataset=dataset.root.name,
        bundle=judge.path.name,
        effort=Effort.STANDARD,
        weights="none",
        who="Anna",
        asked_at=datetime.now(UTC) - timedelta(minutes=9 * (3 - number)),
    )
    (folder / "job.json").write_text(request.model_dump_json())
    write_status(folder, Status(phase=Phase.DONE, began_at=request.asked_at, ended_at=datetime.now(UTC)))
    (folder / "evaluation.json").write_text(json.dumps(evaluate(judge, dataset, (Split.TEST,)).to_json()))
    (folder / "log.txt").write_text("10:02:11  Splitting the pictures.\n10:02:14  $ gonogo train\n")
    shutil.copy(demo / "report.html", folder / "report.html")
    (folder / dataset.root.name).mkdir()
    (folder / dataset.root.name / "images").symlink_to(dataset.root / "images")
    write_metadata(folder / dataset.root.name, dataset.samples)


def line(verdicts: Mapping[Sample, Verdict]) -> list[Sample]:
    """Parts as a line sends them: one in eight bad, the last one too, and now and then a doubtful one."""
    good, bad = ([sample for sample in verdicts if sample.label is label] for label in Label)
    doubtful = [sample for sample, verdict in verdicts.items() if verdict.state is State.REVIEW] or good
    sent = []
    for number in range(PARTS):
        source = bad if number % 8 == 7 else doubtful if number % 16 == 4 else good
        sent.append(source[number % len(source)])
    return sent


def people(components: Components) -> None:
    """One person of each role; all have the same password."""
    names = {"admin": Role.ADMIN, "Anna": Role.ENGINEER, "Bertram": Role.REVIEWER, "Chiara": Role.OPERATOR}
    for name, role in names.items():
        user, password = components.accounts.people.add(name, role)
        components.ledger_pool.act("user_added", "gonogo serve" if name == "admin" else "admin", user=name, role=role)
        components.accounts.people.change_password(user, password, PASSWORD)
    components.accounts.sessions.issue("mes-gateway", Role.AUDITOR, days=90, created_by="admin")
    components.ledger_pool.act("token_issued", "admin", token="mes-gateway", role=Role.AUDITOR, days=90)


def take(app: FastAPI, address: str, out: Path, only: str) -> None:
    """Visit the pages and take screenshots."""
    pages = {NAMES.get(route.path, route.path.strip("/")): route for route in ROUTES if route.kind is AccessKind.PAGE}
    if only not in NEED_NO_DEMO:
        work_out(app.state.components)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for (width, height), scheme in [*((size, "light") for size in SIZES_WH), (DARK_WH, "dark")]:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
                locale="en-GB",
            )
            page = context.new_page()
            page.goto(f"{address}/login")
            shown = {
                name: route for name, route in pages.items() if only in name and (scheme == "light" or name in DARK)
            }
            end = f"{width}.jpg" if scheme == "light" else f"{width}-dark.jpg"
            if "login" in shown:
                shoot(page, out / f"login-{end}")
            page.get_by_label("Name").fill("admin")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{address}/")
            for name, route in shown.items():
                if name != "login":
                    visit(page, address + address_of(route), name)
                    shoot(page, out / f"{name}-{end}")
                if "understand" in shown and (width, height, scheme) == (*DARK_WH, "light"):
                    sections(page, f"{address}/understand", out)
            context.close()
        browser.close()


def work_out(components: Components) -> None:
    """Run the analyses of the page Understand in advance."""
    inspectors, understanding = components.inspectors, components.understanding
    opened = inspectors.in_use()
    assert opened is not None, "one is in use"
    inspectors.refresh()
    understanding.drift.refresh(opened)
    other = inspectors.bundles.open(components.workspace.bundles / "chip-2.inspector")
    assert other is not None, "it was made here"
    components.comparing.comparer.start(opened, other, dataset="chip", decisions=())
    while components.worker.busy():
        time.sleep(0.2)


def address_of(route: Route) -> str:
    """The example of a page, in this workspace."""
    return (
        route.example_path.replace("/tiny/zones", "/radio/zones")
        .replace("/tiny/label", "/chip-line-2/label?file=images/shift-3-023.jpg")
        .replace("/tiny", "/chip")
    )


def visit(page: Page, address: str, name: str) -> None:
    """Open a page in a typical state."""
    page.goto(address)
    page.wait_for_timeout(800)
    if name == "station-setup":
        page.locator("[data-image]").wait_for()
    if name in ("station", "review"):
        page.keyboard.press("h")  # the heat map
    page.wait_for_timeout(1500)


@contextmanager
def beating(space: Workspace) -> Iterator[None]:
    """Keep a station's status fresh."""
    over = threading.Event()
    space.station_state.mkdir(exist_ok=True)

    def beat() -> None:
        while not over.wait(0.5):
            now = datetime.now(UTC).isoformat()
            status = {"station": "line-1", "beat": now, "health": "running", "alarms": [], "tracking": BELT}
            write_beside(space.station_state / "status.json", json.dumps(status).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sections(page: Page, address: str, out: Path) -> None:
    """Capture each section of a long page."""
    page.goto(address)
    for name in SECTIONS:
        section = page.locator(f"section[aria-labelledby={name}]")
        section.scroll_into_view_if_needed()
        page.wait_for_timeout(1500)  # for its pictures
        keep(section.screenshot(), out / f"understand-{name}.jpg")


def shoot(page: Page, path: Path) -> None:
    """Capture the whole page, up to `TALLEST`."""
    size = page.viewport_size or {"width": 1280, "height": 800}
    height = min(TALLEST, max(size["height"], page.evaluate("document.documentElement.scrollHeight")))
    keep(page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": size["width"], "height": height}), path)


def keep(data: bytes, path: Path) -> None:
    """Write a picture as a small JPEG."""
    picture = images.decode(data, name=path.name)
    factor = min(1.0, WIDEST / picture.shape[1])
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    write_beside(path, images.encode_jpeg(picture, quality=72))


if __name__ == "__main__":
    main()
