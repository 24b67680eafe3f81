"""KServe v2: tritonclient over HTTP and gRPC, a server that is killed at random.

The protocol has no idempotency, no order between requests and no verdicts: every request must be answered once, under
its own id, with the score of its own tensor. Both clients ask at the same time.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.http
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.utils import InferenceServerException

from gonogo.inspector import Inspector
from gonogo.testing import fake_frame
from protocols.kit import killing
from protocols.serving import Server, added, prepared, serving

_CLIENTS: dict[str, Any] = {"http": tritonclient.http, "grpc": tritonclient.grpc}


def _asking(kind: str, port: int, key: str) -> Callable[[np.ndarray, str], tuple[str, float]]:
    """Return a call that asks for the score of a tensor under an id, and returns id and score of the answer."""
    module = _CLIENTS[kind]
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    headers = {"authorization": f"Bearer {key}"}

    def ask(tensor: np.ndarray, request_id: str) -> tuple[str, float]:
        sent = module.InferInput("picture", list(tensor.shape), "UINT8")
        sent.set_data_from_numpy(tensor)
        found = client.infer("red", [sent], headers=headers, request_id=request_id)
        response = found.get_response()
        answered = response["id"] if kind == "http" else response.id
        return str(answered), float(found.as_numpy("score")[0])

    return ask


def scores(kind: str, port: int, key: str, tensor: np.ndarray) -> Callable[[], float]:
    """Return a call that asks for the score of a tensor, with a client of its own."""
    ask = _asking(kind, port, key)
    return lambda: ask(tensor, "one")[1]


def _port(server: Server, kind: str) -> int:
    return server.port if kind == "http" else server.grpc_port


def made_tensor(number: int) -> np.ndarray:
    """Return a picture as the model takes it, different for each number."""
    return fake_frame(number, size_wh=(64, 64))[None]


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, object]:
    """Ask for scores, half over HTTP and half over gRPC at the same time; an unanswered request is sent again."""
    workspace, key = prepared(folder)
    graph = Inspector.load(workspace / "bundles" / "red.inspector").graph
    tensors = [made_tensor(number) for number in range(8)]
    expected = [float(graph(tensor[0])["score"][0]) for tensor in tensors]
    answers: list[tuple[str, str, float, float]] = []
    with (
        serving(workspace) as server,
        killing([server], seed, triggers=triggers, answered=lambda: len(answers)),
        ThreadPoolExecutor(len(_CLIENTS)) as threads,
    ):

        def ask_all(kind: str) -> None:
            ask = _asking(kind, _port(server, kind), key)
            for number in range(triggers // len(_CLIENTS)):
                which, request_id = number % len(tensors), f"{kind}-{number}"
                answered, score = _until_answered(partial(ask, tensors[which], request_id))
                answers.append((request_id, answered, score, expected[which]))

        list(threads.map(ask_all, _CLIENTS))
    heard = Counter(answered for _, answered, _, _ in answers)
    return {
        "protocol": "kserve",
        "peer": "tritonclient",
        "triggers": triggers,
        "delivered": len(answers),
        "lost": triggers - len(heard),
        "doubled": sum(count - 1 for count in heard.values()),
        "mixed_up": sum(sent != answered for sent, answered, _, _ in answers),
        "wrong": sum(score != right for _, _, score, right in answers),
        "kills": server.kills,
    }


def _until_answered(ask: Callable[[], tuple[str, float]]) -> tuple[str, float]:
    while True:
        try:
            return ask()
        except (InferenceServerException, HTTPConnectionClosed, OSError):
            time.sleep(0.02)


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, object]:
    """Send random bytes over HTTP and gRPC; none may be answered with a verdict, and the process must live."""
    workspace, key = prepared(folder)
    draw, refused, errors, escapes = random.Random(seed), 0, 0, 0
    headers = {"authorization": f"Bearer {key}"}
    with serving(workspace) as server, httpx.Client(timeout=30.0, headers=headers) as client:
        url = f"http://127.0.0.1:{server.port}/v2/models/red/infer"
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for number in range(messages):
                body = draw.randbytes(draw.randrange(1, 400))
                if number % 2:
                    answer = client.post(url, content=body)
                    refused += answer.status_code >= 400
                    errors += answer.status_code >= 500
                    escapes += b'"go"' in answer.content
                    continue
                try:
                    escapes += b"go" in call(body, metadata=tuple(headers.items()))
                except grpc.RpcError:
                    refused += 1
        died = int(not server.alive())
    found = {"refused": refused, "accepted": messages - refused, "errors": errors}
    return {"protocol": "kserve", "messages": messages, "died": died, "escapes": escapes, **found}


def latency(*, count: int, folder: Path) -> dict[str, object]:
    """Compare the round trips of both clients with the bare network."""
    workspace, key = prepared(folder)
    graph, tensor = Inspector.load(workspace / "bundles" / "red.inspector").graph, made_tensor(1)
    found: dict[str, tuple[float, float]] = {}
    with serving(workspace) as server:
        for kind in _CLIENTS:
            ask = scores(kind, _port(server, kind), key, tensor)
            ask()
            found[kind] = added(ask, lambda: graph(tensor[0]), count)
    return {
        "protocol": "kserve",
        "count": count,
        "added_p50_ms": found["http"][0],
        "added_p99_ms": found["http"][1],
        "grpc_added_p50_ms": found["grpc"][0],
        "grpc_added_p99_ms": found["grpc"][1],
    }
