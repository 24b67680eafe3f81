"""Errors of the routes for programs: JSON problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gonogo.errors import GonogoError, ImageError
from gonogo.server.access import Route

PROBLEM_JSON = "application/problem+json"
_PLACES = ("/api/", "/v2")

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "What the status code means."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was expected, what was found, what to do next."},
        "error": {"type": "string", "description": "The same as `detail`; where KServe clients look for it."},
    },
}


class ApiError(GonogoError):
    """A program's request that is refused."""

    def __init__(self, status: HTTPStatus, message: str, *, retry_after_s: int | None = None) -> None:
        """Store the status code, the message, and after how many seconds a further try makes sense."""
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


def is_for_programs(request: Request) -> bool:
    """Whether errors of this request are reported as problem details."""
    declared = request.scope.get("gonogo.route")
    if isinstance(declared, Route) and declared.documented is not None:
        return True
    return request.url.path.startswith(_PLACES)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with problem details."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "error": detail}
    return JSONResponse(body, status, headers=headers, media_type=PROBLEM_JSON)


def status_of(error: GonogoError, otherwise: int) -> int:
    """Return the status code of an error; a picture that cannot be decoded is the sender's mistake."""
    if isinstance(error, ApiError):
        return error.status
    return 422 if isinstance(error, ImageError) else otherwise


def retry_headers(error: GonogoError) -> dict[str, str]:
    """Return the headers that say when to try again."""
    waits = isinstance(error, ApiError) and error.retry_after_s is not None
    return {"Retry-After": str(error.retry_after_s)} if waits and isinstance(error, ApiError) else {}


def malformed(error: RequestValidationError) -> str:
    """Say in one line which parts of a request are wrong."""
    found = []
    for each in error.errors()[:5]:
        place = " ".join(str(piece) for piece in each.get("loc", ()))[:80]
        found.append(f"{place}: {each.get('msg', 'invalid')}")
    return "; ".join(found).encode(errors="backslashreplace").decode() + "."
