"""Templates and responses for the page handlers."""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from babel import dates, numbers
from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.routing import Match

import gonogo
from gonogo.line.messages import Cause
from gonogo.schema import State
from gonogo.server.access import ROLE_NAMES, AccessKind, Role
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.sessions import Notice
from gonogo.server.auth.visitor import Visitor
from gonogo.server.context import component
from gonogo.server.language import LANGUAGE_NAMES, N_, RefusedError, direction, told, translations

STATE_NAMES = {State.GO: N_("Go"), State.NO_GO: N_("No-go"), State.REVIEW: N_("Review"), State.FAULT: N_("Fault")}
CAUSES: Mapping[str, str] = {
    Cause.CAMERA_LOST: N_("Camera lost"),
    Cause.NO_FRAME: N_("No picture"),
    Cause.UNMATCHED: N_("Picture of another part?"),
    Cause.UNREADABLE: N_("Unreadable picture"),
    Cause.FROZEN: N_("Frozen picture"),
    Cause.DARK: N_("Too dark: check the lamp"),
    Cause.SATURATED: N_("Too bright: check the lamp"),
    Cause.BLURRED: N_("Blurred: check the focus"),
    Cause.BLOCKED: N_("Empty picture: check the lens"),
    Cause.WRONG_SIZE: N_("Wrong picture size"),
    Cause.MODEL: N_("No inspector"),
    Cause.INSPECTOR: N_("Not judged"),
    Cause.LATE: N_("Too late"),
    Cause.OVERRUN: N_("Queue full"),
    Cause.PROCESS: N_("Worker process died"),
    Cause.LEDGER: N_("Not recorded"),
    Cause.DISK_FULL: N_("Disk full"),
    Cause.REUSED_ID: N_("ID used twice"),
    Cause.CODE: N_("Code on the part"),
    Cause.CHALLENGE: N_("Challenge part"),
    Cause.LINE_STOPPED: N_("Line stopped"),
}
"""Names of the station's fault causes for the pages."""
_MOMENT, _MOMENTS = "d MMM yyyy, HH:mm:ss", {"de": "d. MMM yyyy, HH:mm:ss"}
_NO_TIME = datetime.timedelta()


def page(request: Request, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """Respond with a page: a template with ``values`` and the variables of `base.html`."""
    sessions = component(request, Accounts).sessions
    visitor: Visitor = request.state.visitor
    notice = sessions.take_notice(visitor.session) if visitor.user and visitor.session else None
    text = fill_template(
        visitor.language,
        template,
        me=visitor,
        csrf=sessions.csrf(visitor.session) if visitor.session else "",
        path=request.url.path,
        menu=[
            route
            for route in request.app.state.table
            if route.menu
            and visitor.role in route.roles
            and visitor.screen is None
            and not (visitor.user and visitor.user.must_change)
        ],
        notice=notice,
        typed=functools.partial(_typed, notice),
        **values,
    )
    return HTMLResponse(text, status_code)


def fill_template(language: str, template: str, **values: Any) -> Markup:
    """Render a template in a language: a whole page or a fragment."""
    return Markup(template_environment(language).get_template(template).render(**values))


def back(request: Request, to: str, message: str) -> RedirectResponse:
    """Respond to a form: redirect to a page that shows the message once."""
    _leave(request, Notice(text=message))
    return RedirectResponse(to, 303)


def refuse(request: Request, error: RefusedError) -> Response:
    """Reject a form: redirect to the page it came from, which shows the reason.

    The form there keeps the values as sent; see ``typed`` in `page`.
    """
    text, fields = error.text(request.state.visitor.language), request.scope.get("gonogo.fields", {})
    _leave(request, Notice(text=text, failed=True, form=request.url.path, fields=fields))
    return RedirectResponse(came_from(request), 303)


def came_from(request: Request) -> str:
    """The page that a form was sent from, with its query; ``/`` if it is unknown or not a page.

    A response to a form may have an address that only accepts POST; redirecting there would give a 405.
    """
    referrer = urlsplit(request.headers.get("referer", "/"))
    if referrer.netloc != request.headers.get("host"):
        return "/"
    asked = {"type": "http", "method": "GET", "path": unquote(referrer.path), "root_path": ""}
    for route in request.app.router.routes:
        declared = getattr(route, "declared", None)
        if declared is not None and declared.kind is AccessKind.PAGE and route.matches(asked)[0] is Match.FULL:
            return inside(referrer.path + (f"?{referrer.query}" if referrer.query else ""))
    return "/"


def answer(**values: Any) -> JSONResponse:
    """Respond to a script with JSON."""
    return JSONResponse(values)


def inside(target: str) -> str:
    """Restrict a redirect target to this server; ``/`` if it points elsewhere."""
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if plain else "/"


def gettext_of(visitor: Visitor) -> Callable[[str], str]:
    """The translation function of a visitor, for handlers that format messages."""
    return translations(visitor.language).gettext


def time_left(language: str, left_s: float | None) -> str:
    """The time left in words; empty if it is unknown."""
    if left_s is None:
        return ""
    rounded = datetime.timedelta(seconds=max(1, round(left_s)) if left_s < 60 else 60 * round(left_s / 60))
    time_said = str(dates.format_timedelta(rounded, threshold=1.2, locale=language))
    return translations(language).gettext(N_("%(time)s left")) % {"time": time_said}


def _leave(request: Request, notice: Notice) -> None:
    visitor: Visitor = request.state.visitor
    if visitor.user and visitor.session and notice.text:
        component(request, Accounts).sessions.leave_notice(visitor.session, notice)


def _typed(notice: Notice | None, form: str, field: str, default: str = "") -> str:
    """The value of a field in a form that was just rejected."""
    return notice.fields.get(field, default) if notice is not None and notice.form == form else default


@functools.cache
def template_environment(language: str) -> Environment:
    """The template environment of a language. Autoescape is always on; an undefined name is an error."""
    made = Environment(
        loader=PackageLoader("gonogo.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    made.globals |= {
        "State": State,
        "Role": Role,
        "STATE_NAMES": STATE_NAMES,
        "ROLE_NAMES": ROLE_NAMES,
        "CAUSES": CAUSES,
        "LANGUAGE_NAMES": LANGUAGE_NAMES,
        "language": language,
        "direction": direction(language),
        "version": gonogo.__version__,
        "offset_min": lambda: int((datetime.datetime.now().astimezone().utcoffset() or _NO_TIME).total_seconds() // 60),
    }
    made.filters |= {
        # For texts from a table. ``_()`` in a template marks its text as safe, so use it only for literals.
        "translated": translations(language).gettext,
        "told": lambda failure: told(failure, language),
        "number": functools.partial(_number, language),
        "percent": functools.partial(_percent, language),
        # A threshold, which may be infinite.
        "threshold": functools.partial(_threshold, language),
        # A chosen rate, without trailing zeros.
        "level": lambda share: numbers.format_percent(share, "0.####\N{NO-BREAK SPACE}%", locale=language),
        "moment": lambda at: _moment(at, language),
        "ago": lambda at, now: str(dates.format_timedelta(at - now, add_direction=True, locale=language)),
        "clock": lambda at: dates.format_time(_local(at), "HH:mm:ss", locale=language),
    }
    return made


def _number(language: str, value: float, digits: int = 0) -> str:
    pattern = f"#,##0.{'0' * digits}" if digits else "#,##0"
    return str(numbers.format_decimal(value, pattern, locale=language))


def _threshold(language: str, value: float) -> str:
    if math.isfinite(value):
        return _number(language, value, 2)
    return "\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}"


def _percent(language: str, share: float, digits: int = 1) -> str:
    return str(
        numbers.format_percent(
            share, f"0.{'0' * digits}\N{NO-BREAK SPACE}%" if digits else "0\N{NO-BREAK SPACE}%", locale=language
        )
    )


def _moment(at: float | datetime.datetime, language: str) -> str:
    return str(dates.format_datetime(_local(at), _MOMENTS.get(language, _MOMENT), locale=language))


def _local(at: float | datetime.datetime) -> datetime.datetime:
    # Times are shown in plant time: the server's time zone.
    return (datetime.datetime.fromtimestamp(at, datetime.UTC) if isinstance(at, (int, float)) else at).astimezone()
