"""The page of a part, the search for parts, the proof of the chain, exports, and the index behind them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.bundle import read_bundle
from gonogo.errors import LedgerError
from gonogo.ledger import Action, Ledger, RowKind, Tombstone, VerdictRecord, publish_anchor, verify
from gonogo.progress import reported_to, track
from gonogo.schema import Label, State
from gonogo.server import Workspace
from gonogo.server.access import Role
from gonogo.server.components import Components
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.part_page.code import qr_code
from gonogo.server.records.exports import Exports
from gonogo.server.records.row_index import RowIndex, Wanted
from gonogo.server.records.tables import ACTION_COLUMNS, VERDICT_COLUMNS
from server_kit import XSS, Browser, add_person, fill, make_app, record, record_fault, text_of

FORMULA = '=HYPERLINK("http://evil.example","x")'


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that tests of this module copy; see `server_kit.fill`."""
    root = tmp_path_factory.mktemp("parts") / "workspace"
    fill(Workspace.open(root))
    return root


@pytest.fixture
def app(filled: Path, tmp_path: Path) -> Any:

    shutil.copytree(filled, tmp_path / "workspace")
    made = make_app(tmp_path / "workspace")
    yield made
    made.state.components.close()


@pytest.fixture
def ledger_pool(tmp_path: Path) -> Any:
    opened = LedgerPool.open(tmp_path / "line.ledger")
    yield opened
    opened.close()


def browser_of(app: FastAPI, role: Role) -> Browser:
    browser = Browser(app)
    browser.login(role.value)
    return browser


def components_of(app: FastAPI) -> Components:
    components: Components = app.state.components
    return components


def add_part(pool: LedgerPool, number: int, **more: Any) -> int:
    """A part without a picture; returns its row."""
    with Ledger.open(pool.path) as ledger:
        values: dict[str, Any] = {
            "station": "line-1",
            "trigger_id": f"t{number}",
            "part": f"P-{number:04d}",
            "state": State.FAULT,
            "cause": "no_frame",
            "score": None,
            "reason": "no picture",
            "triggered_at": datetime.now(UTC),
        }
        return ledger.append_verdict(VerdictRecord(**{**values, **more})).seq


def finished(browser: Browser, number: int = 1) -> bytes:
    """Wait for an export and download it."""
    for _ in range(1200):
        if not browser.client.get("/export/state").json()["busy"]:
            break
        time.sleep(0.05)
    answer = browser.client.get(f"/export/{number}/file")
    assert answer.status_code == 200, text_of(browser.get("/export"))
    assert answer.headers["content-disposition"].startswith("attachment")
    content: bytes = answer.content
    return content


def verified(browser: Browser, anchors: str = "") -> str:
    """Verify the whole chain and return what the page then says."""
    assert browser.call("/chain/verify", {"anchors": anchors}).status_code == 200
    for _ in range(1200):
        said = browser.client.get("/chain?seq=2").json()
        if not said["busy"]:
            return " ".join(re.sub("<[^>]*>", " ", said["html"]).split())
        time.sleep(0.05)
    raise AssertionError(said)


# The index


def test_the_index_finds_words_anywhere_and_combines_them_with_filters(ledger_pool: LedgerPool, tmp_path: Path) -> None:
    rows = [
        add_part(ledger_pool, 1, lot="L-7", product="chip", serial="00417", codes=("01040\x1d21ABC",)),
        add_part(ledger_pool, 2, lot="L-7", station="line-2", part="100% _odd_"),
        add_part(ledger_pool, 3, lot="L-8", cause="camera_lost"),
    ]
    done = ledger_pool.act("deploy", "Anna", bundle="chip.inspector", about=rows[0]).seq
    index = RowIndex(tmp_path / "cache" / "rows.db", ledger_pool)
    assert index.update() == 0

    def found(text: str, kind: RowKind = RowKind.VERDICT, **more: Any) -> list[int]:
        wanted = Wanted(kind=kind, text=text, **more)
        numbers = index.find(wanted, limit=10)
        assert index.count(wanted) == len(numbers)
        return numbers

    assert found("") == rows[::-1]
    assert found("p-000") == [rows[2], rows[0]]
    assert found("l-7 chip") == [rows[0]]
    assert found("41") == [rows[0]], "shorter than three characters"
    assert found("4021AB") == [rows[0]], "a scanner leaves the separator out"
    assert found("0% _o") == [rows[1]], "no wildcards"
    assert found("%") == [rows[1]]
    assert found('"') == found("x" * 500) == []
    assert found("L-7", station="line-2") == [rows[1]]
    assert found("camera") == [rows[2]]
    assert found("", state=State.GO) == []
    assert found("", until=datetime.now(UTC) - timedelta(days=1)) == []
    assert found("chip.ins", RowKind.ACTION) == found("", RowKind.ACTION, who="Anna") == [done]
    assert index.find(Wanted(kind=RowKind.VERDICT), after=rows[0], limit=1, newest_first=False) == [rows[1]]
    assert index.find(Wanted(kind=RowKind.VERDICT), before=rows[1], limit=9) == [rows[0]]
    assert index.choices("station") == ["line-1", "line-2"]
    assert index.choices("product") == ["chip"]
    assert index.one_part("00417") == index.one_part("T1") == index.one_part("0104021abc") == rows[0]
    assert index.one_part("nothing") is None
    index.close()


def test_a_name_of_several_parts_leads_to_none_and_one_of_a_part_seen_twice_to_its_last_row(
    ledger_pool: LedgerPool, tmp_path: Path
) -> None:
    add_part(ledger_pool, 1, part="A", trigger_id="x", station="one")
    add_part(ledger_pool, 2, part="B", trigger_id="x", station="two")
    add_part(ledger_pool, 3, part="C", lot="L-1")
    last = add_part(ledger_pool, 4, part="C", lot="L-1")
    index = RowIndex(tmp_path / "rows.db", ledger_pool)
    index.update()
    assert index.one_part("x") is None
    assert index.one_part("c") == last
    add_part(ledger_pool, 5, part="C", lot="L-2")
    index.update()
    assert index.one_part("C") is None
    index.close()


def test_the_index_goes_on_after_a_restart_and_starts_again_for_another_ledger_or_a_damaged_file(
    ledger_pool: LedgerPool, tmp_path: Path
) -> None:
    path, every = tmp_path / "rows.db", Wanted(kind=RowKind.VERDICT)
    for number in range(3):
        add_part(ledger_pool, number)
    index = RowIndex(path, ledger_pool)
    assert index.update(most=2) == 4, "too many for a page: nothing is read"
    assert index.find(every, limit=9) == []
    index.update()
    index.close()
    add_part(ledger_pool, 3)
    index = RowIndex(path, ledger_pool)
    assert index.update(most=1) == 0
    assert len(index.find(every, limit=9)) == 4
    index.close()

    other = LedgerPool.open(tmp_path / "other.ledger")
    add_part(other, 9, part="other")
    index = RowIndex(path, other)
    index.update()
    assert index.count(every) == 1
    index.close()
    other.close()
    path.write_bytes(b"no database" * 1000)
    index = RowIndex(path, ledger_pool)
    index.update()
    assert index.count(every) == 4
    index.close()


def test_reading_into_the_index_can_be_stopped_and_loses_nothing(ledger_pool: LedgerPool, tmp_path: Path) -> None:
    with Ledger.open(ledger_pool.path) as ledger, ledger.writing():
        for number in range(1100):
            ledger._append(RowKind.ACTION, Action(action="label", who=f"person {number}"))
    index = RowIndex(tmp_path / "rows.db", ledger_pool)

    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.update(step=stop)
    assert index.read_up_to() == 1000
    assert index.update() == 0
    assert index.count(Wanted(kind=RowKind.ACTION)) == 1100
    index.close()


def test_progress_is_reported_to_a_function_within_its_block_only() -> None:
    steps: list[tuple[int, int]] = []
    with reported_to(lambda done, total: steps.append((done, total))):
        assert list(track("ab", "letters")) == ["a", "b"]
    assert list(track("cd", "letters")) == ["c", "d"]
    assert steps == [(0, 2), (1, 2)]


# Search


@pytest.mark.slow
def test_a_part_is_found_by_name_trigger_row_address_and_verdict(app: FastAPI) -> None:
    browser = browser_of(app, Role.OPERATOR)
    everything = browser.get("/parts")
    assert "14 parts, the newest first" in text_of(everything)
    assert browser.get("/parts?text=p-0003").headers["location"] == "/parts/5"
    assert browser.get("/parts?text=t3").headers["location"] == "/parts/5"
    scanned = browser.get("/parts?text=https%3A%2F%2Fgonogo.plant.example%3A8000%2Fparts%2F7")
    assert scanned.headers["location"] == "/parts/7"
    by_number = browser.get("/parts?text=5").text
    assert 'href="/parts/5"' in by_number
    assert browser.get("/parts?verdict=fault").text.count("<tr>") == 1 + 1
    today = datetime.now().astimezone().date()
    assert browser.get(f"/parts?since={today}&until={today}").text.count("<tr>") == 1 + 14
    assert "Nothing found" in text_of(browser.get(f"/parts?until={today - timedelta(days=1)}"))
    assert "Export these parts" not in text_of(everything), "an operator may not export"
    for wrong in ("since=soon", "since=0001-01-01", "until=9999-12-31", f"since={today}&until=2020-01-01"):
        assert browser.get(f"/parts?{wrong}").status_code in (200, 422)


@pytest.mark.slow
def test_the_results_turn_pages_and_keep_the_search(app: FastAPI) -> None:
    pool = components_of(app).ledger_pool
    for number in range(100, 160):
        add_part(pool, number, lot="big & small")
    browser = browser_of(app, Role.ENGINEER)
    newest = browser.get("/parts?text=big")
    assert newest.text.count("<tr>") == 1 + 50
    older = re.search(r'rel="next" href="(\?[^"]+)"', newest.text)
    assert older is not None
    second = browser.get("/parts" + older[1].replace("&amp;", "&"))
    assert second.text.count("<tr>") == 1 + 10
    assert "60 parts" in text_of(second)


def test_an_empty_workspace_says_that_there_are_no_parts_yet(tmp_path: Path) -> None:
    browser = browser_of(make_app(tmp_path / "workspace"), Role.OPERATOR)
    assert "No parts yet" in text_of(browser.get("/parts"))
    assert browser.get("/parts/1").status_code == 404, "the opening record is no part"
    assert browser.get("/parts/99").status_code == 404


# The page of a part


def test_the_page_answers_why_a_part_passed(app: FastAPI) -> None:
    page = text_of(browser_of(app, Role.OPERATOR).get("/parts/2"))
    assert re.search(r"Go Its score of \d+\.\d+ is below the limit for go, 85\.000\.", page)
    assert "The record of this part is unchanged" in page
    assert "The picture of camera main is the one that was judged" in page
    assert "Engineers and auditors can verify the whole chain here." in page
    assert "Verify the whole chain" not in page


def test_decisions_undone_ones_and_other_verdicts_are_told_in_order(app: FastAPI) -> None:
    pool = components_of(app).ledger_pool
    pool.act("review", "Bertram", about=4, label=Label.GOOD)
    pool.act("review", "Bertram", about=4)
    pool.act("review", "Chiara", about=4, label=Label.BAD, defect="scratch")
    again = add_part(pool, 77, part="P-0002", lot="L-7")
    browser = browser_of(app, Role.ENGINEER)
    page = browser.get("/parts/4")
    told = text_of(page)
    assert told.index("Bertram decided: good") < told.index("Bertram took the decision back")
    assert told.index("took the decision back") < told.index("Chiara decided: bad")
    assert "Review, decided by a person: bad" in told
    assert f'href="/parts/{again}"' in page.text
    assert 'href="/parts/4"' in browser.get(f"/parts/{again}").text
    components_of(app).review.collector.run(at_once=True)
    assert re.search(r"Its picture is in these data sets: reviewed \(train\)", text_of(browser.get("/parts/4")))


def test_whoever_is_asked_about_a_part_does_not_see_what_others_decided(app: FastAPI) -> None:
    browser = browser_of(app, Role.REVIEWER)
    dealt = browser.call("/review/deal", {"want": 1, "holding": []}).json()["items"][0]
    assert '/part"' in dealt["facts"]
    address = browser.get(f"/review/{dealt['ticket']}/part").headers["location"]
    components_of(app).ledger_pool.act("review", "Chiara", about=int(address.rsplit("/")[-1]), label=Label.BAD)
    asked, other = text_of(browser.get(address)), text_of(browser_of(app, Role.ENGINEER).get(address))
    assert "You have been asked about this part" in asked
    assert "Chiara" not in asked
    assert "Chiara decided: bad" in other
    assert browser.get("/review/none/part").status_code == 404


def test_a_deleted_picture_is_told_from_a_lost_and_from_a_changed_one(app: FastAPI) -> None:
    pool = components_of(app).ledger_pool
    with Ledger.open(pool.path) as ledger:
        digests = {}
        for seq in (2, 3, 4):
            row = ledger.row(seq)
            assert row is not None
            assert isinstance(row.record, VerdictRecord)
            digests[seq] = str(row.record.views[0].frame_sha256)
        ledger.append_tombstone(Tombstone(frames_sha256=(digests[2],), policy="30 days", who="gonogo"))
        for seq in (2, 3):
            ledger.frames.remove(digests[seq])
        ledger.frames.path(digests[4]).write_bytes(b"another picture")
    browser = browser_of(app, Role.AUDITOR)
    assert "as the retention policy says" in text_of(browser.get("/parts/2"))
    assert "no deletion was recorded" in text_of(browser.get("/parts/3"))
    assert "The picture of camera main was changed after it was stored." in text_of(browser.get("/parts/4"))


@pytest.mark.slow
def test_every_kind_of_verdict_has_a_page_and_names_that_are_markup_stay_text(app: FastAPI) -> None:
    pool, browser = components_of(app).ledger_pool, browser_of(app, Role.ADMIN)
    name = XSS[1]
    seq = add_part(pool, 500, part=name, lot=name, serial=name, codes=(name, "\x1d01"), product=name, station=name)
    pool.act("review", name, about=seq, label=Label.BAD, defect=name)
    for path in (f"/parts/{seq}", "/parts", "/parts?product=" + "x", "/audit", "/export", "/parts/14", "/parts/15"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "<img src=x" not in answer.text


def test_the_code_on_the_page_says_its_address() -> None:
    zxingcpp = pytest.importorskip("zxingcpp")
    code = qr_code("https://gonogo.plant.example/parts/417")
    assert code is not None
    picture = np.full((code.side, code.side), 255, np.uint8)
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", code.path):
        picture[int(y), int(x) : int(x) + int(width)] = 0
    (read,) = zxingcpp.read_barcodes(np.kron(picture, np.ones((4, 4), np.uint8)))
    assert read.text == "https://gonogo.plant.example/parts/417"


# The chain


def test_an_intact_chain_is_verified_and_recorded_and_what_was_not_verified_is_said(app: FastAPI) -> None:
    browser = browser_of(app, Role.AUDITOR)
    said = verified(browser)
    assert "Verified: rows 1 to" in said
    assert "This row is one of them." in said
    assert "Only an anchor that was kept elsewhere shows that." in said
    with components_of(app).ledger_pool.reading() as ledger:
        last = list(ledger.actions())[-1].record
    assert (last.action, last.who, last.details["findings"]) == ("chain_verified", "auditor", 0)
    restarted = components_of(app).records.chain.latest()
    assert restarted is not None
    assert restarted.who == "auditor"


def test_anchors_that_were_kept_elsewhere_are_compared(app: FastAPI, tmp_path: Path) -> None:
    with Ledger.open(components_of(app).ledger_pool.path) as ledger:
        publish_anchor(ledger, tmp_path / "anchors")
    lines, browser = (tmp_path / "anchors").read_text(), browser_of(app, Role.ENGINEER)
    assert "Compared with 1 anchor that was kept elsewhere" in verified(browser, lines)
    forged = json.dumps({**json.loads(lines), "sha256": "0" * 64})
    assert "1 finding: the ledger was changed" in verified(browser, forged)
    assert browser.call("/chain/verify", {"anchors": "no anchors"}).status_code == 422


def test_an_edited_row_is_found_on_its_page_and_in_the_chain(filled: Path, tmp_path: Path) -> None:

    import apsw

    root = tmp_path / "workspace"
    shutil.copytree(filled, root)
    path = Workspace.open(root).ledger
    connection = apsw.Connection(str(path))
    ((trigger,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'entries_no_update'").fetchall()
    connection.execute("DROP TRIGGER entries_no_update")
    connection.execute("UPDATE entries SET body = replace(body, 'P-0001', 'P-9999') WHERE seq = 3")
    connection.execute(str(trigger))
    connection.close()
    assert verify(path)
    app = make_app(root)
    browser = browser_of(app, Role.AUDITOR)
    page = text_of(browser.get("/parts/3"))
    assert "The record of this part was changed, or the rows beside it were." in page
    assert "The content of row 3 does not match its hash: it was edited." in page
    assert "The record of this part is unchanged" in text_of(browser.get("/parts/5"))
    assert "row 3 does not match its hash" in verified(browser)
    app.state.components.close()


# Exports


def test_a_table_of_verdicts_carries_decisions_and_no_formula_and_is_recorded(app: FastAPI) -> None:
    pool = components_of(app).ledger_pool
    pool.act("review", FORMULA, about=4, label=Label.BAD, defect="@scratch")
    seq = add_part(pool, 300, part=FORMULA, codes=("a", "b"))
    browser = browser_of(app, Role.AUDITOR)
    assert browser.post("/export/table", kind="verdicts").headers["location"] == "/export"
    content = finished(browser)
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(content.decode()))}
    assert tuple(next(iter(rows.values()))) == VERDICT_COLUMNS
    assert len(rows) == 15
    assert rows["4"]["decision"] == "bad"
    assert rows["4"]["decided_by"] == f"'{FORMULA}"
    assert rows["4"]["decision_defect"] == "'@scratch"
    assert rows[str(seq)]["part"] == f"'{FORMULA}"
    assert json.loads(rows[str(seq)]["codes"]) == ["a", "b"]
    with pool.reading() as ledger:
        last = list(ledger.actions())[-1].record
    assert last.action == "export"
    assert last.details["sha256"] == hashlib.sha256(content).hexdigest()
    assert last.details["what"] == "kind=verdicts"


def test_the_audit_log_is_exported_as_lines_of_json_within_its_filters(app: FastAPI) -> None:
    pool = components_of(app).ledger_pool
    pool.act("review", "Anna", about=4, label=Label.GOOD)
    pool.act("deploy", "Anna", bundle="x")
    browser = browser_of(app, Role.ENGINEER)
    browser.post("/export/table", kind="actions", table_format="jsonl", who="Anna", text="row 4")
    lines = [json.loads(line) for line in finished(browser).decode().splitlines()]
    assert [tuple(line) for line in lines] == [ACTION_COLUMNS]
    assert (lines[0]["about_row"], lines[0]["part"], lines[0]["label"]) == (4, "P-0002", "good")
    today = datetime.now().astimezone().date()
    browser.post("/export/table", kind="actions", since=str(today + timedelta(days=1)))
    assert finished(browser, 2).decode().splitlines() == [",".join(ACTION_COLUMNS)]


@pytest.mark.slow
def test_an_inspector_is_exported_sealed_and_a_data_set_and_a_shift_report_too(app: FastAPI, tmp_path: Path) -> None:
    browser = browser_of(app, Role.ENGINEER)
    browser.post("/export/inspector", bundle="tiny.inspector")
    browser.post("/export/labels", dataset="tiny", label_format="coco", labels_only="true")
    today = datetime.now().astimezone().date()
    browser.post("/export/shift", day=str(today), shift="day")
    shift = finished(browser, 3)
    if datetime.now().astimezone().date() == today:
        assert b"<!doctype html>" in shift[:200].lower()
    with zipfile.ZipFile(io.BytesIO(finished(browser, 1))) as archive:
        archive.extractall(tmp_path / "elsewhere")
    opened = read_bundle(tmp_path / "elsewhere" / "tiny.inspector")
    assert opened.sha256 == read_bundle(components_of(app).workspace.bundles / "tiny.inspector").sha256
    with zipfile.ZipFile(io.BytesIO(finished(browser, 2))) as archive:
        assert any(name.endswith(".json") for name in archive.namelist())


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/export/inspector", {"bundle": "../tiny.inspector"}),
        ("/export/labels", {"dataset": "none", "label_format": "coco"}),
        ("/export/labels", {"dataset": "tiny", "label_format": "pickle"}),
        ("/export/shift", {"day": "", "shift": "day"}),
        ("/export/shift", {"day": "2026-01-31", "shift": "never"}),
        ("/export/table", {"kind": "dataset"}),
        ("/export/table", {"kind": "verdicts", "since": "2026-13-01"}),
    ],
)
def test_what_cannot_be_exported_is_refused_on_the_page(app: FastAPI, path: str, fields: dict[str, str]) -> None:
    browser = browser_of(app, Role.ENGINEER)
    browser.get("/export")
    assert browser.post(path, **fields).status_code == 303
    assert 'class="toast failed"' in browser.get("/export").text
    assert components_of(app).records.exports.of("engineer") == []


def test_everybody_gets_their_own_exports_and_they_are_there_after_a_restart(app: FastAPI, tmp_path: Path) -> None:
    one, other = browser_of(app, Role.AUDITOR), browser_of(app, Role.ENGINEER)
    one.post("/export/table", kind="verdicts", verdict="fault")
    other.post("/export/table", kind="verdicts", verdict="go")
    mine, theirs = finished(one, 1), finished(other, 2)
    assert mine != theirs
    assert one.client.get("/export/2/file").status_code == 404
    components = components_of(app)
    again = Exports(
        tmp_path / "workspace" / "cache" / "exports",
        components.records.worker,
        workspace=components.workspace,
        ledger_pool=components.ledger_pool,
        index=components.records.index,
        datasets=components.datasets,
        decisions=components.review.decisions,
        signatures=components.signatures,
    )
    assert [each.number for each in again.of("auditor")] == [1]
    found = again.file(1, "auditor")
    assert found is not None
    assert found[0].read_bytes() == mine
    (tmp_path / "workspace" / "cache" / "exports" / "0003").mkdir()
    assert [each.number for each in again.of("engineer")] == [2]


def test_an_export_that_cannot_be_recorded_leaves_nothing(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(*_: Any, **__: Any) -> None:
        raise LedgerError("the disk is full")

    browser = browser_of(app, Role.ENGINEER)
    monkeypatch.setattr(components_of(app).ledger_pool, "act", full)
    browser.post("/export/table", kind="verdicts")
    for _ in range(1200):
        if not browser.client.get("/export/state").json()["busy"]:
            break
        time.sleep(0.05)
    assert "the disk is full" in text_of(browser.get("/export"))
    assert browser.client.get("/export/1/file").status_code == 404
    assert not list((components_of(app).workspace.root / "cache" / "exports").glob("*/*"))


def test_a_person_cannot_queue_exports_without_end(app: FastAPI) -> None:

    stop = threading.Event()
    components_of(app).records.worker.submit("wait", "waiting", lambda _: bool(stop.wait(60)) and None)
    browser = browser_of(app, Role.ENGINEER)
    for _ in range(6):
        browser.post("/export/table", kind="actions")
    assert len(components_of(app).records.exports.of("engineer")) == 4
    assert "Several of your exports are not finished yet" in text_of(browser.get("/export"))
    stop.set()


def test_the_columns_of_the_tables_are_documented() -> None:
    page = Path(__file__).parents[1] / "docs" / "parts.md"
    told = set(re.findall(r"`(\w+)`", page.read_text("utf-8")))
    assert {*VERDICT_COLUMNS, *ACTION_COLUMNS} <= told


# The audit log


def test_the_audit_log_searches_and_leads_to_the_part(app: FastAPI) -> None:
    components_of(app).ledger_pool.act("review", "Anna", about=4, label=Label.BAD, defect="hairline")
    add_person(app, "Zoe", Role.AUDITOR)
    browser = browser_of(app, Role.AUDITOR)
    page = browser.get("/audit?text=hairl").text
    assert page.count("<tr>") == 1 + 1
    assert 'href="/parts/4"' in page
    assert "kind=actions&amp;text=hairl" in page
    tomorrow = datetime.now().astimezone().date() + timedelta(days=1)
    assert "Nothing found" in text_of(browser.get(f"/audit?since={tomorrow}"))


def test_the_station_and_the_faults_lead_to_their_parts(app: FastAPI) -> None:
    pool = components_of(app).ledger_pool
    with Ledger.open(pool.path) as ledger:
        record_fault(ledger, 900)
        record(ledger, 901, 60.0, rng=np.random.default_rng(1))
        head = ledger.head().seq
    page = browser_of(app, Role.OPERATOR).get("/station").text
    assert f'href="/parts/{head - 1}"' in page
