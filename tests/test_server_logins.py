"""Guessing passwords: every spelling of a name is one account, simultaneous guesses count, owners get in."""

from __future__ import annotations

import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gonogo.server.access import Role
from gonogo.server.auth.hashing import MAX_TURNS, MAX_TURNS_KNOWN, BusyError
from gonogo.server.auth.throttle import ACCOUNT_FREE, ADDRESS_FREE, LONGEST_BLOCK_S, account_key, network_of
from server_kit import PASSWORD, Browser, Clock, add_person, make_app

FULL_WIDTH = {chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)}


def spellings(name: str) -> list[str]:
    """Ways to type one name that look different to a program that compares bytes."""
    wide = [name[:index] + FULL_WIDTH[name[index]] + name[index + 1 :] for index in range(len(name))]
    return [name, name.upper(), f" {name}", f"{name}\u3000", *wide, *(spelling.title() for spelling in wide)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(tmp_path: Path, clock: Clock) -> FastAPI:
    return make_app(tmp_path / "workspace", clock=clock)


def from_address(app: FastAPI, address: str) -> Browser:
    """A browser on another machine."""
    browser = Browser(app)
    headers = dict(browser.client.headers)
    browser.client = TestClient(
        app, follow_redirects=False, raise_server_exceptions=False, client=(address, 40000), headers=headers
    )
    return browser


def count_hashes(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that are evaluated from now on."""
    hashing, evaluated = app.state.components.accounts.people.hashing, []
    original = hashing.matches

    def matches(stored: str, password: str) -> bool:
        evaluated.append(password)
        return bool(original(stored, password))

    monkeypatch.setattr(hashing, "matches", matches)
    return evaluated


def test_all_spellings_of_a_name_are_throttled_as_one_account(app: FastAPI) -> None:
    statuses = [
        from_address(app, f"10.0.{number}.1").login(name, "wrong").status_code
        for number, name in enumerate(spellings("operator"))
    ]
    assert statuses.count(401) == ACCOUNT_FREE
    assert statuses[ACCOUNT_FREE:] == [429] * (len(statuses) - ACCOUNT_FREE)


def test_every_name_that_finds_a_person_has_that_persons_account_key(app: FastAPI) -> None:
    people = app.state.components.accounts.people
    add_person(app, "Jörg Weiß", Role.OPERATOR)
    for name in ("operator", "jörg weiß", "jörg weiss"):
        for spelling in spellings(unicodedata.normalize("NFD", name)) if name.isascii() else (name, name.upper()):
            found = people.check(spelling, PASSWORD)
            assert found is None or account_key(spelling) == account_key(found.name)


@pytest.mark.slow
def test_simultaneous_guesses_are_counted_before_they_are_evaluated(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = count_hashes(app, monkeypatch)
    browsers = [from_address(app, f"10.1.{number}.1") for number in range(12)]
    for browser in browsers:
        browser.get("/login")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda browser: browser.post("/login", name="operator", password="guess"), browsers))
    statuses = [answer.status_code for answer in answers]
    assert len(evaluated) == statuses.count(401) <= ACCOUNT_FREE
    assert set(statuses) <= {401, 429, 503}


def test_a_refused_login_says_when_to_come_back(app: FastAPI) -> None:
    for _ in range(ACCOUNT_FREE):
        Browser(app).login("operator", "wrong")
    answer = Browser(app).login("operator", "wrong")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.slow
def test_guesses_elsewhere_do_not_lock_the_owner_out_of_a_known_device(app: FastAPI) -> None:
    owner = Browser(app)
    assert owner.login("operator").status_code == 303
    owner.post("/logout")
    for number in range(ACCOUNT_FREE + 1):
        guessed = from_address(app, f"10.2.{number}.1").login("operator", "wrong").status_code
    assert guessed == 429
    for number in range(ADDRESS_FREE + 5):  # and somebody at the owner's own address tries other names
        Browser(app).login(f"name{number}", "wrong")
    assert owner.login("operator").status_code == 303
    assert from_address(app, "10.3.0.1").login("operator").status_code == 429, "known to one device, not to all"


def test_a_known_device_has_few_guesses_too_and_only_for_its_own_accounts(app: FastAPI) -> None:
    device = Browser(app)
    device.login("operator")
    device.post("/logout")
    statuses = [device.login("operator", "wrong").status_code for _ in range(ACCOUNT_FREE + 1)]
    assert statuses == [401] * ACCOUNT_FREE + [429]
    for _ in range(ACCOUNT_FREE):
        from_address(app, "10.4.0.1").login("reviewer", "wrong")
    assert device.login("reviewer").status_code == 429, "it never logged in to this account"
    assert from_address(app, "10.5.0.1").login("operator").status_code == 303, "its guesses lock out nobody else"


def test_a_device_that_several_people_share_is_known_to_each_of_them(app: FastAPI) -> None:
    terminal = Browser(app)
    for name in ("operator", "reviewer"):
        terminal.login(name)
        terminal.post("/logout")
    for number in range(ACCOUNT_FREE):
        for name in ("operator", "reviewer"):
            from_address(app, f"10.6.{number}.1").login(name, "wrong")
    assert terminal.login("operator").status_code == 303
    terminal.post("/logout")
    assert terminal.login("reviewer").status_code == 303


def test_a_device_cookie_of_ones_own_making_is_replaced_and_opens_nothing(app: FastAPI) -> None:
    browser = Browser(app)
    browser.client.cookies.set("gonogo-device", "chosen", domain="testserver.local", path="/")
    assert browser.get("/").headers["location"] == "/login"
    cookie = browser.login("operator").headers.get_list("set-cookie")
    assert any(value.startswith("gonogo-device=") and "chosen" not in value and "HttpOnly" in value for value in cookie)
    assert not app.state.components.accounts.throttle.knows("chosen", "operator")


def test_a_successful_login_takes_back_its_own_count_of_the_address(app: FastAPI) -> None:
    throttle = app.state.components.accounts.throttle
    for number in range(3 * ADDRESS_FREE):
        subjects = throttle.of_login(f"name{number}", "10.7.0.1", None)
        assert throttle.begin(subjects) == 0
        throttle.succeeded(subjects)


def test_the_count_survives_a_restart_and_a_clock_that_is_set_back(app: FastAPI, clock: Clock, tmp_path: Path) -> None:
    for _ in range(ACCOUNT_FREE):
        Browser(app).login("operator", "wrong")
    throttle = app.state.components.accounts.throttle
    subjects = throttle.of_login("operator", "10.8.0.1", None)
    clock.now -= 30 * 86400
    assert 0 < throttle.begin(subjects) <= LONGEST_BLOCK_S
    throttle.begin(throttle.of_login("somebody", "10.8.0.2", None))  # any attempt settles the clock
    clock.now += LONGEST_BLOCK_S
    assert throttle.begin(subjects) == 0, "a month's wait would lock the owner out"


def test_only_few_requests_hash_or_wait_at_once_and_known_devices_have_places_of_their_own(app: FastAPI) -> None:
    hashing = app.state.components.accounts.people.hashing
    known = Browser(app)
    known.login("operator")
    known.post("/logout")
    release, entered = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        with hashing.turn():
            entered.release()
            release.wait(30)

    with ThreadPoolExecutor(MAX_TURNS) as pool:
        for _ in range(MAX_TURNS):
            pool.submit(hold)
        for _ in range(MAX_TURNS):
            assert entered.acquire(timeout=30)
        try:
            refused = Browser(app).login("reviewer")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert known.login("operator").status_code == 303
        finally:
            release.set()
    assert Browser(app).login("reviewer").status_code == 303, "the refusal was not counted as a failure"
    with pytest.raises(BusyError, match=str(MAX_TURNS_KNOWN)):
        _take(hashing, MAX_TURNS_KNOWN + 1)


def _take(hashing: Any, count: int) -> None:
    if count:
        with hashing.turn(known=True):
            _take(hashing, count - 1)


def test_pages_answer_while_a_password_is_hashed(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    people = app.state.components.accounts.people
    reader = Browser(app)
    reader.login("reviewer")
    writer = Browser(app)
    writer.login("operator")
    release, hashing = threading.Event(), threading.Event()
    original = people.hashing._hasher.hash

    def slow(password: str) -> str:
        hashing.set()
        release.wait(30)
        return str(original(password))

    monkeypatch.setattr(people.hashing, "_hasher", _Hasher(people.hashing._hasher, slow))
    new = "seven brass lanterns"
    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(writer.post, "/password", old=PASSWORD, new=new, again=new)
        try:
            assert hashing.wait(30)
            with ThreadPoolExecutor(1) as other:
                assert other.submit(reader.get, "/password").result(timeout=20).status_code == 200
        finally:
            release.set()
        assert changed.result().status_code == 303


class _Hasher:
    def __init__(self, inner: Any, slow: Any) -> None:
        self.verify, self.check_needs_rehash, self.hash = inner.verify, inner.check_needs_rehash, slow


def test_failed_logins_of_others_do_not_stop_a_person_from_changing_their_password(app: FastAPI) -> None:
    browser = Browser(app)
    browser.login("operator")
    for _ in range(ACCOUNT_FREE):
        from_address(app, "10.9.0.1").login("operator", "wrong")
    answer = browser.post("/password", old=PASSWORD, new="seven brass lanterns", again="seven brass lanterns")
    assert answer.status_code == 303


def test_an_address_is_an_ipv4_address_or_the_network_of_an_ipv6_one() -> None:
    assert network_of("10.0.0.7") == network_of("::ffff:10.0.0.7") == "10.0.0.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1%eth0") != network_of("2001:db8:0:1::1")
    assert network_of("testclient") == "testclient"
