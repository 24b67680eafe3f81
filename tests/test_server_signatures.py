"""Who signs: personal keys, and changes of what decides about parts that people sign on the pages."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from fastapi import FastAPI

import command_kit as kit
from gonogo import bundle, signing
from gonogo.certification import recertify
from gonogo.dataset import Dataset
from gonogo.inspector import Inspector
from gonogo.ledger import Action, Ledger, Where, verify
from gonogo.operating_point import Promise
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.auth.directory import DirectoryDownError
from gonogo.server.auth.signing_keys import LockedKey
from gonogo.server.background_work import WorkKind, WorkState
from gonogo.server.backup import back_up, restore
from gonogo.server.database import MIGRATIONS, Database
from gonogo.server.records.tables import VERDICT_COLUMNS, verdict_rows
from gonogo.server.work.board import TASK
from gonogo.signed_actions import KEY_MADE, KEY_REVOKED, SIGNED, SignatureCheck
from gonogo.signing import SignaturePolicy, SigningKey, Use
from server_kit import (
    PASSPHRASE,
    PASSWORD,
    SIGNATURE,
    WEAK_HASHER,
    XSS,
    Browser,
    Clock,
    fill,
    give_key,
    make_app,
    text_of,
)
from shadow_kit import NEW, OLD, set_point
from test_server_understand import work_done

LIMITS = {"max_escape": 0.15, "max_overkill": 0.15, "bad_share": 0.05}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`OLD` is in use and certified; `NEW` has the same graph and other limits."""
    space = Workspace.open(tmp_path_factory.mktemp("signatures") / "plant")
    fill(space, parts=4)
    path = space.bundles / OLD
    shutil.copytree(path, space.bundles / NEW)
    set_point(space.bundles / NEW, go_below=89.0, no_go_above=105.0)
    promise = Promise(max_escape=0.1, max_overkill=0.1, guard=None)
    recertify(Inspector.load(path), Dataset.read(space.datasets / "tiny"), promise)
    first = make_app(space.root)
    work_done(first)  # judges the labelled pictures once for all tests
    first.state.components.close()
    for file in space.root.glob("server.db*"):
        file.unlink()
    return space.root


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(template: Path, tmp_path: Path, clock: Clock) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant")
    made = make_app(tmp_path / "plant", clock=clock)
    yield made
    made.state.components.worker.close()


@pytest.fixture
def strict_app(template: Path, tmp_path: Path) -> Iterator[FastAPI]:
    """A workspace that requires signatures, with an empty trust store."""
    shutil.copytree(template, tmp_path / "plant")
    space = Workspace.open(tmp_path / "plant")
    policy = SignaturePolicy(required=True, trust_store=tmp_path / "trust.json")
    options = Options(hasher=WEAK_HASHER, now=Clock(), names=("testserver",))
    made = create_app(replace(space, signatures=policy), options=options)
    for role in Role:
        people = made.state.components.accounts.people
        user, password = people.add(role.value, role)
        people.change_password(user, password, PASSWORD)
    yield made
    made.state.components.worker.close()


def browse(app: FastAPI, name: str = "engineer", **more: Any) -> Browser:
    browser = Browser(app, **more)
    browser.login(name)
    return browser


def told(answer: Any) -> str:
    return text_of(answer).replace("\N{NO-BREAK SPACE}", " ")


def actions(app: FastAPI, action: str) -> list[Action]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.record for row in ledger.actions(Where(action=action))]


def refusal(browser: Browser, answer: Any, page: str = "/signing-key") -> str:
    """What the next page says about a form that was refused."""
    assert answer.status_code == 303
    return told(browser.get(page))


def verified(app: FastAPI) -> int:
    """The number of right signatures in a ledger without a finding."""
    check = SignatureCheck()
    assert verify(app.state.components.workspace.ledger, also=check) == []
    return check.verified


def trust(app: FastAPI, browser: Browser, key_id: str) -> None:
    """Add a key to the trust store that the workspace requires."""
    store = app.state.components.workspace.signatures.trust_store
    store.with_name("person.pub").write_text(browser.get(f"/signing-key/{key_id}.pub").text)
    signing.add_key(store, signing.read_public_key(store.with_name("person.pub")), (Use.BUNDLE,), now=datetime.now(UTC))


def active(app: FastAPI) -> str:
    found = app.state.components.workspace.active_bundle()
    return "" if found is None else str(found.name)


# --- keys


@pytest.mark.slow
def test_a_key_is_made_shown_and_downloaded(app: FastAPI, tmp_path: Path) -> None:
    browser = browse(app)
    key_id = give_key(browser)
    shown = told(browser.get("/signing-key"))
    answer = browser.get(f"/signing-key/{key_id}.pub")
    (tmp_path / "k.pub").write_text(answer.text)
    public = signing.read_public_key(tmp_path / "k.pub")
    assert (public.name, public.key_id) == ("engineer", key_id)
    print_ = signing.fingerprint_of(public.key)
    assert " ".join(print_[at : at + 4] for at in range(0, 64, 4)) in shown
    assert "attachment" in answer.headers["content-disposition"]
    assert browser.get("/signing-key/ffffffffffffffff.pub").status_code == 404
    (made,) = actions(app, KEY_MADE)
    assert (made.who, made.details["public_key"]) == ("engineer", public.key)
    assert verified(app) == 1
    assert key_id in told(browse(app, "admin").get("/people"))


@pytest.mark.slow
def test_neither_passphrase_nor_private_key_is_anywhere_on_disk_or_in_the_log(
    app: FastAPI, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    browser = browse(app)
    give_key(browser)
    browser.post("/deploy", inspector=NEW, **{**SIGNATURE, "passphrase": "quite another 77 secret"})
    browser.post("/deploy", inspector="nobody.inspector", **SIGNATURE)
    browser.call("/understand/apply", {**LIMITS, "signature": {**SIGNATURE, "meaning": PASSPHRASE}})
    assert PASSPHRASE not in browser.call("/understand/apply", {**LIMITS, "signature": PASSPHRASE}).text
    components = app.state.components
    user = next(each for each in components.accounts.people.all() if each.name == "engineer")
    private = components.signatures.open(user, PASSPHRASE, about="a test").seed()
    secrets = [PASSPHRASE.encode(), b"quite another 77 secret", private, private.hex().encode()]
    files = [path for path in components.workspace.root.rglob("*") if path.is_file()]
    assert components.workspace.database in files
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
    out = capfd.readouterr()
    assert not any(secret.decode(errors="ignore") in out.out + out.err + caplog.text for secret in secrets[:2])


def test_a_key_is_not_made_with_a_weak_passphrase_or_without_the_password(app: FastAPI) -> None:
    browser = browse(app)
    for fields, said in (
        ({"password": "wrong"}, "Wrong current password"),
        ({"again": "something else here"}, "do not match"),
        ({"new": "short", "again": "short"}, "12 to 200 characters"),
        ({"new": "aaaaaaaaaaaaaaaa", "again": "aaaaaaaaaaaaaaaa"}, "easy to guess"),
        ({"new": "the engineer speaks", "again": "the engineer speaks"}, "easy to guess"),
        ({"new": PASSWORD, "again": PASSWORD}, "must differ from your password"),
    ):
        whole = {"password": PASSWORD, "new": PASSPHRASE, "again": PASSPHRASE, **fields}
        assert said in refusal(browser, browser.post("/signing-key", **whole))
    assert actions(app, KEY_MADE) == []


def test_a_replaced_key_stays_on_record_and_what_it_signed_stays_valid(app: FastAPI) -> None:
    browser = browse(app)
    first = give_key(browser)
    assert browser.post("/deploy", inspector=NEW, **SIGNATURE).status_code == 303
    second = give_key(browser, "another 45 passphrase yes")
    assert first != second
    assert browser.get(f"/signing-key/{first}.pub").status_code == 200
    assert "Earlier keys" in told(browser.get("/signing-key"))
    (revoked,) = actions(app, KEY_REVOKED)
    assert (revoked.who, revoked.details["key_id"], revoked.details["why"]) == ("engineer", first, "replaced")
    assert verified(app) == 3
    browser.post("/deploy", inspector=OLD, **SIGNATURE)
    assert active(app) == NEW, "the passphrase of the old key is of no use"


def test_a_new_passphrase_opens_the_same_key_and_the_old_one_no_more(app: FastAPI) -> None:
    browser, tab = browse(app), browse(app)
    key_id = give_key(browser)
    new = "an umbrella 9 on the roof"
    said = refusal(browser, browser.post("/signing-key/passphrase", passphrase="no", new=new, again=new))
    assert "Wrong passphrase" in said
    changed = {"new": new, "again": new}
    said = refusal(browser, browser.post("/signing-key/passphrase", passphrase=PASSPHRASE, **changed))
    assert "The passphrase was changed" in said
    assert "Wrong passphrase" in refusal(tab, tab.post("/deploy", inspector=NEW, **SIGNATURE))
    assert active(app) == OLD
    assert tab.post("/deploy", inspector=NEW, **{**SIGNATURE, "passphrase": new}).status_code == 303
    assert active(app) == NEW
    assert actions(app, "deploy")[-1].details[SIGNED]["key_id"] == key_id  # type: ignore[index,call-overload]


def test_an_administrator_revokes_a_key_and_can_do_no_more(app: FastAPI) -> None:
    browser, admin = browse(app), browse(app, "admin")
    key_id = give_key(browser)
    user = next(each for each in app.state.components.accounts.people.all() if each.name == "engineer")
    assert browser.post(f"/people/{user.id}/signing-key").status_code == 403
    routes = [route for route in app.state.table if "signing-key" in route.path and route.path.startswith("/people")]
    assert [route.path for route in routes] == ["/people/{user_id}/signing-key"], "which revokes"
    assert admin.post(f"/people/{user.id}/signing-key").status_code == 303
    (revoked,) = actions(app, KEY_REVOKED)
    assert (revoked.who, revoked.details["user"], revoked.details["key_id"]) == ("admin", "engineer", key_id)
    assert "no signing key" in refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE))
    assert app.state.components.signatures.private.of(user.id) is None
    assert "has no signing key" in refusal(admin, admin.post(f"/people/{user.id}/signing-key"), "/people")


@pytest.mark.slow
def test_a_key_made_after_somebody_reset_the_password_says_so(app: FastAPI) -> None:
    browser, admin = browse(app), browse(app, "admin")
    give_key(browser)
    components = app.state.components
    user = next(each for each in components.accounts.people.all() if each.name == "engineer")
    admin.post(f"/people/{user.id}/password")
    one_time = components.accounts.people.reset_password(user.id)
    thief = Browser(app)
    thief.login("engineer", one_time)
    thief.get("/password")
    thief.post("/password", old=one_time, new=PASSWORD, again=PASSWORD)
    thief.get("/signing-key")
    guess = {**SIGNATURE, "passphrase": PASSWORD}
    assert "Wrong passphrase" in refusal(thief, thief.post("/deploy", inspector=NEW, **guess))
    give_key(thief, "a passphrase of 2 thieves")
    assert actions(app, KEY_MADE)[-1].details["password_reset_by"] == "admin"
    assert "password_reset_by" not in actions(app, KEY_MADE)[0].details


# --- signing


@pytest.mark.slow
def test_a_signed_deployment_signs_the_row_and_the_bundle_and_shows_who(app: FastAPI) -> None:
    browser = browse(app)
    key_id = give_key(browser)
    page = browser.get(f"/inspectors/{NEW}")
    assert "Passphrase of your signing key" in told(page)
    sha256 = bundle.read_bundle(app.state.components.workspace.bundles / NEW).sha256
    answer = browser.post("/deploy", inspector=NEW, bundle_sha256=sha256, **SIGNATURE)
    assert answer.status_code == 303
    assert active(app) == NEW
    (row,) = actions(app, "deploy")
    assert (row.details["reason"], row.details["meaning"], row.details["bundle_sha256"]) == (
        "complaint 17", "approved", sha256,
    )  # fmt: skip
    assert row.details["limits"]["go_below"] == 89.0  # type: ignore[index,call-overload]
    assert row.details["before"] == OLD
    assert row.details["limits_before"] is not None
    assert verified(app) == 2
    made = bundle.read_bundle(app.state.components.workspace.bundles / NEW)
    assert made.sha256 == sha256
    assert json.loads(made.signature or b"")["key_id"] == key_id
    for who, path in (("engineer", f"/inspectors/{NEW}"), ("auditor", "/audit"), ("engineer", "/understand")):
        shown = told(browse(app, who).get(path))
        assert "Signed by engineer." in shown
        assert "approved · “complaint 17”" in shown
        assert key_id in shown


def test_without_a_requirement_a_signature_is_offered_and_may_be_left_out(app: FastAPI) -> None:
    browser = browse(app)
    assert "Passphrase of your signing key" not in told(browser.get(f"/inspectors/{NEW}"))
    give_key(browser)
    assert browser.post("/deploy", inspector=NEW).status_code == 303
    assert SIGNED not in actions(app, "deploy")[0].details
    assert bundle.read_bundle(app.state.components.workspace.bundles / NEW).signature is None


@pytest.mark.slow
def test_a_wrong_passphrase_is_recorded_counted_and_slowed_and_what_was_typed_stays(app: FastAPI, clock: Clock) -> None:
    browser = browse(app)
    give_key(browser)
    wrong = {**SIGNATURE, "passphrase": "not this one", "reason": "typed with care"}
    browser.client.headers["referer"] = f"http://testserver/inspectors/{NEW}"
    for _ in range(5):
        page = refusal(browser, browser.post("/deploy", inspector=NEW, **wrong), f"/inspectors/{NEW}")
        assert "Wrong passphrase. Nothing was changed." in page
        assert "typed with care" in page
        assert "not this one" not in page
    said = refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE), f"/inspectors/{NEW}")
    assert "Too many wrong passphrases. Try again in" in said
    refused = actions(app, "signature_refused")
    assert [(each.who, each.details["change"]) for each in refused] == [("engineer", f"deploy {NEW}")] * 5
    assert active(app) == OLD
    clock.now += 20
    assert browser.post("/deploy", inspector=NEW, **SIGNATURE).status_code == 303
    assert active(app) == NEW


def test_a_form_posted_twice_changes_once(app: FastAPI) -> None:
    browser = browse(app)
    give_key(browser)
    browser.post("/deploy", inspector=NEW, **SIGNATURE)
    said = refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE))
    assert f"{NEW} is in use already" in said
    assert len(actions(app, "deploy")) == 1


def test_what_is_signed_is_what_the_page_showed(app: FastAPI) -> None:
    browser = browse(app)
    give_key(browser)
    path = app.state.components.workspace.bundles / NEW
    seen = bundle.read_bundle(path).sha256
    set_point(path, go_below=200.0, no_go_above=205.0)
    said = refusal(browser, browser.post("/deploy", inspector=NEW, bundle_sha256=seen, **SIGNATURE))
    assert f"{NEW} has changed since you opened the page" in said
    answer = browser.call("/understand/apply", {**LIMITS, "bundle_sha256": seen, "signature": SIGNATURE})
    assert answer.status_code == 422
    assert active(app) == OLD


def test_a_form_that_was_open_meanwhile_signs_nothing(app: FastAPI) -> None:
    components = app.state.components
    people, signatures = components.accounts.people, components.signatures
    give_key(browse(app))
    user = next(each for each in people.all() if each.name == "engineer")
    for before, after in (
        (lambda: people.set_role(user.id, Role.REVIEWER), lambda: people.set_role(user.id, Role.ENGINEER)),
        (lambda: people.set_disabled(user.id, True), lambda: people.set_disabled(user.id, False)),
        (lambda: signatures.revoke(user, "admin", "left"), lambda: None),
    ):
        browser = browse(app)
        before()
        browser.post("/deploy", inspector=NEW, **SIGNATURE)
        assert active(app) == OLD
        after()
    assert actions(app, "deploy") == []


class Directory:
    """A directory that knows the password of mia, unless it is down."""

    down = False

    def check(self, name: str, password: str) -> tuple[str, Role] | None:
        if self.down:
            raise DirectoryDownError("no answer")
        return ("cn=mia", Role.ENGINEER) if (name, password) == ("mia", PASSWORD) else None


def test_a_person_of_the_directory_signs_with_a_passphrase_of_their_own(app: FastAPI) -> None:
    directory = Directory()
    object.__setattr__(app.state.components.accounts, "directory", directory)
    browser = browse(app, "mia")
    whole = {"password": "mia-wrong", "new": PASSPHRASE, "again": PASSPHRASE}
    assert "Wrong current password" in refusal(browser, browser.post("/signing-key", **whole))
    same = {"password": PASSWORD, "new": PASSWORD, "again": PASSWORD}
    assert "must differ from your password" in refusal(browser, browser.post("/signing-key", **same))
    directory.down = True
    whole["password"] = PASSWORD
    assert "directory does not answer" in refusal(browser, browser.post("/signing-key", **whole))
    directory.down = False
    give_key(browser)
    directory.down = True
    assert browser.post("/deploy", inspector=NEW, **SIGNATURE).status_code == 303
    assert active(app) == NEW
    assert verified(app) == 2


def test_of_two_deployments_at_once_each_is_signed_and_the_last_one_counts(app: FastAPI) -> None:
    people = [browse(app), browse(app, "admin")]
    for person in people:
        give_key(person)
    shutil.copytree(
        app.state.components.workspace.bundles / NEW, app.state.components.workspace.bundles / "c.inspector"
    )
    names = (NEW, "c.inspector")
    threads = [
        threading.Thread(target=person.post, args=("/deploy",), kwargs={"inspector": name, **SIGNATURE})
        for person, name in zip(people, names, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.who for each in actions(app, "deploy")) == ["admin", "engineer"]
    assert active(app) == actions(app, "deploy")[-1].details["bundle"]
    assert verified(app) == 4


# --- limits


def certified(app: FastAPI, browser: Browser) -> Any:
    work_done(app)
    sha256 = app.state.components.inspectors.in_use().sha256
    answer = browser.call("/understand/apply", {**LIMITS, "bundle_sha256": sha256, "signature": SIGNATURE})
    work_done(app)
    return answer


@pytest.mark.slow
def test_signed_limits_are_one_signed_row_and_a_signed_bundle(app: FastAPI, tmp_path: Path) -> None:
    browser = browse(app)
    key_id = give_key(browser)
    work_done(app)
    before = app.state.components.inspectors.in_use()
    assert "Passphrase of your signing key" in told(browser.get("/understand"))
    assert certified(app, browser).json() == {"done": True}
    after = bundle.read_bundle(before.path)
    (row,) = actions(app, "operating_point")
    assert (row.details["before"], row.details["after"]) == (before.sha256, after.sha256)
    assert row.details["limits"]["go_below"] == after.manifest.operating_point.go_below  # type: ignore
    assert row.details["limits_before"]["go_below"] == before.point.go_below  # type: ignore
    assert verified(app) == 2
    (tmp_path / "k.pub").write_text(browser.get(f"/signing-key/{key_id}.pub").text)
    public = signing.read_public_key(tmp_path / "k.pub")
    signing.add_key(tmp_path / "trust.json", public, (Use.BUNDLE,), now=datetime.now(UTC))
    found = signing.verify_bundle(after, SignaturePolicy(required=True, trust_store=tmp_path / "trust.json"))
    assert found is not None
    assert (found.signer, found.key_id) == ("engineer", key_id)
    again = browser.call("/understand/apply", {**LIMITS, "bundle_sha256": before.sha256, "signature": SIGNATURE})
    assert again.status_code == 422
    assert "changed since you opened the page" in again.json()["message"]
    part_and_export_say_who_signed(app, browser, key_id)
    what_a_restart_interrupted_is_signed_again(app, browser)


def part_and_export_say_who_signed(app: FastAPI, browser: Browser, key_id: str) -> None:
    components = app.state.components
    opened = components.inspectors.in_use()
    with Ledger.open(components.workspace.ledger) as ledger:
        first = next(iter(ledger.verdicts(limit=1)))
        record = first.record.model_copy(
            update={"bundle_sha256": opened.sha256, "bundle": str(opened.path), "trigger_id": "later"}
        )
        row = ledger.append_verdict(record)
        shown = told(browser.get(f"/parts/{row.seq}"))
        assert "Limits: Signed by engineer." in shown
        assert key_id in shown
        assert "Limits: Signed by" not in told(browser.get(f"/parts/{first.seq}"))
        rows = list(verdict_rows(ledger, [first.seq, row.seq], {}, components.signatures))
    assert {"limits_signed_by", "limits_signed_at", "limits_key", "limits_row"} <= set(VERDICT_COLUMNS)
    assert (rows[0]["limits_signed_by"], rows[1]["limits_signed_by"], rows[1]["limits_key"]) == (
        None, "engineer", key_id,
    )  # fmt: skip
    with components.ledger_pool.reading() as ledger:
        (signed,) = list(ledger.actions(Where(action="operating_point")))
    assert rows[1]["limits_row"] == signed.seq


def what_a_restart_interrupted_is_signed_again(app: FastAPI, browser: Browser) -> None:
    journal = app.state.components.journal
    (asked,) = [entry for entry in journal.in_state(*WorkState) if entry.asked.kind == WorkKind.CERTIFY]
    assert PASSPHRASE not in repr(asked)
    journal.set_state(asked.number, WorkState.INTERRUPTED)
    said = refusal(browser, browser.post(f"/long-work/{TASK}{asked.number}/resume"), "/long-work")
    assert "Set and sign the limits again" in said
    assert len(actions(app, "operating_point")) == 1


@pytest.mark.slow
def test_certify_signs_the_bundle_on_the_command_line(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "plant")
    space = Workspace.open(tmp_path / "plant")
    key, public = signing.make_key_pair(tmp_path / "anna.key", "anna")
    signing.add_key(tmp_path / "trust.json", signing.read_public_key(public), (Use.BUNDLE,), now=datetime.now(UTC))
    words = ["certify", str(space.bundles / OLD), str(space.datasets / "tiny"), "--sign", str(tmp_path / "anna.key")]
    ended = kit.run_here([*words, "--max-escape", "0.15", "--max-overkill", "0.15", "--force"])
    assert "gonogo bundle sign" not in ended.err, "there is nothing to remind of"
    policy = SignaturePolicy(required=True, trust_store=tmp_path / "trust.json")
    found = signing.verify_bundle(bundle.read_bundle(space.bundles / OLD), policy)
    assert found is not None
    assert found.key_id == key.key_id
    assert kit.run_here([*words, "--revisions"]).code == 2


@pytest.mark.slow
def test_a_key_that_is_revoked_while_limits_are_certified_signs_nothing(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, components = browse(app), app.state.components
    give_key(browser)
    work_done(app)
    before = components.inspectors.in_use()
    user = next(each for each in components.accounts.people.all() if each.name == "engineer")
    sign = components.signatures.require_standing

    def meanwhile(signer: Any) -> None:
        components.signatures.revoke(user, "admin", "left")
        sign(signer)

    monkeypatch.setattr(components.signatures, "require_standing", meanwhile)
    certified(app, browser)
    assert bundle.read_bundle(before.path).sha256 == before.sha256, "the old limits stay"
    assert actions(app, "operating_point") == []
    assert "since you signed" in str(components.worker.task("set").failure)


# --- required


@pytest.mark.slow
def test_where_signatures_are_required_nothing_changes_without_one_and_the_page_says_what_to_do(
    strict_app: FastAPI,
) -> None:
    app, browser = strict_app, browse(strict_app)
    shown = told(browser.get(f"/inspectors/{NEW}"))
    assert "This change needs your signature, and you have no signing key. Make a signing key" in shown
    assert "make one on the page signing key" in refusal(browser, browser.post("/deploy", inspector=NEW)).lower()
    key_id = give_key(browser)
    assert "they do not trust your key yet" in told(browser.get(f"/inspectors/{NEW}"))
    said = refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE))
    assert f"they do not trust your key {key_id}" in said
    trust(app, browser, key_id)
    assert "Passphrase of your signing key" in told(browser.get(f"/inspectors/{NEW}"))
    assert "Type the passphrase" in refusal(browser, browser.post("/deploy", inspector=NEW, reason="why"))
    unexplained = {**SIGNATURE, "reason": " "}
    assert "Write the reason" in refusal(browser, browser.post("/deploy", inspector=NEW, **unexplained))
    assert active(app) == OLD
    assert browser.post("/deploy", inspector=NEW, **SIGNATURE).status_code == 303
    assert active(app) == NEW
    assert app.state.components.inspectors.in_use().name == NEW, "its bundle is signed and trusted"
    signing.revoke_key(app.state.components.workspace.signatures.trust_store, key_id, why="", now=datetime.now(UTC))
    assert "do not trust your key" in refusal(browser, browser.post("/deploy", inspector=OLD, **SIGNATURE))


def test_an_inspector_that_was_in_use_before_signatures_were_required_is_signed_once(strict_app: FastAPI) -> None:
    app, browser = strict_app, browse(strict_app)
    trust(app, browser, give_key(browser))
    assert app.state.components.inspectors.in_use() is None
    assert "not signed as this workspace requires" in told(browser.get(f"/inspectors/{OLD}"))
    assert browser.post("/deploy", inspector=OLD, **SIGNATURE).status_code == 303
    assert app.state.components.inspectors.in_use().name == OLD
    assert "Passphrase of your signing key" not in told(browser.get(f"/inspectors/{OLD}"))
    assert "in use already" in refusal(browser, browser.post("/deploy", inspector=OLD, **SIGNATURE))
    assert len(actions(app, "deploy")) == 1


def test_where_signatures_are_required_a_program_changes_nothing(strict_app: FastAPI) -> None:
    _, secret = strict_app.state.components.accounts.sessions.issue("robot", Role.ENGINEER, days=1, created_by="admin")
    browser = Browser(strict_app)
    headers = {"authorization": f"Bearer {secret}", "origin": "http://testserver", "accept": "application/json"}
    for path, values in (("/deploy", {"inspector": NEW}), ("/shadow/switch", {"candidate_sha256": "0" * 64})):
        answer = browser.client.post(path, data={**values, **SIGNATURE}, headers=headers)
        assert "A program cannot sign" in answer.text or answer.status_code == 303
    assert active(strict_app) == OLD
    assert actions(strict_app, "deploy") == []


STATION = """\
station = "s1"
bundle = "active"
ledger = "ledger/line.ledger"
state_dir = "state"
[[cameras]]
camera = { kind = "folder", folder = "incoming" }
[trigger]
kind = "folder"
folder = "incoming"
[answer]
kind = "stdout"
"""


def test_where_signatures_are_required_the_inspectors_of_products_are_signed(strict_app: FastAPI) -> None:
    app, browser = strict_app, browse(strict_app)
    path = app.state.components.workspace.root / "station.toml"
    path.write_text(STATION)
    key_id = give_key(browser)
    trust(app, browser, key_id)
    page = browser.get("/products").text
    assert "Passphrase of your signing key" in page
    form = {"station": "", "digest": page.split('name="digest" value="')[1].split('"')[0], "action": "name"}
    assert "Write the reason" in refusal(browser, browser.post("/products", **form, name="chip"))
    assert path.read_text() == STATION
    assert browser.post("/products", **form, name="chip", **SIGNATURE).status_code == 303
    assert 'chip = "active"' in path.read_text()
    (row,) = actions(app, "products")
    assert row.details["reason"] == "complaint 17"
    assert verified(app) == 2


def test_where_signatures_are_required_other_inspectors_of_a_station_are_signed(strict_app: FastAPI) -> None:
    app, browser = strict_app, browse(strict_app)
    stations = app.state.components.stations
    values = stations.new_values("line-9")
    assert browser.post("/stations", **values).status_code == 303
    assert SIGNED not in actions(app, "station_saved")[0].details, "it follows the inspector in use"
    seen = stations.read(stations.find("line-9")).seen
    other = {**values, "bundle": NEW, "seen": seen}
    assert "you have no signing key" in refusal(browser, browser.post("/stations/line-9", **other), "/stations/line-9")
    trust(app, browser, give_key(browser))
    assert "Sign if you choose another inspector" in told(browser.get("/stations/line-9"))
    assert browser.post("/stations/line-9", **{**values, "queue": "5", "seen": seen}).status_code == 303
    assert len(actions(app, "station_saved")) == 2
    other["seen"] = stations.read(stations.find("line-9")).seen
    assert browser.post("/stations/line-9", **other, **SIGNATURE).status_code == 303
    row = actions(app, "station_saved")[-1]
    assert (row.station, row.details["inspectors"]) == ("line-9", json.dumps({"": [NEW]}))
    assert PASSPHRASE not in stations.find("line-9").place.toml.read_text()
    assert verified(app) == 2


# --- attacks on what is stored


def test_a_private_key_that_was_exchanged_in_the_database_is_refused_and_recorded(app: FastAPI) -> None:
    browser, components = browse(app), app.state.components
    key_id = give_key(browser)
    user = next(each for each in components.accounts.people.all() if each.name == "engineer")
    forged = components.signatures.private.lock(SigningKey.new(), PASSPHRASE)
    components.signatures.private.put(user.id, forged)
    assert "no signing key" in refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE))
    components.signatures.private.put(user.id, LockedKey(key_id=key_id, locked=forged.locked))
    assert "Wrong passphrase" in refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE))
    components.signatures.private.put(user.id, LockedKey(key_id=key_id, locked=b"{}"))
    assert "Wrong passphrase" in refusal(browser, browser.post("/deploy", inspector=NEW, **SIGNATURE))
    assert len(actions(app, "signature_refused")) == 2
    assert active(app) == OLD


def test_one_person_cannot_use_the_key_of_another(app: FastAPI) -> None:
    browser, admin, components = browse(app), browse(app, "admin"), app.state.components
    give_key(browser)
    users = {each.name: each for each in components.accounts.people.all()}
    stolen = components.signatures.private.of(users["engineer"].id)
    components.signatures.private.put(users["admin"].id, stolen)
    assert "no signing key" in refusal(admin, admin.post("/deploy", inspector=NEW, **SIGNATURE))
    assert active(app) == OLD


@pytest.mark.slow
def test_keys_survive_backup_and_restore(app: FastAPI, tmp_path: Path) -> None:
    browser = browse(app)
    key_id = give_key(browser)
    browser.post("/deploy", inspector=NEW, **SIGNATURE)
    made = back_up(app.state.components.workspace.root, tmp_path / "plant.backup", who="a test")
    assert restore(made.file, tmp_path / "again", who="a test").findings == []
    options = Options(hasher=WEAK_HASHER, now=Clock(), names=("testserver",))
    again = create_app(Workspace.open(tmp_path / "again"), options=options)
    person = browse(again)
    assert key_id in told(person.get("/signing-key"))
    assert person.post("/deploy", inspector=OLD, **SIGNATURE).status_code == 303
    assert active(again) == OLD
    assert verified(again) == 3
    again.state.components.close()


def test_a_database_of_the_format_before_keeps_its_people_and_takes_keys(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "server.db"))
    for script in MIGRATIONS[:4]:
        connection.execute(script)
    connection.execute(
        "INSERT INTO users (name, role, password_hash, must_change, created_at) VALUES ('eve', 'admin', 'x', 0, ?)",
        (time.time(),),
    )
    connection.pragma("user_version", 4)
    connection.close()
    opened = Database.open(tmp_path / "server.db")
    assert opened.run("SELECT name FROM users") == [("eve",)]
    assert opened.run("SELECT count(*) FROM signing_keys") == [(0,)]
    opened.close()


def test_hostile_reasons_are_text(app: FastAPI) -> None:
    browser = browse(app)
    give_key(browser)
    for number, text in enumerate(XSS[:4]):
        browser.post("/deploy", inspector=(NEW, OLD)[number % 2], **{**SIGNATURE, "reason": text})
    shown = browse(app, "auditor").get("/audit").text
    assert not any(text in shown for text in XSS[:4])
    assert verified(app) == 5
