"""The routes for programs: judge a picture, list the inspectors, read the OpenAPI document."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from gonogo.heatmap import legend_rgb, overlay
from gonogo.images import encode_jpeg, encode_png
from gonogo.schema import Frame
from gonogo.server.access import MIB
from gonogo.server.api.judged import Asked, Judged, checked_key, checked_name, judge_and_record
from gonogo.server.api.judges import Judges
from gonogo.server.api.metrics import ServerMetrics
from gonogo.server.api.openapi import document
from gonogo.server.api.problems import ApiError
from gonogo.server.api.turns import Turns
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.ledger_pool import LedgerPool

MOST_PICTURE_BYTES = 64 * MIB
"""Largest request that carries a picture."""
_ENCODERS: dict[str, Callable[[Frame], bytes]] = {"image/png": encode_png, "image/jpeg": encode_jpeg}
_PICTURES = ("heatmap", "overlay")


async def inspect(
    request: Request,
    judges: Use[Judges],
    ledger_pool: Use[LedgerPool],
    turns: Use[Turns],
    metrics: Use[ServerMetrics],
    me: Me,
) -> Response:
    """Judge one picture. The verdict is on record before it is given; only a completed judgement is ever ``go``."""
    with turns.turn(me.name):
        wanted = _wanted(request)
        asked = Asked(
            data=await _picture(request),
            program=me.name,
            key=checked_key(request.headers.get("idempotency-key")),
            inspector=request.query_params.get("inspector"),
            part=checked_name("part", request.query_params.get("part")),
            lot=checked_name("lot", request.query_params.get("lot")),
        )
        began_s = time.perf_counter()
        judged = await run_in_threadpool(judge_and_record, asked, judges, ledger_pool)
        metrics.seconds.observe(time.perf_counter() - began_s)
        (metrics.repeats if judged.repeated else metrics.verdicts.labels(judged.row.record.state.value)).inc()
        return await run_in_threadpool(_answer, judged, wanted, _accepted(request))


def inspectors(judges: Use[Judges]) -> Response:
    """Return the names of the inspectors, and which one is in use."""
    return JSONResponse({"inspectors": judges.names(), "in_use": judges.in_use()})


def openapi(request: Request) -> Response:
    """Return the OpenAPI document of the routes for programs."""
    return JSONResponse(document(request.app.router.routes))


def _wanted(request: Request) -> tuple[str, ...]:
    found = [word for text in request.query_params.getlist("include") for word in text.split(",") if word]
    for word in found:
        if word not in _PICTURES:
            shown = repr(word[:40].encode(errors="backslashreplace").decode())
            raise ApiError(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"include: expected {' or '.join(_PICTURES)}, found {shown}."
            )
    return tuple(dict.fromkeys(found))


def _accepted(request: Request) -> str:
    """Return the type of the answer: the first one of the header ``Accept`` that is known."""
    for piece in request.headers.get("accept", "").split(","):
        kind = piece.split(";")[0].strip().lower()
        if kind in _ENCODERS or kind in ("application/json", "*/*"):
            return kind if kind in _ENCODERS else "application/json"
    return "application/json"


async def _picture(request: Request) -> bytes:
    """Return the picture of a request: its body, or the part ``picture`` of a form."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        data = await _uploaded(request)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        data = await request.body()
    else:
        shown = repr(kind[:60].encode(errors="backslashreplace").decode())
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type: expected image/*, application/octet-stream or multipart/form-data, found {shown}.",
        )
    if not data:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "expected a picture (JPEG, PNG, BMP, TIFF or WebP), found nothing."
        )
    return data


async def _uploaded(request: Request) -> bytes:
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            sent = form.get("picture")
            if isinstance(sent, UploadFile):
                return await sent.read()
    except (HTTPException, MultiPartException, ValueError, KeyError) as error:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, f"expected a multipart form, found {error}.") from error
    raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "expected a file in the form's field picture, found none.")


def _answer(judged: Judged, wanted: tuple[str, ...], accepted: str) -> Response:
    headers = {"Gonogo-State": judged.row.record.state.value, "Gonogo-Row": str(judged.row.seq)}
    if accepted in _ENCODERS and (drawn := _overlay(judged)) is not None:
        return Response(_ENCODERS[accepted](drawn), media_type=accepted, headers=headers)
    body: dict[str, Any] = judged.to_json()
    for name in wanted:
        picture = _overlay(judged) if name == "overlay" else _heat(judged)
        body[f"{name}_png"] = None if picture is None else base64.b64encode(encode_png(picture)).decode()
    return JSONResponse(body, headers=headers)


def _overlay(judged: Judged) -> Frame | None:
    """Draw the verdict on the photograph; ``None`` for a repeated answer, whose map is not stored."""
    if judged.verdict is None or judged.inspector is None or judged.photograph is None:
        return None
    if not judged.photograph.readable:
        return None
    frame = judged.photograph.full(judged.inspector.recipe)
    return overlay(frame, judged.verdict, judged.inspector.heat_scale, judged.inspector.recipe.zones)


def _heat(judged: Judged) -> Frame | None:
    """Return the heat map in colour, one pixel for each of its cells; ``None`` if there is none."""
    if judged.verdict is None or judged.inspector is None or judged.verdict.heatmap is None:
        return None
    level = (judged.inspector.heat_scale.heat(judged.verdict.heatmap) * 255).round().astype("uint8")
    coloured: Frame = legend_rgb()[level]
    return coloured
