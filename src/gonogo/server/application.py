"""Assembly of the app: the route table behind access control, static files, and error handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gonogo.errors import GonogoError, ImageError, LedgerError
from gonogo.files import disk_is_full
from gonogo.server import responses
from gonogo.server.access import AccessKind, Role, Route
from gonogo.server.account import login
from gonogo.server.api.metrics import ServerMetrics
from gonogo.server.api.problems import ApiError, is_for_programs, malformed, problem, retry_headers, status_of
from gonogo.server.auth.access_check import AccessCheckedRoute, identify, route_arguments
from gonogo.server.auth.accounts import Accounts
from gonogo.server.components import Components
from gonogo.server.context import component
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.options import Options
from gonogo.server.routes import PUBLIC_PATHS, ROUTES
from gonogo.server.security_headers import HEADERS, SecurityHeaders
from gonogo.server.workspace import Workspace

STATIC = Path(__file__).parent / "static"

_REFUSALS = {
    400: N_("Invalid request."),
    401: N_("Please log in first."),
    403: N_("You don't have permission for this page"),
    404: N_("Not found."),
    405: N_("This address does not accept this kind of request."),
    413: N_("The request is too large."),
    422: N_("A field in this request is missing or invalid."),
    429: N_("Too many requests. Wait a little."),
    500: N_("Internal error. It was logged; nothing was changed."),
    503: N_("The server is busy. Wait a few seconds and try again."),
    507: N_("The disk is full. Nothing was changed. Free some space, then try again."),
}

_NOT_TAKEN = N_("You don't have permission for this, or the page was open for too long. Reload it and try again.")
"""Message for a missing CSRF token or a wrong role."""


_NO_KEY = "expected a valid key (Authorization: Bearer gonogo_...), found none. Get one with gonogo serve-key."
_LEDGER = N_("The ledger cannot be written or read. Nothing was changed. Check its disk, then try again.")


class UndeclaredRouteError(GonogoError):
    """Raised at startup if a route does not declare who may use it."""


def create_app(workspace: Workspace, *, options: Options | None = None, table: Iterable[Route] = ROUTES) -> FastAPI:
    """Build the app for a workspace.

    Args:
        workspace: The workspace to serve.
        options: Server options.
        table: The route table; tests may pass another one.

    Raises:
        UndeclaredRouteError: a route declares no roles and is not public.
    """
    options = options or Options()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        components: Components = app.state.components
        components.start()
        yield
        await components.feed.stop()
        components.close()

    quiet: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    app = FastAPI(title="gonogo", docs_url=None, redoc_url=None, openapi_url=None, telemetry=quiet, lifespan=lifespan)
    app.state.table, app.state.options = tuple(table), options
    app.router.route_class = AccessCheckedRoute
    for route in app.state.table:
        app.add_api_route(**route_arguments(route))
        added = app.router.routes[-1]
        if isinstance(added, AccessCheckedRoute):
            added.declared = route
    app.mount("/static", _Static(directory=STATIC))
    check_declarations(app)
    app.state.components = Components.open(workspace, options)
    app.add_middleware(SecurityHeaders, allowed_hosts=options.allowed_hosts, tls=options.tls)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(GonogoError, _failed)
    app.add_exception_handler(Exception, _broke)
    return app


def check_declarations(app: FastAPI) -> None:
    """Check every route of an app against the table.

    Raises:
        UndeclaredRouteError: a route has no entry, or its entry names no roles.
    """
    for route in app.router.routes:
        if isinstance(route, Mount) and route.path == "/static":
            continue
        path = getattr(route, "path", repr(route))
        declared = getattr(route, "declared", None)
        if not isinstance(declared, Route) or declared.path != path:
            raise UndeclaredRouteError(f"{path}: expected an entry in gonogo.server.routes.ROUTES, found none.")
        if not declared.roles <= frozenset(Role):
            raise UndeclaredRouteError(f"{path}: expected roles, found {set(declared.roles)}.")
        if not declared.roles and path not in PUBLIC_PATHS:
            raise UndeclaredRouteError(
                f"{path}: names no roles. Add roles; only {', '.join(sorted(PUBLIC_PATHS))} are public."
            )


class _Static(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = (
            "no-cache"  # cached, but revalidated by ETag, so that an old script is never used
        )
        return answer


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await run_in_threadpool(_tell, request, error.status_code, None, error.headers)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if request.url.path == "/login":
        return await run_in_threadpool(login.incomplete_login, request)
    if request.scope.get("gonogo.kind") is AccessKind.FORM and request.state.visitor.user is not None:
        refusal = RefusedError(N_("A field in this form is missing or invalid."))
        return await run_in_threadpool(responses.refuse, request, refusal)
    return await run_in_threadpool(_tell, request, 422, malformed(error) if is_for_programs(request) else None)


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedError) and request.scope.get("gonogo.kind") is AccessKind.FORM:
        return await run_in_threadpool(responses.refuse, request, error)
    assert isinstance(error, GonogoError)
    code = 507 if disk_is_full(error) else 503 if isinstance(error, LedgerError) else 422
    if is_for_programs(request):
        return await run_in_threadpool(_tell, request, status_of(error, code), error, retry_headers(error))
    return await run_in_threadpool(_tell, request, code, error)


async def _broke(request: Request, error: Exception) -> Response:
    # Starlette re-raises the error after this response, so uvicorn logs it. The response bypasses `SecurityHeaders`.
    answer = await run_in_threadpool(_tell, request, 507 if disk_is_full(error) else 500)
    answer.headers.update({**HEADERS, "Cache-Control": "no-store"})
    return answer


def _tell(request: Request, status_code: int, error: Exception | str | None = None, headers: object = None) -> Response:
    """Report an error: a page for a browser, JSON for a script, problem details for a program."""
    answer: Response
    kind = request.scope.get("gonogo.kind")
    if not hasattr(request.state, "visitor"):
        request.state.visitor = identify(component(request, Accounts), request)
    language = request.state.visitor.language
    if isinstance(error, RefusedError):
        message = error.text(language)
    else:
        known = _LEDGER if status_code == 503 and error else _REFUSALS.get(status_code, _REFUSALS[400])
        if status_code == 403 and kind in (AccessKind.FORM, AccessKind.CALL):
            known = _NOT_TAKEN
        # Internal error messages may name files, so only logged-in users see them.
        detail = str(error) if error and status_code != 507 and request.state.visitor.role else ""
        message = detail or translations(language).gettext(known)
    if is_for_programs(request):
        answer = _problem(request, status_code, error)
    elif kind in (AccessKind.PAGE, AccessKind.FORM) or (
        kind is None and "text/html" in request.headers.get("accept", "")
    ):
        answer = responses.page(request, "error.html", status_code=status_code, status=status_code, message=message)
    else:
        answer = JSONResponse({"message": message}, status_code)
    answer.headers.update(headers if isinstance(headers, dict) else {})
    return answer


def _problem(request: Request, status_code: int, error: Exception | str | None) -> Response:
    declared = request.scope.get("gonogo.route")
    if isinstance(declared, Route):
        component(request, ServerMetrics).refusals.labels(declared.path, str(status_code)).inc()
    if status_code == 401:
        return problem(
            status_code,
            "expected a valid key (Authorization: Bearer gonogo_...), found none. Get one: gonogo serve-key",
        )
    shown = isinstance(error, (str, ApiError, ImageError)) or (request.state.visitor.role and status_code < 500)
    return problem(status_code, str(error) if error and shown else _REFUSALS.get(status_code, _REFUSALS[400]))
