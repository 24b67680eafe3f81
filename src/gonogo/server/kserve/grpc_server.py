"""KServe v2 over gRPC: the standard service, with the keys, limits and models of the REST routes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np

from gonogo.errors import GonogoError, InputError
from gonogo.server.access import MIB
from gonogo.server.account import login
from gonogo.server.api.metrics import ServerMetrics
from gonogo.server.api.problems import ApiError
from gonogo.server.api.turns import MOST_AT_ONCE
from gonogo.server.components import Components
from gonogo.server.kserve.messages import SERVICE, message
from gonogo.server.kserve.tensors import (
    DTYPES,
    TensorFacts,
    from_bytes,
    from_numbers,
    infer,
    require_input,
    served,
    server_metadata,
    wanted_outputs,
)

_MOST_BYTES = 64 * MIB
_CODES = {
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_CONTENTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "INT8": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
_PUBLIC = ("ServerLive", "ServerReady")


class GrpcServer:
    """Serves the standard inference service on a port of its own."""

    def __init__(
        self,
        components: Components,
        *,
        host: str,
        port: int,
        tls: tuple[Path, Path] | None = None,
        open_models: bool = False,
    ) -> None:
        """Listen on a port; nothing is answered before `start`.

        Args:
            components: Those of the app.
            host: Address to listen on.
            port: TCP port; 0 chooses a free one.
            tls: Certificate chain and private key, in PEM.
            open_models: Whether clients without a key are answered.

        Raises:
            InputError: the port is taken.
        """
        self._components, self._open = components, open_models
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.so_reuseport", 0),
        ]
        workers = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="grpc")
        self._server = grpc.server(workers, options=options, maximum_concurrent_rpcs=4 * MOST_AT_ONCE)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers()),))
        address = f"{f'[{host}]' if ':' in host else host}:{port}"
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                pair = tls[1].read_bytes(), tls[0].read_bytes()
                self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except (RuntimeError, OSError) as error:
            text = f"{address}: expected a free port for gRPC, found {error}. Choose another --grpc-port."
            raise InputError(text) from error

    def start(self) -> Self:
        """Start to answer."""
        self._server.start()
        return self

    def close(self) -> None:
        """Stop, after up to three seconds for the requests in work."""
        self._server.stop(3.0).wait()

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        methods = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        return {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, method),
                request_deserializer=message(f"{name}Request").FromString,
                response_serializer=message(f"{name}Response").SerializeToString,
            )
            for name, method in methods.items()
        }

    def _guarded(self, name: str, method: Callable[[Any, str], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            program = self._program(context)
            if program is None and name not in _PUBLIC and not self._open:
                context.abort(
                    grpc.StatusCode.UNAUTHENTICATED,
                    "expected a valid key (metadata authorization: Bearer gonogo_...), found none.",
                )
            try:
                return method(request, program or "")
            except ApiError as error:
                code, text = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error)
            except GonogoError:
                code, text = grpc.StatusCode.UNAVAILABLE, "the model cannot be used at the moment."
            return context.abort(code, text)

        return answer

    def _program(self, context: grpc.ServicerContext) -> str | None:
        for name, value in context.invocation_metadata():
            if name.lower() == "authorization" and isinstance(value, str):
                scheme, _, secret = value.partition(" ")
                token = self._components.accounts.sessions.bearer(secret.strip())
                if scheme.lower() == "bearer" and token is not None:
                    return f"token:{token.name}"
        return None

    def _live(self, request: Any, program: str) -> Any:
        return message("ServerLiveResponse")(live=True)

    def _ready(self, request: Any, program: str) -> Any:
        components = self._components
        well = login.health(components.ledger_pool, components.workspace).status_code == HTTPStatus.OK
        return message("ServerReadyResponse")(ready=well and components.judges.in_use() is not None)

    def _model_ready(self, request: Any, program: str) -> Any:
        served(self._components.judges, request.name, request.version)
        return message("ModelReadyResponse")(ready=True)

    def _server_metadata(self, request: Any, program: str) -> Any:
        return message("ServerMetadataResponse")(**server_metadata())

    def _model_metadata(self, request: Any, program: str) -> Any:
        found = served(self._components.judges, request.name, request.version).metadata()
        found.pop("rt_info")  # the message has no field for it
        return message("ModelMetadataResponse")(**found)

    def _model_infer(self, request: Any, program: str) -> Any:
        with self._components.turns.turn(program):
            answer = _inferred(self._components, request)
        self._components.of(ServerMetrics).inferences.labels("grpc").inc()
        return answer


def _inferred(components: Components, request: Any) -> Any:
    if len(request.inputs) != 1:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, f"expected one input, found {len(request.inputs)}.")
    model = served(components.judges, request.model_name, request.model_version)
    wanted = wanted_outputs(model, [each.name for each in request.outputs])
    sent = request.inputs[0]
    facts = require_input(model, sent.name, sent.datatype, tuple(sent.shape))
    outputs = infer(model, _tensor(facts, sent, list(request.raw_input_contents)))
    answer = message("ModelInferResponse")(model_name=model.name, model_version="1", id=request.id)
    for each in wanted:
        value = np.ascontiguousarray(outputs[each.name])
        answer.outputs.add(name=each.name, datatype=each.datatype, shape=list(value.shape))
        little = np.dtype(DTYPES[each.datatype]).newbyteorder("<")
        answer.raw_output_contents.append(value.astype(little, copy=False).tobytes())
    return answer


def _tensor(facts: TensorFacts, sent: Any, raw: list[bytes]) -> np.ndarray:
    if raw:
        if len(raw) != 1 or sent.HasField("contents"):
            raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{facts.name}: expected its data once, found more.")
        return from_bytes(facts, raw[0])
    return from_numbers(facts, np.asarray(getattr(sent.contents, _CONTENTS[facts.datatype])))
