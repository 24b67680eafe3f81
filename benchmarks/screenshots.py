"""Screenshots of every page of the server at three widths: ``python benchmarks/screenshots.py [--demo demo]``.

Takes what ``make demo`` made as its workspace's data set and inspector, lets the inspector judge the test parts into a
ledger, and visits every page of the route table as the administrator.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from gonogo.dataset import Dataset, Sample, Split
from gonogo.evaluate import evaluate
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, VerdictRecord, View
from gonogo.progress import track
from gonogo.schema import Label, State
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Kind, Role
from gonogo.server.background import running
from gonogo.server.jobs import Asked, Phase, Status, write_status
from gonogo.server.recipes import Effort
from gonogo.server.routes import ROUTES
from gonogo.server.services import Services

CHROMIUM = "/usr/bin/chromium"
SIZES_WH = ((375, 812), (1280, 800), (2560, 1440))
DARK_WH = (1280, 800)
PASSWORD = "violet gasket 41 harbour"
PARTS = 90  # the last of them is bad, see `line`
TALLEST = 2400


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="what make demo made")
    parser.add_argument("--out", type=Path, default=Path("docs/images/pages"))
    parser.add_argument("--only", help="only pages whose name holds this")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder) / "plant")
        furnish(space, arguments.demo)
        app = create_app(space, options=Options())
        people(app.state.services)
        with running(app) as address:
            take(address, space, arguments.out, arguments.only)


def furnish(space: Workspace, demo: Path) -> None:
    """A data set, an inspector in use, a ledger."""
    shutil.copytree(demo / "dataset", space.datasets / "chip")
    shutil.copytree(demo / "chip.inspector", space.bundles / "chip.inspector")
    space.activate("chip.inspector")
    judge = Inspector.load(space.bundles / "chip.inspector")
    dataset = Dataset.read(space.datasets / "chip")
    point, begun = judge.operating_point, datetime.now(UTC)
    record_run(space, demo, judge, dataset)
    samples = line(dataset)
    with Ledger.open(space.ledger) as ledger:
        for number, sample in enumerate(track(samples, "judging")):
            fault = number in (PARTS // 3, PARTS // 2)
            data = (dataset.root / sample.file_name).read_bytes()
            verdict = judge.inspect(dataset.load(sample))
            view = View.of(verdict, frame_sha256=ledger.frames.put(data))
            ledger.append_verdict(
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


def record_run(space: Workspace, demo: Path, judge: Inspector, dataset: Dataset) -> None:
    """The training run that made the demo's inspector, as the server would have recorded it."""
    folder = space.jobs / "0001"
    folder.mkdir()
    asked = Asked(
        number=1,
        dataset=dataset.root.name,
        bundle=judge.path.name,
        effort=Effort.STANDARD,
        weights="none",
        who="Anna",
        asked_at=datetime.now(UTC) - timedelta(minutes=9),
    )
    (folder / "job.json").write_text(asked.model_dump_json())
    write_status(folder, Status(phase=Phase.DONE, began_at=asked.asked_at, ended_at=datetime.now(UTC)))
    (folder / "evaluation.json").write_text(json.dumps(evaluate(judge, dataset, (Split.TEST,)).to_json()))
    shutil.copy(demo / "report.html", folder / "report.html")


def line(dataset: Dataset) -> list[Sample]:
    """Parts as a line sends them: one in eight bad, the last one too."""
    shown = dataset.split(Split.TEST, Split.VAL)
    good, bad = ([sample for sample in shown if sample.label is label] for label in Label)
    return [bad[number % len(bad)] if number % 8 == 1 else good[number % len(good)] for number in range(PARTS)]


def people(services: Services) -> None:
    """One person of each role; all have the same password."""
    names = {"admin": Role.ADMIN, "Anna": Role.ENGINEER, "Bertram": Role.REVIEWER, "Chiara": Role.OPERATOR}
    for name, role in names.items():
        user, password = services.people.add(name, role)
        services.book.act("user_added", "gonogo serve" if name == "admin" else "admin", user=name, role=role)
        services.people.change_password(user, password, PASSWORD)
    services.sessions.issue("mes-gateway", Role.AUDITOR, days=90, created_by="admin")
    services.book.act("token_issued", "admin", token="mes-gateway", role=Role.AUDITOR, days=90)


def take(address: str, space: Workspace, out: Path, only: str | None) -> None:
    """Visit and photograph."""
    pages = [route for route in ROUTES if route.kind is Kind.PAGE]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, height, scheme in [(*size, "light") for size in SIZES_WH] + [(*DARK_WH, "dark")]:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
                locale="en-GB",
            )
            page = context.new_page()
            page.goto(f"{address}/login")
            name = f"{width}" if scheme == "light" else f"{width}-dark"
            if not only or only in "login":
                shoot(page, out / f"login-{name}.jpg")
            page.get_by_label("Name").fill("admin")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{address}/")
            for route in pages:
                slug = re.sub(r"\W+", "-", route.path).strip("-") or "overview"
                if route.path == "/login" or (only and only not in slug):
                    continue
                write_beat(space)
                page.goto(address + route.example_path.replace("/tiny", "/chip"))
                page.keyboard.press("h")  # where a page has a heat map, with it
                page.wait_for_timeout(1200)
                shoot(page, out / f"{slug}-{name}.jpg")
            context.close()
        browser.close()


def write_beat(space: Workspace) -> None:
    """A station that lives."""
    space.station_state.mkdir(exist_ok=True)
    status = {"beat": datetime.now(UTC).isoformat(), "health": "running", "alarms": []}
    (space.station_state / "status.json").write_text(json.dumps(status))


def shoot(page: Page, path: Path) -> None:
    """One picture of the whole page, cut where it gets too long."""
    size = page.viewport_size or {"width": 1280, "height": 800}
    height = min(TALLEST, max(size["height"], page.evaluate("document.documentElement.scrollHeight")))
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height}
    page.screenshot(path=path, type="jpeg", quality=70, full_page=True, clip=clip)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
