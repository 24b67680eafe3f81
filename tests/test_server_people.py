"""People: passwords, roles, keys for programs, the throttle, the audit, and languages."""

from __future__ import annotations

import html
import re
from pathlib import Path

import argon2
import pytest
from fastapi import FastAPI

from gonogo.ledger import Ledger, verify
from gonogo.line.messages import Cause
from gonogo.server import Workspace, messages
from gonogo.server.access import Role
from gonogo.server.auth.people import People
from gonogo.server.auth.sessions import Notice
from gonogo.server.auth.setup import first_administrator
from gonogo.server.auth.throttle import ACCOUNT_FREE, FIRST_BLOCK_S, LONGEST_BLOCK_S, Throttle
from gonogo.server.components import Components
from gonogo.server.language import LANGUAGES, RefusedError, choose
from gonogo.server.responses import CAUSES
from server_kit import PASSWORD, WEAK_HASHER, XSS, Browser, Clock, add_person, make_app, text_of

SOURCES = Path(messages.__file__).parent


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(tmp_path: Path, clock: Clock) -> FastAPI:
    return make_app(tmp_path / "workspace", clock=clock)


@pytest.fixture
def admin(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("admin")
    return browser


def actions(app: FastAPI) -> list[tuple[str, str]]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [(row.record.action, row.record.who) for row in ledger.actions()]


def user_id(app: FastAPI, name: str) -> int:
    return next(user.id for user in app.state.components.accounts.people.all() if user.name == name)


@pytest.mark.slow
def test_the_first_start_makes_one_administrator_with_a_one_time_password(tmp_path: Path) -> None:
    from gonogo.server import Options, create_app

    app = create_app(Workspace.open(tmp_path / "new"), options=Options(hasher=WEAK_HASHER, names=("testserver",)))
    components: Components = app.state.components
    password = first_administrator(components.accounts, components.ledger_pool)
    assert password is not None
    assert first_administrator(components.accounts, components.ledger_pool) is None
    browser = Browser(app)
    assert browser.login("admin", password).status_code == 303
    assert browser.get("/").headers["location"] == "/password"
    assert browser.post("/password", old=password, new=PASSWORD, again=PASSWORD).headers["location"] == "/"
    assert browser.get("/").status_code == 200
    assert Browser(app).login("admin", password).status_code == 401


def test_a_wrong_password_and_an_unknown_name_are_told_apart_by_nothing(app: FastAPI) -> None:
    answers = [Browser(app).login(name, "wrong") for name in ("operator", "nobody")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert text_of(answers[0]).replace("operator", "nobody") == text_of(answers[1])


def test_a_disabled_person_is_refused_like_an_unknown_one(app: FastAPI, admin: Browser) -> None:
    watching = Browser(app)
    watching.login("operator")
    admin.post(f"/people/{user_id(app, 'operator')}/disable")
    assert watching.get("/").headers["location"] == "/login"
    assert watching.login("operator").status_code == 401
    admin.post(f"/people/{user_id(app, 'operator')}/enable")
    assert watching.login("operator").status_code == 303


def test_names_are_compared_without_regard_to_case_and_way_of_typing(app: FastAPI) -> None:
    add_person(app, "Jörg", Role.OPERATOR)
    assert Browser(app).login(" jo\u0308RG ").status_code == 303
    with pytest.raises(RefusedError, match="already exists"):
        app.state.components.accounts.people.add("jörg", Role.ADMIN)


def test_a_name_with_invisible_characters_is_refused(app: FastAPI) -> None:
    for name in ("", "  ", "an\u202ena", "an\x00na", "x" * 65):
        with pytest.raises(RefusedError, match="printable"):
            app.state.components.accounts.people.add(name, Role.OPERATOR)


def test_a_changed_password_ends_every_other_session(app: FastAPI) -> None:
    here, elsewhere = Browser(app), Browser(app)
    here.login("operator")
    elsewhere.login("operator")
    here.post("/password", old=PASSWORD, new="seven brass lanterns", again="seven brass lanterns")
    assert here.get("/").status_code == 200
    assert elsewhere.get("/").headers["location"] == "/login"


@pytest.mark.slow
@pytest.mark.parametrize(
    "new",
    ["short", PASSWORD, "operator-operator-1", "aaaaaaaaaaaaaa", "MyPassword2026!", "x" * 201, "gonogo gonogo 12"],
)
def test_an_easy_or_unchanged_password_is_refused(app: FastAPI, new: str) -> None:
    browser = Browser(app)
    browser.login("operator")
    assert browser.post("/password", old=PASSWORD, new=new, again=new).status_code == 422
    assert Browser(app).login("operator").status_code == 303


def test_changing_a_password_needs_the_present_one_and_slows_down_guessing_it(app: FastAPI) -> None:
    browser = Browser(app)
    browser.login("operator")
    for _ in range(ACCOUNT_FREE):
        assert (
            "Wrong current password"
            in browser.post("/password", old="guess", new="seven lanterns", again="seven lanterns").text
        )
    assert "Too many" in browser.post("/password", old=PASSWORD, new="seven lanterns", again="seven lanterns").text


def test_a_password_hashed_with_older_parameters_is_hashed_anew_at_login(app: FastAPI) -> None:
    store = app.state.components.accounts.database
    stronger = People(store, hasher=argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    ((before,),) = store.run("SELECT password_hash FROM users WHERE name = 'operator'")
    assert stronger.check("operator", PASSWORD)
    ((after,),) = store.run("SELECT password_hash FROM users WHERE name = 'operator'")
    assert "t=1" in before
    assert "t=2" in after


def test_failed_logins_block_the_account_and_the_wait_grows(app: FastAPI, clock: Clock) -> None:
    throttle: Throttle = app.state.components.accounts.throttle
    here, elsewhere = (throttle.of_login("anna", address, None) for address in ("10.0.0.9", "10.0.0.7"))
    assert [throttle.begin(here) for _ in range(ACCOUNT_FREE)] == [0.0] * ACCOUNT_FREE
    waits = []
    for _ in range(8):
        waits.append(throttle.begin(elsewhere))
        clock.now += waits[-1]
        assert throttle.begin(here) == 0
    assert waits[0] == FIRST_BLOCK_S
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_BLOCK_S
    clock.now += LONGEST_BLOCK_S + 1
    assert throttle.begin(elsewhere) == 0


def test_the_throttle_treats_names_that_do_not_exist_the_same(app: FastAPI) -> None:
    for name in ("operator", "nobody"):
        statuses = [Browser(app).login(name, "wrong").status_code for _ in range(ACCOUNT_FREE + 1)]
        assert statuses == [401] * ACCOUNT_FREE + [429]
    assert Browser(app).login("operator").status_code == 429


@pytest.mark.slow
def test_one_address_that_tries_many_names_is_blocked_too(app: FastAPI) -> None:
    statuses = [Browser(app).login(f"name{number}", "wrong").status_code for number in range(25)]
    assert statuses[-1] == 429


def test_the_last_administrator_can_neither_leave_nor_be_locked_out(app: FastAPI, admin: Browser) -> None:
    own = user_id(app, "admin")
    admin.post(f"/people/{own}/disable")
    assert "At least one administrator must remain" in admin.get("/people").text
    admin.post(f"/people/{own}/role", role="operator")
    assert app.state.components.accounts.people.find(own).role is Role.ADMIN
    assert admin.get("/people").status_code == 200


def test_a_new_role_counts_at_once(app: FastAPI, admin: Browser) -> None:
    watching = Browser(app)
    watching.login("auditor")
    assert watching.get("/audit").status_code == 200
    admin.post(f"/people/{user_id(app, 'auditor')}/role", role="operator")
    assert watching.get("/audit").headers["location"].startswith("/login")
    watching.login("auditor")
    assert watching.get("/audit").status_code == 403


def test_a_person_added_on_the_page_logs_in_with_the_password_shown_once(app: FastAPI, admin: Browser) -> None:
    answer = admin.get(admin.post("/people", name="Berta", role="reviewer").headers["location"])
    shown = re.search(r'<code id="secret">([^<]+)</code>', answer.text)
    assert shown is not None
    assert Browser(app).login("Berta", shown[1]).status_code == 303
    assert shown[1] not in admin.get("/people").text


def test_a_key_is_shown_once_works_until_revoked_and_is_kept_as_a_hash(app: FastAPI, admin: Browser) -> None:
    answer = admin.get(admin.post("/tokens", name="mes", role="auditor", days="30").headers["location"])
    secret = re.search(r'<code id="secret">([^<]+)</code>', answer.text)[1]  # type: ignore[index]
    program = Browser(app)
    bearer = {"authorization": f"Bearer {secret}"}
    assert program.client.get("/audit", headers=bearer).status_code == 200
    assert program.client.get("/people", headers=bearer).status_code == 403
    kept = Path(app.state.components.workspace.database)
    assert secret.encode() not in kept.read_bytes() + kept.with_name("server.db-wal").read_bytes()
    admin.post("/tokens/1/revoke")
    assert program.client.get("/audit", headers=bearer).status_code == 401


def test_loading_a_page_again_makes_no_second_key_and_shows_none_again(app: FastAPI, admin: Browser) -> None:
    made = admin.post("/tokens", name="mes", role="auditor", days="30")
    assert made.status_code == 303
    assert made.headers["location"].startswith("/people?once=")
    other = Browser(app)
    other.login("admin")
    assert "secret" not in other.get(made.headers["location"]).text  # another session's secret
    first, again = (admin.get(made.headers["location"]) for _ in range(2))
    assert "You won't see it again. Copy it now." in text_of(first)
    assert 'id="secret"' not in again.text
    assert len(app.state.components.accounts.sessions.tokens()) == 1
    reset = admin.post(f"/people/{user_id(app, 'operator')}/password")
    assert 'id="secret"' in admin.get(reset.headers["location"]).text


def test_a_secret_that_nobody_fetched_is_forgotten(app: FastAPI, admin: Browser, clock: Clock) -> None:
    made = admin.post("/tokens", name="mes", role="auditor", days="30").headers["location"]
    clock.now += 601
    assert 'id="secret"' not in admin.get(made).text


def test_a_program_that_makes_a_key_finds_it_in_the_answer(app: FastAPI) -> None:
    _, secret = app.state.components.accounts.sessions.issue("mes", Role.ADMIN, days=3, created_by="admin")
    bearer = {"authorization": f"Bearer {secret}"}
    answer = Browser(app).client.post("/tokens", data={"name": "scada", "role": "auditor", "days": "3"}, headers=bearer)
    assert app.state.components.accounts.sessions.bearer(answer.json()["secret"]).name == "scada"


def send_from(browser: Browser, page: str, to: str, **fields: str) -> str:
    """Send a form from a page as a browser does; returns where it leads."""
    headers = {"origin": "http://testserver", "referer": f"http://testserver{page}"}
    answer = browser.client.post(to, data={"csrf": browser.csrf, **fields}, headers=headers)
    assert answer.status_code == 303
    return str(answer.headers["location"])


def test_the_language_switch_leads_back_to_a_page_wherever_it_stands(app: FastAPI, admin: Browser) -> None:
    app.state.components.datasets.create("part")
    for page in ("/people", "/audit?who=anna&action=deploy", "/datasets/part/label?file=images%2F1.png"):
        assert send_from(admin, page, "/preferences", language="de") == page
    for form in ("/tokens", "/people/1/role", "/datasets/part/train", "/logout", "/nothing", "/label/keys"):
        assert send_from(admin, form, "/preferences", language="en") == "/"


@pytest.mark.parametrize(
    ("page", "form", "fields"),
    [
        ("/people", "/people", {"name": "anna & <b>", "role": "engineer"}),
        ("/people", "/tokens", {"name": "mes", "role": "auditor", "days": "5000"}),
        ("/people", "/tokens", {"name": "mes", "role": "auditor", "days": "many"}),
        ("/datasets", "/datasets", {"name": "not a name"}),
        ("/datasets/part", "/datasets/part/train", {"inspector": "../x", "effort": "quick", "weights": "none"}),
    ],
)
def test_a_refused_form_comes_back_as_it_was_typed(
    app: FastAPI, admin: Browser, page: str, form: str, fields: dict[str, str]
) -> None:
    app.state.components.datasets.create("part")
    add_person(app, "anna & <b>", Role.OPERATOR)
    assert send_from(admin, page, form, **fields) == page
    shown = admin.get(page)
    assert "toast failed" in shown.text
    part = shown.text[shown.text.index(f'action="{form}"') :]
    for name, value in fields.items():
        chosen = rf'name="{name}"[^>]*value="{re.escape(html.escape(value, quote=False))}"'
        picked = rf'value="{re.escape(value)}"[^>]*(selected|checked)'
        assert re.search(f"{chosen}|{picked}", part.split("</form>")[0]), name
    assert "toast failed" not in admin.get(page).text


def test_a_refused_form_keeps_no_password_and_nothing_long(app: FastAPI, admin: Browser) -> None:
    sessions = app.state.components.accounts.sessions
    token = admin.client.cookies["gonogo"]
    fields = {"password": PASSWORD, "old": PASSWORD, "name": "anna", "more": "x" * 5000}
    sessions.leave_notice(token, Notice(text="no", failed=True, form="/x", fields=fields))
    assert sessions.take_notice(token).fields == {"name": "anna"}


def test_a_key_that_shall_live_for_ever_is_refused(admin: Browser) -> None:
    admin.post("/tokens", name="mes", role="auditor", days="5000")
    assert "1 to 366 days" in text_of(admin.get("/people"))


def test_every_change_of_people_and_every_login_is_in_the_ledger(app: FastAPI, admin: Browser) -> None:
    Browser(app).login("operator", "wrong")
    admin.post("/people", name="Berta", role="reviewer")
    berta = user_id(app, "Berta")
    for change in ("disable", "enable", "password"):
        admin.post(f"/people/{berta}/{change}")
    admin.post(f"/people/{berta}/role", role="engineer")
    admin.post("/tokens", name="mes", role="auditor", days="30")
    admin.post("/tokens/1/revoke")
    admin.post("/password", old=PASSWORD, new="seven brass lanterns", again="seven brass lanterns")
    admin.get("/")
    admin.post("/logout")
    assert actions(app) == [
        ("login", "admin"),
        ("login_failed", "operator"),
        ("user_added", "admin"),
        ("user_disabled", "admin"),
        ("user_enabled", "admin"),
        ("password_reset", "admin"),
        ("user_role", "admin"),
        ("token_issued", "admin"),
        ("token_revoked", "admin"),
        ("password_changed", "admin"),
        ("logout", "admin"),
    ]
    assert verify(app.state.components.workspace.ledger) == []


def test_what_cannot_be_recorded_is_not_done(app: FastAPI, admin: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app.state.components.ledger_pool, "act", full)
    assert admin.post("/people", name="Berta", role="admin").status_code == 507
    assert "Berta" not in [user.name for user in app.state.components.accounts.people.all()]


def test_no_password_or_key_is_written_to_the_ledger(app: FastAPI, admin: Browser) -> None:
    answer = admin.get(admin.post("/tokens", name="mes", role="auditor", days="30").headers["location"])
    secret = re.search(r'<code id="secret">([^<]+)</code>', answer.text)[1]  # type: ignore[index]
    Browser(app).login("operator", "a password typed wrong")
    with Ledger.open(app.state.components.workspace.ledger, read_only=True) as ledger:
        text = repr(list(ledger.rows()))
    assert secret not in text
    assert PASSWORD not in text
    assert "typed wrong" not in text


@pytest.mark.parametrize("name", [name for name in XSS if name.isprintable()])
def test_names_that_are_markup_come_out_as_text(app: FastAPI, admin: Browser, name: str) -> None:
    add_person(app, name[:64], Role.OPERATOR)
    Browser(app).login(name[:64])
    admin.post("/tokens", name=name[:60], role="auditor", days="3")
    for path in ("/people", "/audit"):
        page = admin.get(path)
        assert name[:60] in html.unescape(page.text)
        assert "<img src=x" not in page.text
        assert "<script>window" not in page.text
        assert "49" not in re.findall(r"<th scope=\"row\">(\d+)", page.text)


def test_the_audit_log_filters_and_turns_pages(app: FastAPI) -> None:
    components: Components = app.state.components
    for number in range(60):
        components.ledger_pool.act("deploy" if number % 2 else "label", f"person {number % 3}", number=number)
    browser = Browser(app)
    browser.login("auditor")
    newest = browser.get("/audit").text
    assert newest.count("<tr>") == 1 + 50
    older = re.search(r'href="(\?[^"]+before=\d+)"', newest)
    assert older is not None
    assert browser.get("/audit" + older[1].replace("&amp;", "&")).text.count("<tr>") == 1 + 61 - 50
    assert browser.get("/audit?who=person+1&action=deploy").text.count("<code>deploy</code>") == 10


@pytest.mark.parametrize(
    ("setting", "accepted", "expected"),
    [
        (None, "de-AT,de;q=0.9", "de"),
        (None, "fr-CA,fr;q=0.9,en;q=0.5", "fr"),
        (None, "it,en;q=0.5", "en"),
        (None, "", "en"),
        ("de", "en", "de"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_persons_then_the_browsers_then_english(
    setting: str | None, accepted: str, expected: str
) -> None:
    assert choose(setting, accepted) == expected


def test_pages_and_refusals_speak_german_to_a_german_browser(app: FastAPI) -> None:
    browser = Browser(app, accept_language="de-DE,de;q=0.9")
    assert 'lang="de"' in browser.get("/login").text
    assert "Name oder Passwort falsch" in browser.login("operator", "wrong").text
    browser.login("operator")
    assert "Sie haben keine Berechtigung für diese Seite" in browser.get("/people").text


def test_a_person_chooses_language_and_colours(app: FastAPI) -> None:
    browser = Browser(app)
    browser.login("operator")
    browser.post("/preferences", language="de", theme="dark")
    page = browser.get("/").text
    assert 'lang="de" data-theme="dark"' in page
    browser.post("/preferences", language="'><script>", theme="pink")
    assert 'lang="en" data-theme="auto"' in browser.get("/").text


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_text_is_translated_and_compiled(language: str) -> None:
    hint = "run python -m gonogo.server.messages, translate what it names, run it again"
    catalog = messages.read_catalogue(language)
    wanted = {message.id for message in messages.extract() if message.id}
    assert {message.id for message in catalog if message.id} == wanted, hint
    assert messages.missing_translations(catalog) == [], hint
    assert messages.catalogue(language).with_suffix(".mo").read_bytes() == messages.compiled(catalog), hint


def test_templates_translate_literal_texts_only() -> None:
    """``_(variable)`` would mark whatever the variable holds as safe markup."""
    for file in SOURCES.rglob("*.html"):
        assert not re.findall(r"\b_\((?![\"'])", file.read_text("utf-8")), f"{file.name}: use the filter told instead"
        assert "| safe" not in file.read_text("utf-8"), f"{file.name}: autoescape stays on"


def test_templates_hold_no_inline_script_or_style() -> None:
    for file in SOURCES.rglob("*.html"):
        text = file.read_text("utf-8")
        assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text), (
            f"{file.name}: the policy forbids it"
        )


def test_every_cause_of_a_fault_has_a_name_for_people() -> None:
    assert set(CAUSES) == set(Cause)
