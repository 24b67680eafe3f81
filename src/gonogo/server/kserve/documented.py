"""What the OpenAPI document says of the KServe routes."""

from __future__ import annotations

from typing import Any

from gonogo.server.api.openapi import described

_OBJECT: dict[str, Any] = {"type": "object"}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
    },
}


def _flag(name: str) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}


LIVE = described("Whether the server answers", answers={200: ("application/json", _flag("live"))}, public=True)
READY = described(
    "Whether a model is in use",
    answers={200: ("application/json", _flag("ready")), 503: ("application/json", _flag("ready"))},
    public=True,
)
SERVER = described("Name and extensions of the server", answers={200: ("application/json", _OBJECT)})
MODEL = described(
    "Inputs and outputs of a model",
    answers={
        200: (
            "application/json",
            {
                "type": "object",
                "required": ["name", "versions", "platform", "inputs", "outputs"],
                "properties": {
                    "inputs": {"type": "array", "items": _TENSOR},
                    "outputs": {"type": "array", "items": _TENSOR},
                },
            },
        )
    },
    problems=(404, 409),
)
MODEL_READY = described(
    "Whether a model can be asked", answers={200: ("application/json", _flag("ready"))}, problems=(404, 409)
)
_INFER_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 200},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "maxItems": 20, "items": {"type": "object", "required": ["name"]}},
    },
}
INFER = described(
    "Run a model: scores, no verdict",
    answers={
        200: (
            "application/json",
            {
                "type": "object",
                "required": ["model_name", "outputs"],
                "properties": {"outputs": {"type": "array", "items": _TENSOR}},
            },
        )
    },
    problems=(404, 409, 429),
    requestBody={
        "required": True,
        "content": {
            "application/json": {"schema": _INFER_BODY},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
)
INFER["responses"][200]["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
