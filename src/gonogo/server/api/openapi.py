"""The OpenAPI document, and what it says of each route for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

import gonogo
from gonogo.schema import State
from gonogo.server.access import Role, Route
from gonogo.server.api.problems import PROBLEM_JSON, PROBLEM_SCHEMA

_SHARED = (400, 405, 413, 422, 500, 503, 507)
_NUMBER_OR_NULL: dict[str, Any] = {"type": ["number", "null"]}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["state", "score", "reason", "key", "row", "repeated"],
    "properties": {
        "state": {"enum": [state.value for state in State], "description": "Only `go` may pass."},
        "score": {**_NUMBER_OR_NULL, "description": "Higher is worse; null if the part was not judged."},
        "reason": {"type": "string"},
        "kind": {**_TEXT_OR_NULL, "description": "The likeliest kind of defect, if the inspector knows kinds."},
        "kind_share": _NUMBER_OR_NULL,
        "box_xyxy": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "description": "What was judged, in pixels of the picture.",
        },
        "zones": {"type": "array", "items": {"type": "object"}},
        "measurements": {"type": "array", "items": {"type": "object"}},
        "notes": {"type": "array", "items": {"type": "string"}},
        "go_below": {**_NUMBER_OR_NULL, "description": "Null if no part can pass."},
        "no_go_above": {**_NUMBER_OR_NULL, "description": "Null if no part is rejected."},
        "inspector": _TEXT_OR_NULL,
        "bundle_sha256": _TEXT_OR_NULL,
        "part": _TEXT_OR_NULL,
        "lot": _TEXT_OR_NULL,
        "key": {"type": "string", "description": "The Idempotency-Key, or the one that the server made."},
        "row": {"type": "integer", "description": "Row of the ledger that holds the verdict."},
        "judged_at": _TEXT_OR_NULL,
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        "repeated": {"type": "boolean", "description": "Recorded by an earlier request with the same key."},
        "heatmap_png": {**_TEXT_OR_NULL, "description": "Base64, if asked for."},
        "overlay_png": {**_TEXT_OR_NULL, "description": "Base64, if asked for."},
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def described(
    summary: str,
    *,
    answers: Mapping[int, tuple[str, Any]],
    problems: Iterable[int] = (),
    public: bool = False,
    **extra: Any,
) -> dict[str, Any]:
    """Return the description of a route; see `gonogo.server.access.Route.documented`.

    Args:
        summary: What it does, in a few words.
        answers: Media type and schema of the answers that are no problems, by status code.
        problems: Further status codes that it answers with problem details.
        public: Whether it needs no key.
        extra: Parameters and body, in the words of OpenAPI.
    """
    codes = sorted({*_SHARED, *problems, *(() if public else (401, 403))} - set(answers))
    detailed = {"application/problem+json": {"schema": PROBLEM_SCHEMA}}
    responses: dict[int | str, dict[str, Any]] = {
        code: {"description": HTTPStatus(code).phrase, "content": detailed} for code in codes
    }
    responses[413]["content"] = {**detailed, "text/plain": {"schema": {"type": "string"}}}
    for code, (kind, schema) in answers.items():
        responses[code] = {"description": HTTPStatus(code).phrase, "content": {kind: {"schema": schema}}}
    security: dict[str, Any] = {} if public else {"security": [{"key": []}]}
    return {"summary": summary, "responses": responses, "openapi_extra": {**security, **extra}}


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of all routes that describe themselves."""
    listed = [route for route in routes if _is_listed(route)]
    found = get_openapi(
        title="gonogo",
        version=gonogo.__version__,
        description="Judge pictures of parts. A key comes from `gonogo serve-key` or the page People.",
        routes=listed,
    )
    found.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path in found["paths"].values():
        for operation in path.values():
            _without_defaults(operation)
    return found


def _is_listed(route: BaseRoute) -> bool:
    declared = getattr(route, "declared", None)
    return isinstance(declared, Route) and declared.documented is not None and declared.roles <= frozenset(Role)


def _without_defaults(operation: dict[str, Any]) -> None:
    """Remove the answers that FastAPI adds by itself: its validation errors, and empty JSON beside other types."""
    for code, response in operation["responses"].items():
        content = response.get("content", {})
        if code == "422":
            response["content"] = {PROBLEM_JSON: content[PROBLEM_JSON]} if PROBLEM_JSON in content else content
        if len(content) > 1 and content.get("application/json") == {"schema": {}}:
            del content["application/json"]


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """Describe a parameter of the query."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


INSPECT = described(
    "Judge one picture",
    answers={200: ("application/json", VERDICT_SCHEMA)},
    problems=(404, 409, 415, 429),
    parameters=[
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Names the trigger; the same key with the same picture gives the recorded verdict again.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,100}$"},
        },
        query("inspector", "Name of the inspector; the one in use if it is left out.", type="string"),
        query("part", "Name of the part.", type="string", maxLength=200),
        query("lot", "Name of the lot.", type="string", maxLength=200),
        query("include", "Pictures to return.", type="string", enum=["heatmap", "overlay", "heatmap,overlay"]),
    ],
    requestBody={
        "required": True,
        "content": {
            "image/png": _BINARY,
            "image/jpeg": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {"picture": {"type": "string", "format": "binary"}},
                }
            },
        },
    },
)
INSPECT["responses"][200]["content"] |= {"image/png": _BINARY, "image/jpeg": _BINARY}
INSPECTORS = described(
    "List the inspectors",
    answers={
        200: (
            "application/json",
            {
                "type": "object",
                "required": ["inspectors", "in_use"],
                "properties": {
                    "inspectors": {"type": "array", "items": {"type": "string"}},
                    "in_use": _TEXT_OR_NULL,
                },
            },
        )
    },
)
OPENAPI = described("This document", answers={200: ("application/json", {"type": "object"})}, public=True)
_PLAIN = ("text/plain", {"type": "string"})
HEALTH = described("Whether the server works", answers={200: _PLAIN, 503: _PLAIN}, public=True)
READY = described("Whether pictures can be judged", answers={200: _PLAIN, 503: _PLAIN}, public=True)
METRICS = described("Metrics in the text format of Prometheus", answers={200: _PLAIN})
