"""A station for several products: who selects, what is recorded, and what happens to parts without a right bundle."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.capture import Acquired, CaptureError, HealthLimits, Trouble
from gonogo.cli import app
from gonogo.config import CodeZone, Recipe
from gonogo.errors import InputError
from gonogo.images import Photograph
from gonogo.ledger import Action, Ledger, Row, VerdictRecord, Where
from gonogo.line.state import Health
from gonogo.schema import Frame, PartIdentity, State
from gonogo.station import Answer, CameraParts, Cause, ModelSlot, Station, StationSettings, Trigger, parse_settings
from gonogo.station.cameras import CameraPicture
from gonogo.station.challenge import CHALLENGE
from gonogo.station.changeover import REFUSED, SELECTED, Changeover, request_product
from gonogo.station.exposition import exposition
from gonogo.station.metrics import Metrics
from gonogo.station.models import LoadedBundle
from gonogo.station.publishing import snapshot
from gonogo.station.shift_page import write_shift_page
from gonogo.station.shift_report import gather
from gonogo.station.status import StationState
from gonogo.station.worker import build_station, report_of
from gonogo.testing import FakeCamera, fake_frame, fake_model, write_fake_bundle

NOW = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
PRODUCTS = ("chip", "pill", "board")
CORNER = ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5))


def text_of_settings(*, extra: str = "", products: tuple[str, ...] = PRODUCTS) -> str:
    listed = "\n".join(f'{name} = "{name}"' for name in products)
    return f"""
station = "s1"
ledger = "s1.ledger"
state_dir = "state"
window_s = 10.0
camera_timeout_s = 2.0
min_free_mb = 1
{extra if not extra.startswith("[") else ""}
[products]
{listed}
[[cameras]]
camera = {{ kind = "fake", pictures = "photos" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[watchdog]
stall_s = 20.0
{extra if extra.startswith("[") else ""}
"""


def settings_of(folder: Path, *, extra: str = "", products: tuple[str, ...] = PRODUCTS) -> StationSettings:
    folder.mkdir(parents=True, exist_ok=True)
    return parse_settings(text_of_settings(extra=extra, products=products), folder=folder)


@dataclass
class Line:
    """A station's worker for several products in this process."""

    folder: Path
    extra: str = ""
    resident: Callable[[], int | None] = lambda: 0
    load: Callable[[Path], LoadedBundle] = fake_model
    moment: datetime = NOW
    frames: dict[str, Frame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.folder, extra=self.extra)
        for name in PRODUCTS:
            (self.folder / name).mkdir(exist_ok=True)
            seal = self.folder / name / "SHA256SUMS"
            if not seal.exists():
                seal.write_text(name)
        self.restart()

    def restart(self) -> None:
        camera = FakeCamera(lambda trigger: self.frames.get(trigger, fake_frame(zlib.crc32(trigger.encode()))))
        view = CameraParts(name="main", open_camera=lambda: camera, health=HealthLimits(sharpness=0.0))
        self.slots = {
            name: ModelSlot(self.folder / name, self.folder / "state" / name, loader=self.load, dispensable=True)
            for name in PRODUCTS
        }
        products = {name: (slot,) for name, slot in self.slots.items()}
        self.station = Station(
            self.settings,
            (view,),
            products=products,
            open_ledger=lambda path, create: Ledger.open(path, create=create, now=lambda: self.moment),
            now=lambda: self.moment,
        )
        self.station.changeover._resident = self.resident
        self.station.start()

    def judge(self, trigger_id: str, **names: str) -> Answer:
        due_s = time.monotonic() + self.settings.window_s
        return self.station.judge(Trigger(id=trigger_id, at=self.moment, due_s=due_s, **names))

    def ledger(self) -> Ledger:
        return Ledger.open(self.settings.ledger, create=False)

    def actions(self, action: str) -> list[Row[Action]]:
        with self.ledger() as ledger:
            return list(ledger.actions(Where(action=action)))

    def row(self, answer: Answer) -> VerdictRecord:
        with self.ledger() as ledger:
            found = ledger.find("s1", answer.trigger_id)
        assert found is not None
        return found.record

    def sha256(self, product: str) -> str:
        model = self.slots[product].model
        assert model is not None
        return model.sha256

    def idle_until(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not done():
            assert time.monotonic() < until
            self.station.idle()
            time.sleep(0.005)


def test_every_part_is_judged_by_the_bundle_of_the_product_its_trigger_names(tmp_path: Path) -> None:
    line = Line(tmp_path)
    order = ["chip", "pill", "pill", "board", "chip", "board", "pill"]
    for number, product in enumerate(order):
        answer = line.judge(f"A{number}", product=product)
        assert (answer.state, answer.product, answer.selected_by) == (State.GO, product, "trigger")
        assert line.row(answer).bundle_sha256 == line.sha256(product)
    switches = [row.record for row in line.actions(SELECTED)]
    assert [each.details["to"] for each in switches] == ["chip", "pill", "board", "chip", "board", "pill"]
    assert [each.details["from"] for each in switches[:2]] == [None, "chip"]
    assert switches[0].details["bundles_sha256"] == [line.sha256("chip")]
    assert (switches[0].details["by"], switches[0].details["trigger_id"]) == ("trigger", "A0")
    assert "changeover" in answer.timings_ms


def test_a_trigger_for_an_unknown_product_is_a_fault_and_selects_nothing(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A", product="pill")
    answer = line.judge("B", product="pil")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.MODEL)
    assert "expected a product of this station (chip, pill, board), found 'pil'" in answer.reason
    assert (line.row(answer).product, line.row(answer).bundle_sha256) == ("pil", None)
    assert line.judge("C").product == "pill"


def test_a_trigger_without_a_product_means_the_selected_one_and_before_any_selection_a_fault(tmp_path: Path) -> None:
    line = Line(tmp_path)
    first = line.judge("A")
    assert (first.state, first.cause) == (State.FAULT, Cause.MODEL)
    assert "no product is selected yet" in first.reason
    line.judge("B", product="board")
    second = line.judge("C")
    assert (second.state, second.product, second.selected_by) == (State.GO, "board", "trigger")
    assert line.row(second).bundle_sha256 == line.sha256("board")


def test_after_a_restart_the_last_product_counts_and_the_answer_says_where_it_comes_from(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A", product="pill")
    line.station.close()
    line.restart()
    answer = line.judge("B")
    assert (answer.state, answer.product, answer.selected_by) == (State.GO, "pill", "ledger")
    assert "product pill, selected before the restart" in answer.reason
    assert line.row(answer).bundle_sha256 == line.sha256("pill")
    assert line.judge("C", product="pill").selected_by == "trigger"
    assert len(line.actions(SELECTED)) == 1
    assert report_of(line.station).product == "pill"


def test_a_product_that_is_no_longer_listed_is_not_restored(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A", product="pill")
    line.station.close()
    with line.ledger() as ledger:
        changeover = Changeover({"chip": ()}, station="s1")
        changeover.follow(ledger)
    assert changeover.current is None


def test_a_person_selects_and_both_the_request_and_the_change_are_on_record(tmp_path: Path) -> None:
    line = Line(tmp_path)
    with line.ledger() as ledger:
        asked = request_product(ledger, "s1", "board", who="A. Frueh")
        request_product(ledger, "other", "pill", who="A. Frueh")
    answer = line.judge("A")
    assert (answer.product, answer.selected_by) == ("board", "person")
    [switch] = line.actions(SELECTED)
    assert (switch.record.who, switch.record.about, switch.record.details["by"]) == ("A. Frueh", asked, "person")
    line.station.close()
    line.restart()
    assert line.judge("B").product == "board"
    assert len(line.actions(SELECTED)) == 1, "a request is followed once"


def test_a_person_who_selects_an_unknown_product_changes_nothing(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A", product="chip")
    with line.ledger() as ledger:
        request_product(ledger, "s1", "screw", who="A. Frueh")
    line.station.idle()
    assert line.judge("B").product == "chip"
    line.restart()
    line.station.idle()
    [refused] = line.actions(REFUSED)
    assert "found 'screw'" in str(refused.record.details["reason"])


def test_what_a_person_selected_while_the_station_was_down_counts_from_its_start(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A", product="chip")
    line.station.close()
    with line.ledger() as ledger:
        request_product(ledger, "s1", "pill", who="A. Frueh")
    line.restart()
    line.idle_until(lambda: line.slots["pill"].model is not None)
    answer = line.judge("B")
    assert (answer.state, answer.product, answer.selected_by) == (State.GO, "pill", "person")


def test_a_bundle_that_is_refused_makes_its_product_a_fault_and_the_others_go_on(tmp_path: Path) -> None:
    for name in PRODUCTS:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "SHA256SUMS").write_text("broken" if name == "pill" else name)
    line = Line(tmp_path)
    answer = line.judge("A", product="pill")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.MODEL)
    assert "no bundle is loaded for product pill" in answer.reason
    assert "broken on purpose" in answer.reason
    without = line.judge("B")
    assert without.state is State.FAULT, "pill is selected, whatever its bundle"
    assert line.judge("C", product="chip").state is State.GO
    (tmp_path / "pill" / "SHA256SUMS").write_text("whole")
    line.idle_until(lambda: line.slots["pill"].model is not None)
    assert line.judge("D", product="pill").state is State.GO


def test_a_bundle_that_crashes_the_worker_is_not_tried_again_even_if_none_was_in_use_before(tmp_path: Path) -> None:
    line = Line(tmp_path)
    copies = tmp_path / "state" / "again"

    class Crash(BaseException):
        pass

    def crash(path: Path) -> LoadedBundle:
        raise Crash

    slot = ModelSlot(tmp_path / "pill", copies, loader=crash, dispensable=True)
    attempt = slot._attempting
    slot._attempting = lambda target: _marked_for_good(attempt(target), copies)  # type: ignore[method-assign]
    with pytest.raises(Crash):
        slot.start()
    (copies / "attempt").write_text((copies / "kept").read_text())
    again = ModelSlot(tmp_path / "pill", copies, loader=crash, dispensable=True)
    assert "crashed the worker" in again.start().refused
    line.station.close()


def test_a_changed_bundle_is_looked_for_between_parts_and_not_while_one_is_judged(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A", product="chip")
    (tmp_path / "pill" / "SHA256SUMS").write_text("a newer one")
    assert line.judge("B", product="chip").state is State.GO
    assert not line.slots["pill"].loading
    line.station.idle()
    assert line.slots["pill"].loading


def test_the_code_on_a_picture_that_came_too_late_selects_no_product(tmp_path: Path) -> None:
    def load(path: Path) -> LoadedBundle:
        zone = CodeZone(kind="code", name="label", polygon=CORNER, pattern="(?P<product>[a-z]+)")
        identity = PartIdentity(product="pill", codes=("pill",))
        return replace(fake_model(path), recipe=Recipe(zones=(zone,)), identify=lambda _: identity)

    line = Line(tmp_path, load=load)
    line.judge("A", product="chip")
    shot = CameraPicture(trigger_id="B", timeout_s=0.1, came_s=0.0, window_s=1.0, recipe=Recipe())
    shot.acquired = Acquired(photograph=Photograph(fake_frame(1)), at=NOW)
    trigger, chip = Trigger(id="B", at=NOW, due_s=0.0), line.station.changeover.in_use()
    for problem, expected in ((CaptureError(Trouble.CAMERA_LOST, "silent"), "chip"), (None, "pill")):
        shot.problem = problem
        use = line.station._by_code(trigger, [shot], chip)
        assert use.product == expected
    assert [row.record.details["to"] for row in line.actions(SELECTED)] == ["chip", "pill"]


class _marked_for_good:  # noqa: N801  wraps a context manager
    def __init__(self, inner: object, copies: Path) -> None:
        self.inner, self.copies = inner, copies

    def __enter__(self) -> None:
        self.inner.__enter__()  # type: ignore[attr-defined]
        (self.copies / "kept").write_text((self.copies / "attempt").read_text())

    def __exit__(self, *why: object) -> object:
        return self.inner.__exit__(*why)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_beyond_the_memory_budget_the_longest_unused_product_is_unloaded_and_loaded_again_before_it_judges(
    tmp_path: Path,
) -> None:
    line: Line

    def resident() -> int:  # 100 MB for each loaded bundle
        return sum(100_000_000 for slot in line.slots.values() if slot.model is not None)

    line = Line.__new__(Line)
    line.__init__(tmp_path, extra="memory_mb = 250", resident=lambda: 0)  # type: ignore[misc]
    line.station.changeover._resident = resident
    line.judge("A", product="chip")
    line.judge("B", product="pill")
    line.station.changeover._keep_within_budget()
    assert [name for name in PRODUCTS if line.slots[name].model is None] == ["board"], "never used"
    answer = line.judge("C", product="board")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.MODEL)
    assert "memory_mb" in answer.reason
    line.idle_until(lambda: line.slots["board"].model is not None)
    assert [name for name in PRODUCTS if line.slots[name].model is None] == ["chip"], "unused for longest"
    again = line.judge("D", product="board")
    assert again.state is State.GO
    assert line.row(again).bundle_sha256 == line.sha256("board")
    assert "unloaded" in next(each.trouble for each in report_of(line.station).bundles if each.product == "chip")


@pytest.mark.slow
def test_the_selected_product_stays_loaded_however_small_the_budget(tmp_path: Path) -> None:
    line = Line(tmp_path, extra="memory_mb = 1", resident=lambda: 10**12)
    line.judge("A", product="chip")
    line.idle_until(lambda: line.slots["chip"].model is not None)
    assert line.judge("B", product="chip").state is State.GO
    assert line.judge("C").state is State.GO


def test_known_bad_parts_are_tested_for_each_product(tmp_path: Path) -> None:
    for product in ("chip", "pill"):
        (tmp_path / "known" / product).mkdir(parents=True)
        (tmp_path / "known" / product / "bad.png").write_bytes(images.encode_png(fake_frame(1, bad=product == "chip")))
    line = Line(tmp_path, extra='[challenge]\nevery_s = 60.0\ngrace_s = 30.0\npictures = "known"')
    line.judge("A", product="chip")
    line.moment += timedelta(seconds=61)
    line.station.idle()
    assert line.judge("B", product="chip").state is State.GO
    pill = line.judge("C", product="pill")
    assert pill.state is State.GO, "due, but within the grace period"
    line.station.idle()
    held = line.judge("D", product="pill")
    assert (held.state, held.cause) == (State.FAULT, Cause.CHALLENGE), "its known bad part passed"
    assert line.judge("E", product="chip").state is State.GO
    tests = [row.record.details for row in line.actions(CHALLENGE)]
    assert [(test["product"], test["passed"]) for test in tests] == [("chip", True), ("pill", False)]
    line.moment += timedelta(seconds=100)
    assert line.judge("F", product="board").cause is Cause.CHALLENGE, "it has no pictures: its test is overdue"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('bundle = "chip"', "expected either bundle or .products., found both"),
        (f'bundle_sha256 = "{"0" * 64}"', "bundle_sha256: expected none with .products."),
        ('[fleet]\nchannel = "c"\nfolder = "shelf"', "fleet: expected none with .products."),
        ("memory_mb = 0", "memory_mb"),
    ],
)
def test_settings_that_contradict_the_products_are_refused(tmp_path: Path, change: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        settings_of(tmp_path, extra=change)


@pytest.mark.parametrize("name", ["", "../chip", "a/b", ".hidden", "x" * 61])
def test_a_product_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        settings_of(tmp_path, products=(name,))


def test_each_camera_of_a_product_may_have_its_own_bundle(tmp_path: Path) -> None:
    text = """
station = "s1"
ledger = "s1.ledger"
state_dir = "state"
[products]
chip = { top = "chip-top", side = "chip-side" }
pill = "pill"
[[cameras]]
name = "top"
camera = { kind = "fake", pictures = "photos" }
[[cameras]]
name = "side"
camera = { kind = "fake", pictures = "photos" }
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
"""
    found = parse_settings(text, folder=tmp_path).sources()
    assert found["chip"] == (tmp_path / "chip-top", tmp_path / "chip-side")
    assert found["pill"] == (tmp_path / "pill", tmp_path / "pill")
    with pytest.raises(InputError, match=r"products\.chip: expected one bundle for each camera"):
        parse_settings(text.replace(', side = "chip-side"', ""), folder=tmp_path)


def test_real_bundles_are_built_from_the_settings_and_their_copies_belong_to_the_product(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, products=("chip", "pill"))
    for name in ("chip", "pill"):
        write_fake_bundle(tmp_path / name, name=f"{name}-7")
    station = build_station(settings)
    swaps = station.changeover.start(within_s=60)
    assert [swap.refused for swap in swaps] == ["", ""]
    names = {bundle.product: bundle.name for bundle in report_of(station).bundles}
    assert names == {"chip": "chip-7", "pill": "pill-7"}
    other = build_station(settings_of(tmp_path, products=("pill", "chip")))
    write_fake_bundle(tmp_path / "other")
    (tmp_path / "pill" / "SHA256SUMS").write_text("damaged")
    other.changeover.start(within_s=60)
    names = {bundle.product: bundle.name for bundle in report_of(other).bundles}
    assert names == {"chip": "chip-7", "pill": "pill-7"}, "the last good copy of its own product"


# --- status, metrics and the shift report


def test_status_metrics_and_shift_report_are_by_product(tmp_path: Path) -> None:
    line = Line(tmp_path)
    metrics = Metrics("s1")
    for number, product in enumerate(["chip", "pill", "chip", "screw"]):
        metrics.answered(line.judge(f"A{number}", product=product), 1.0)
    state = StationState(
        health=Health.RUNNING,
        worker_pid=1,
        report=report_of(line.station),
        faulting="",
        alarms=(),
        waiting=0,
        unrecorded=0,
    )
    status = snapshot(line.settings, metrics, state, free_bytes=10**9)
    assert (status["products"], status["product"], status["selected_by"]) == (list(PRODUCTS), "chip", "trigger")
    text = exposition(metrics, state, free_bytes=1)
    assert 'product_answers_total{product="chip",state="go",station="s1"} 2.0' in text
    period = gather(line.settings.ledger)
    assert {tally.name: tally.parts for tally in period.products} == {"chip": 2, "pill": 1, "screw": 1}
    assert period.switches == 3
    write_shift_page(period, line.settings.ledger, tmp_path / "shift.html")
    assert "<h3>Products</h3>" in (tmp_path / "shift.html").read_text()


@pytest.mark.slow
def test_the_command_selects_a_product_and_refuses_one_that_the_station_does_not_have(tmp_path: Path) -> None:
    line = Line(tmp_path)
    toml = tmp_path / "station.toml"
    toml.write_text(text_of_settings())
    done = CliRunner().invoke(app, ["station", "select", str(toml), "pill", "--who", "A. Frueh"])
    assert done.exit_code == 0, done.output
    line.station.idle()
    assert (line.station.changeover.current, line.station.changeover.by) == ("pill", "person")
    wrong = CliRunner().invoke(app, ["station", "select", str(toml), "screw", "--who", "A. Frueh"])
    assert isinstance(wrong.exception, InputError)
    assert "chip, pill, board" in str(wrong.exception)
