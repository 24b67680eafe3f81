"""Requests that no page sends: numbers beyond 64 bits, JSON nested without end, paths of thousands of characters."""

from __future__ import annotations

import json
import random
import re
import typing
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from gonogo.server import Workspace
from gonogo.server.access import AccessKind, Role, Route
from gonogo.server.routes import ROUTES
from server_kit import Browser, fill, make_app

pytestmark = pytest.mark.storm
BIG = (2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**5000)
WORDS = (
    *map(str, BIG[:4]),
    "9" * 4000,
    "9" * 5000,
    "-1",
    "1e400",
    "nan",
    "x" * 5000,
    "a/" * 2500,
    "../" * 1600,
    "%00",
    "\x00",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "\u202e",
    "",
)
DEEP = 20_000
SENT = 6
"""Requests of each kind to each route in the everyday suite."""
NOT_FUZZED = {"/station/events"}  # a stream without end; its arguments are none


def routes(kinds: tuple[AccessKind, ...]) -> list[Route]:
    return [route for route in ROUTES if route.kind in kinds and route.path not in NOT_FUZZED]


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    root = tmp_path_factory.mktemp("fuzz") / "workspace"
    fill(Workspace.open(root))
    app = make_app(root)
    yield app
    app.state.components.close()


@pytest.fixture(scope="module")
def browsers(plant: FastAPI) -> dict[Role, Browser]:
    components, found = plant.state.components, {}
    for user in components.accounts.people.all():
        found[user.role] = browser = Browser(plant)
        secret = components.accounts.sessions.begin(user.id)
        browser.set_cookie(secret)
        browser.csrf = components.accounts.sessions.csrf(secret)
    return found


def ask(client: TestClient, route: Route, path: str, csrf: str, **more: Any) -> None:
    """Send it; whatever comes, it is no crash, and a refusal says something."""
    headers = {"origin": "http://testserver", "x-csrf-token": csrf, **more.pop("headers", {})}
    answer = client.request(route.method, path, headers=headers, **more)
    shown = f"{route.method} {path[:200]} {str(more)[:300]}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500, shown
    if answer.status_code >= 400:
        assert answer.text.strip(), shown


def paths(route: Route, rng: random.Random) -> list[str]:
    """The route's address with each placeholder, and each parameter of its query, replaced by every word."""
    found = []
    holes = re.findall(r"\{(\w+)\}", route.path)
    query = [name for name in route.example if name not in holes]
    for hole in holes:
        for word in WORDS:
            values = {**route.example, hole: quote(word, safe="")}
            found.append(route.path.format(**values))
    for name in sorted({*query, *names_in(route, body=False)}):
        for word in WORDS:
            base = route.path.format(**route.example)
            found.append(f"{base}?{urlencode({**{key: route.example[key] for key in query}, name: word})}")
    found.append(route.path.format(**route.example) + "/" + "x" * 5000)
    found.append(route.path.format(**route.example) + "?" + "&".join(f"a{number}=1" for number in range(2000)))
    beyond = [path for path in found if f"/{2**63}" in path or f"={2**63}" in path]
    return [*beyond, *sample([path for path in found if "x" * 5000 in path], rng), *sample(found, rng)]


def sample(found: list[Any], rng: random.Random) -> list[Any]:
    """A seeded few of them; the campaign in ``tests/attack`` sends all."""
    return rng.sample(found, min(SENT, len(found)))


def names_in(route: Route, *, body: bool) -> list[str]:
    """What its handler takes from the body or, of a GET and beside a model, from the query."""
    names: list[str] = []
    for name, hint in typing.get_type_hints(route.handler).items():
        if name in ("request", "here", "me", "return") or f"{{{name}}}" in route.path:
            continue
        model = isinstance(hint, type) and issubclass(hint, BaseModel)
        if body == (model or route.kind is AccessKind.FORM):
            names += list(hint.model_fields) if model else [name]
    return names


@pytest.mark.parametrize("route", routes((AccessKind.PAGE, AccessKind.DATA)), ids=name_of)
def test_no_address_makes_a_page_crash(route: Route, browsers: dict[Role, Browser]) -> None:
    rng = random.Random(route.path)
    for path in paths(route, rng):
        roles = sorted(route.roles or set(Role))
        browser = browsers[rng.choice(roles)]
        ask(browser.client, route, path, browser.csrf)
    for role in Role:  # and those who may not
        ask(browsers[role].client, route, rng.choice(paths(route, rng)), browsers[role].csrf)


def bodies(fields: list[str], rng: random.Random) -> Iterator[bytes]:
    """JSON that no page sends."""
    yield b"[" * DEEP + b"]" * DEEP
    yield from sample(list(all_bodies(fields, rng)), rng)


def all_bodies(fields: list[str], rng: random.Random) -> Iterator[bytes]:
    """Each of these, and in each field each odd value."""
    yield b'{"a":' * DEEP + b"1" + b"}" * DEEP
    yield b"[" * DEEP
    yield from (b"", b"null", b"[]", b"{}", b'"x"', b"1", b"\xff\xfe", b"{", b"NaN", b'{"a":1e999}', b"9" * 5000)
    nested: Any = json.loads(b"[" * 500 + b"]" * 500)
    odd = (
        *BIG[:4],
        -1,
        0,
        1.5,
        1e308,
        float("nan"),
        float("inf"),
        True,
        None,
        [],
        {},
        "",
        "x" * 5000,
        "\ud800",
        "\x00",
    )
    lists: tuple[Any, ...] = ([2**63], ["\ud800"], [[2**70, 1]], [None], {"a": 2**63}, {"\ud800": 1}, nested)
    for field in fields:
        for value in (*odd, *lists):
            others = {name: rng.choice(("x", 1, 2**63, [], None)) for name in fields if name != field}
            yield json.dumps({**others, field: value}).encode()
            yield json.dumps({field: value}).encode()


@pytest.mark.parametrize("route", routes((AccessKind.CALL,)), ids=name_of)
def test_no_json_makes_a_call_crash(route: Route, browsers: dict[Role, Browser]) -> None:
    rng = random.Random(route.path)
    for body in bodies(names_in(route, body=True), rng):
        browser = browsers[rng.choice(sorted(route.roles))]
        path = route.path.format(**route.example)
        ask(browser.client, route, path, browser.csrf, content=body, headers={"content-type": "application/json"})
    for path in paths(route, rng):
        browser = browsers[rng.choice(sorted(route.roles))]
        ask(browser.client, route, path, browser.csrf, content=b"{}", headers={"content-type": "application/json"})
    for role in Role:
        ask(browsers[role].client, route, route.example_path, browsers[role].csrf, content=b"[" * DEEP)


@pytest.mark.parametrize("header", ["cookie", "authorization", "accept-language", "host", "origin", "x-csrf-token"])
@pytest.mark.parametrize("path", ["/login", "/people", "/nothing"])
def test_no_header_makes_the_server_crash(header: str, path: str, browsers: dict[Role, Browser]) -> None:
    rng = random.Random(header + path)
    words: tuple[str, ...] = (
        *(word for word in WORDS if word.isascii()),
        "\xff",
        "gonogo=\xff",
        "Bearer gonogo_\xff",
        "[::1",
    )
    for word in words:
        for method in sample(["GET", "POST", "HEAD", "PUT"], rng)[:1]:
            headers = {"origin": "http://testserver", header: word.encode("latin-1").replace(b"\x00", b"")}
            answer = browsers[Role.ADMIN].client.request(method, path, headers=headers)
            assert answer.status_code < 500, (method, path, header, word[:100], answer.text[:300])


UNDONE_BY = {"/logout", "/login"}  # would end the sessions that the other tests use


@pytest.mark.slow
@pytest.mark.parametrize(
    "route", [route for route in routes((AccessKind.FORM,)) if route.path not in UNDONE_BY], ids=name_of
)
def test_no_form_makes_the_server_crash(route: Route, plant: FastAPI) -> None:
    rng = random.Random(route.path)
    app = plant
    components = app.state.components
    fields = names_in(route, body=True)
    admin = next(user for user in components.accounts.people.all() if user.role is Role.ADMIN)
    browser = Browser(app)
    secret = components.accounts.sessions.begin(admin.id)
    browser.set_cookie(secret)
    browser.csrf = components.accounts.sessions.csrf(secret)
    for field in fields or [""]:
        for word in sample(list(WORDS), rng):
            others = {name: rng.choice(("1", "x", "2" * 30)) for name in fields if name != field}
            data = {**others, field: word}
            ask(browser.client, route, route.path.format(**route.example), browser.csrf, data=data)
    for path in paths(route, rng):
        if "/people/1/" not in path:
            ask(browser.client, route, path, browser.csrf, data=dict.fromkeys(fields, "1"))
    form = {"content-type": "application/x-www-form-urlencoded"}
    for content in (b"&" * 5000, b"a=" + b"%" * 5000, b"=" * 500, b"csrf=\xff&name=%ff%fe"):
        ask(browser.client, route, route.example_path, browser.csrf, content=content, headers=form)
