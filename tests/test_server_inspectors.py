"""The list of inspectors: quality, data, notes, archive; an archived one is never in use, whoever acts at once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from gonogo import bundle
from gonogo.ledger import Where
from gonogo.manifest import DataRevision
from gonogo.server.catalogue import LONGEST_NOTE
from gonogo.server.signatures import Signer
from server_kit import XSS, Browser, text_of
from shadow_kit import NEW, OLD, open_app, set_point, two_inspectors


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inspectors") / "plant"
    space = two_inspectors(root)
    shutil.rmtree(space.datasets / "tiny" / "images")
    return root


@pytest.fixture
def app(template: Path, tmp_path: Path) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant")
    made = open_app(tmp_path / "plant")
    yield made
    made.state.components.shadows.close()
    made.state.components.worker.close()


def browse(app: FastAPI, name: str = "engineer", **more: Any) -> Browser:
    browser = Browser(app, **more)
    browser.login(name)
    return browser


def told(browser: Browser, path: str = "/inspectors") -> str:
    return text_of(browser.get(path)).replace("\N{NO-BREAK SPACE}", " ")


def actions(app: FastAPI, action: str) -> list[Any]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.record for row in ledger.actions(Where(action=action))]


@pytest.mark.slow
def test_the_list_says_how_good_each_is_what_it_promises_and_what_it_learned_from(app: FastAPI) -> None:
    path = app.state.components.workspace.bundles / OLD
    revision = DataRevision(dataset="tiny", number=7, sha256="0" * 64)
    manifest = bundle.read_bundle(path).manifest
    bundle.write_manifest(path, manifest.model_copy(update={"data_revision": revision}))
    shown = told(browse(app))
    assert "94." in shown, "AUROC on the test split of its training run"
    assert "at most 10 % of bad parts pass" in shown
    assert "tiny , revision 7" in shown
    assert shown.index(OLD) < shown.index(NEW), "the one in use comes first"
    one = told(browse(app, accept_language="de"), f"/inspectors/{OLD}")
    assert "An 30 guten und 30 schlechten Testteilen" in one
    assert "im Einsatz" in one
    assert "Archivieren" not in one, "not while it is in use"


def test_notes_say_who_wrote_them_when_and_are_kept(app: FastAPI) -> None:
    anna, admin = browse(app), browse(app, "admin")
    anna.post(f"/inspectors/{NEW}/note", text="  for line 2  ")
    admin.post(f"/inspectors/{NEW}/note", text="scratches of week 47")
    shown = told(anna, f"/inspectors/{NEW}")
    assert shown.index("scratches of week 47") < shown.index("for line 2"), "the latest first"
    assert "engineer for line 2" in shown
    assert "scratches of week 47" in told(anna)
    for text in ("   ", "x" * (LONGEST_NOTE + 1)):
        anna.post(f"/inspectors/{NEW}/note", text=text)
        assert "A note has 1 to 2000 characters" in told(anna, f"/inspectors/{NEW}")
    assert [each.details["text"] for each in actions(app, "inspector_note")] == ["for line 2", "scratches of week 47"]
    assert browse(app, "auditor").post(f"/inspectors/{NEW}/note", text="x").status_code == 403
    assert "for line 2" in told(browse(app, "auditor"), f"/inspectors/{NEW}")


def test_a_note_comes_out_as_text(app: FastAPI) -> None:
    anna = browse(app)
    for text in XSS:
        app.state.components.catalogue.note(NEW, text, text)
    for path in ("/inspectors", f"/inspectors/{NEW}"):
        shown = anna.get(path).text
        assert not any(each in shown for each in ("<script>window.pwned", "<img src=x", "<svg onload", "<iframe"))


@pytest.mark.slow
def test_an_archived_inspector_is_hidden_cannot_be_used_and_comes_back(app: FastAPI) -> None:
    space, anna = app.state.components.workspace, browse(app)
    anna.post(f"/inspectors/{OLD}/archive")
    assert "is in use. Deploy another one first." in told(anna)
    assert anna.post(f"/inspectors/{NEW}/archive").headers["location"] == "/inspectors"
    assert "Archived (1)" in told(anna)
    for path in ("/inspectors", "/", "/compare", "/shadow"):
        assert NEW not in told(anna, path).replace(f"{NEW} is archived", ""), path
    assert NEW in told(anna, "/inspectors?archived=true")
    anna.post("/deploy", inspector=NEW)
    assert "is archived. Restore it first." in told(anna)
    assert space.active_bundle() == space.bundles / OLD
    assert (space.bundles / NEW).is_dir(), "nothing is deleted"
    anna.post(f"/inspectors/{NEW}/archive")
    assert "is archived already" in told(anna)
    anna.post(f"/inspectors/{NEW}/restore")
    assert NEW in told(anna)
    anna.post(f"/inspectors/{NEW}/restore")
    assert "is not archived" in told(anna)
    assert [each.who for name in ("inspector_archived", "inspector_restored") for each in actions(app, name)] == [
        "engineer",
        "engineer",
    ]
    assert anna.post("/deploy", inspector=NEW).status_code == 303
    assert space.active_bundle() == space.bundles / NEW


def test_one_who_archives_and_one_who_deploys_at_once_never_leave_an_archived_one_in_use(app: FastAPI) -> None:
    space, catalogue = app.state.components.workspace, app.state.components.catalogue
    people = browse(app), browse(app, "admin")
    for _ in range(4):
        gate = threading.Barrier(2)

        def archive(gate: threading.Barrier = gate) -> None:
            gate.wait()
            people[0].post(f"/inspectors/{NEW}/archive")

        def deploy(gate: threading.Barrier = gate) -> None:
            gate.wait()
            people[1].post("/deploy", inspector=NEW)

        threads = [threading.Thread(target=each) for each in (archive, deploy)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        active = space.active_bundle()
        assert active is not None
        assert active.name not in catalogue.archived()
        if NEW in catalogue.archived():
            catalogue.restore(NEW, "anna")
        catalogue.deploy(OLD, Signer(who="anna"))


def test_the_candidate_of_a_trial_is_not_archived(app: FastAPI) -> None:
    anna = browse(app)
    anna.post("/shadow/start", candidate=NEW, max_bad_flips="0.01")
    anna.post(f"/inspectors/{NEW}/archive")
    assert "judges silently. Stop that first." in told(anna)
    assert app.state.components.catalogue.archived() == frozenset()


def test_a_damaged_inspector_is_listed_and_can_be_archived(app: FastAPI) -> None:
    path, anna = app.state.components.workspace.bundles / NEW, browse(app)
    (path / "inspector.json").write_text("{}")
    assert "damaged" in told(anna)
    assert "It cannot be used." in told(anna, f"/inspectors/{NEW}")
    assert anna.post(f"/inspectors/{NEW}/archive").headers["location"] == "/inspectors"
    assert NEW not in told(anna, "/compare")
    anna.post("/inspectors/none.inspector/note", text="x")
    assert "There is no inspector none.inspector" in told(anna)
    assert anna.get("/inspectors/none.inspector").status_code == 422
    set_point(app.state.components.workspace.bundles / OLD, go_below=1.0, no_go_above=2.0)
    assert "at most 10" in told(anna)
