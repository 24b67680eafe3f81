"""Access control: every request passes `AccessCheckedRoute.handle` before its body is read or a handler runs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from gonogo.server.access import PUBLIC, AccessKind, Role, Route, ScreenUse
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.screens import Screen
from gonogo.server.auth.sessions import TOKEN_PREFIX
from gonogo.server.auth.visitor import Visitor
from gonogo.server.auth.visits import Visits
from gonogo.server.context import component
from gonogo.server.language import choose

CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
_FORM = "application/x-www-form-urlencoded"


class AccessCheckedRoute(APIRoute):
    """A route that admits only the roles named in its entry of the route table."""

    declared: Route

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Identify the visitor, check access, then run the handler."""
        request = Request(scope, receive)
        accounts = component(request, Accounts)
        scope["gonogo.kind"] = self.declared.kind
        scope["gonogo.route"] = self.declared
        scope["gonogo.sandboxed"] = self.declared.sandboxed
        visitor = await run_in_threadpool(identify, accounts, request)
        request.state.visitor = visitor
        visits = component(request, Visits)
        visits.charge(visitor, request)
        if self.declared.scores_only and request.app.state.options.open_models and visitor.role is None:
            await super().handle(scope, receive, send)
            return
        refusal = admit(self.declared, visitor, request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if self.declared.method == "POST" and scope["method"] == "POST" and not _bearer(request):
            receive = await _same_origin_and_session(accounts, visitor, request, receive, self.declared.max_body_bytes)
        if visits.audits_pictures and self.declared.picture:
            await run_in_threadpool(visits.record, self.declared, visitor, request)
        await super().handle(scope, receive, send)


def identify(accounts: Accounts, request: Request) -> Visitor:
    """Identify the visitor: a program by bearer token, a person or a wall screen by cookie, or nobody."""
    accepted = request.headers.get("accept-language", "")
    secret = _bearer(request)
    if secret is not None:
        token = accounts.sessions.bearer(secret)
        named, role = (f"token:{token.name}", token.role) if token else ("", None)
        return Visitor(name=named, role=role, language=choose(None, accepted), theme="auto")
    cookie = request.cookies.get(accounts.session_cookie)
    user_id = accounts.sessions.user_id(cookie) if cookie else None
    if user_id is None:
        secret = request.cookies.get(accounts.screen_cookie)
        screen = accounts.screens.of(secret) if secret else None
        named, role = (f"screen:{screen.name}", Role.OPERATOR) if screen else ("", None)
        language = choose(None, accepted)
        return Visitor(name=named, role=role, language=language, theme="auto", session=cookie, screen=screen)
    user = accounts.people.find(user_id)
    return Visitor(
        name=user.name,
        role=user.role,
        language=choose(user.language, accepted),
        theme=user.theme or "auto",
        user=user,
        session=cookie,
    )


def admit(route: Route, visitor: Visitor, request: Request) -> Response | None:
    """Admit a visitor (``None``), or return a redirect.

    Raises:
        HTTPException: 401 without a login, 403 for the wrong role.
    """
    if route.roles == PUBLIC:
        return None
    if visitor.role is None:
        if route.kind is not AccessKind.PAGE or _bearer(request):
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='')}" if target != "/" else "/login", 303)
    if visitor.screen is not None and not _on_screen(route, visitor.screen):
        if route.path == "/":
            return RedirectResponse("/wall", 303)
        raise HTTPException(403)
    if visitor.role not in route.roles:
        raise HTTPException(403)
    if visitor.user is not None and visitor.user.must_change and not route.before_password_change:
        if route.kind is not AccessKind.PAGE:
            raise HTTPException(403)
        return RedirectResponse("/password", 303)
    return None


def _on_screen(route: Route, screen: Screen) -> bool:
    return route.screens is ScreenUse.ANY or (route.screens is ScreenUse.ALL_STATIONS and not screen.stations)


async def _same_origin_and_session(
    accounts: Accounts, visitor: Visitor, request: Request, receive: Receive, most_bytes: int
) -> Receive:
    """Refuse a change requested by another site or session; returns a ``receive`` that replays the body.

    Raises:
        HTTPException: 403, or 413 for a form larger than its route allows.
    """
    origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if request.headers.get("origin") != origin or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403)
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and request.headers.get("content-type", "").split(";")[0].strip() == _FORM:
        body = await _read(receive, most_bytes)
        fields = parse_qs(body.decode("latin-1"), encoding="utf-8")
        sent = fields.get(CSRF_FIELD, [""])[0]
        request.scope["gonogo.fields"] = {name: values[-1] for name, values in fields.items() if name != CSRF_FIELD}
        receive = _again(body, receive)
    if visitor.session is None or not accounts.sessions.csrf_matches(visitor.session, sent or ""):
        raise HTTPException(403)
    return receive


async def _read(receive: Receive, most_bytes: int) -> bytes:
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400)
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most_bytes:
            raise HTTPException(413)
        more = message.get("more_body", False)
    return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _bearer(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip().startswith(TOKEN_PREFIX) else None


def route_arguments(route: Route) -> dict[str, Any]:
    """Arguments of `fastapi.FastAPI.add_api_route` for an entry of the route table."""
    return {
        "path": route.path,
        "endpoint": route.handler,
        "methods": [route.method],
        "max_body_size": route.max_body_bytes,
        "response_model": None,
        "include_in_schema": route.documented is not None,
        **(route.documented or {}),
    }
