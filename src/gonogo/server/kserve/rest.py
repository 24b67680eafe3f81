"""KServe v2 over REST, with the binary extension for tensors."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool

from gonogo.server.account import login
from gonogo.server.api.judges import Judges
from gonogo.server.api.metrics import ServerMetrics
from gonogo.server.api.problems import ApiError
from gonogo.server.api.turns import Turns
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.kserve.tensors import (
    DTYPES,
    Served,
    from_bytes,
    from_numbers,
    infer,
    require_input,
    served,
    server_metadata,
    wanted_outputs,
)
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.workspace import Workspace

HEADER_LENGTH = "Inference-Header-Content-Length"
Word = Annotated[str, StringConstraints(max_length=200)]
Parameters = dict[Word, bool | int | float | str]


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Input(_Loose):
    name: Word
    datatype: Word
    shape: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(max_length=8)]
    parameters: Parameters = Field(default_factory=dict)
    data: Any = None


class _Output(_Loose):
    name: Word
    parameters: Parameters = Field(default_factory=dict)


class _InferRequest(_Loose):
    id: Word = ""
    inputs: Annotated[tuple[_Input, ...], Field(min_length=1, max_length=1)]
    outputs: Annotated[tuple[_Output, ...], Field(max_length=20)] = ()
    parameters: Parameters = Field(default_factory=dict)


def live() -> Response:
    """The server answers."""
    return JSONResponse({"live": True})


def ready(ledger_pool: Use[LedgerPool], workspace: Use[Workspace], judges: Use[Judges]) -> Response:
    """Whether an inspector is in use and the server is healthy."""
    well = login.health(ledger_pool, workspace).status_code == HTTPStatus.OK and judges.in_use() is not None
    return JSONResponse({"ready": well}, HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)


def server() -> Response:
    """Name, version and extensions of the server."""
    return JSONResponse(server_metadata())


def model(judges: Use[Judges], name: str, version: str = "") -> Response:
    """Inputs and outputs of a model."""
    return JSONResponse(served(judges, name, version).metadata())


def model_ready(judges: Use[Judges], name: str, version: str = "") -> Response:
    """Whether a model can be asked; an error if it cannot."""
    return JSONResponse({"name": served(judges, name, version).name, "ready": True})


async def model_infer(
    request: Request,
    judges: Use[Judges],
    turns: Use[Turns],
    metrics: Use[ServerMetrics],
    me: Me,
    name: str,
    version: str = "",
) -> Response:
    """Run a model on one tensor."""
    with turns.turn(me.name):
        body, length = await request.body(), request.headers.get(HEADER_LENGTH)
        answer = await run_in_threadpool(_infer, judges, name, version, body, length)
    metrics.inferences.labels("rest").inc()
    return answer


def _infer(judges: Judges, name: str, version: str, body: bytes, length: str | None) -> Response:
    head, binary = _split(body, length)
    try:
        asked = _InferRequest.model_validate_json(head)
    except (ValidationError, RecursionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "JSON nested too deep"
        raise _wrong(f"expected an inference request of the KServe protocol, found: {why}.") from error
    found = served(judges, name, version)
    wanted = wanted_outputs(found, [each.name for each in asked.outputs])
    outputs = infer(found, _tensor(found, asked.inputs[0], binary))
    as_binary = {each.name: each.parameters.get("binary_data") for each in asked.outputs}
    every = asked.parameters.get("binary_data_output") is True
    described, pieces = list[dict[str, Any]](), list[bytes]()
    for facts in wanted:
        value = np.ascontiguousarray(outputs[facts.name])
        entry: dict[str, Any] = {"name": facts.name, "datatype": facts.datatype, "shape": list(value.shape)}
        chosen = as_binary.get(facts.name)
        if every if chosen is None else chosen is True:
            data = value.astype(np.dtype(DTYPES[facts.datatype]).newbyteorder("<"), copy=False).tobytes()
            pieces.append(data)
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"] = value.ravel().tolist()
        described.append(entry)
    return _response(found, asked.id, described, pieces)


def _response(model: Served, request_id: str, outputs: list[dict[str, Any]], pieces: list[bytes]) -> Response:
    told: dict[str, Any] = {"model_name": model.name, "model_version": "1", "outputs": outputs}
    if request_id:
        told["id"] = request_id
    try:
        head = json.dumps(told, allow_nan=False).encode()
    except ValueError as error:
        raise _wrong("the network gave numbers that JSON cannot hold. Ask for binary outputs.") from error
    if not pieces:
        return Response(head, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(head))}
    return Response(b"".join([head, *pieces]), media_type="application/octet-stream", headers=headers)


def _split(body: bytes, length: str | None) -> tuple[bytes, memoryview]:
    """Divide a body into its JSON and the bytes of its tensors."""
    if length is None:
        return body, memoryview(b"")
    if not (length.isascii() and length.isdecimal() and len(length) < 12 and int(length) <= len(body)):
        raise _wrong(f"{HEADER_LENGTH}: expected the number of bytes of the JSON, at most {len(body)}.")
    return body[: int(length)], memoryview(body)[int(length) :]


def _tensor(model: Served, sent: _Input, binary: memoryview) -> np.ndarray:
    facts = require_input(model, sent.name, sent.datatype, sent.shape)
    size = sent.parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise _wrong(f"{facts.name}: expected binary_data_size for the bytes after the JSON, found none.")
        return from_numbers(facts, sent.data)
    if size != len(binary) or sent.data is not None:
        raise _wrong(
            f"{facts.name}: expected {size!r} bytes after the JSON and no data in it, found {len(binary)} bytes."
        )
    return from_bytes(facts, binary)


def _wrong(text: str) -> ApiError:
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, text)
