"""The HTTP interface for programs: verdicts on record before they are given, keys, limits, KServe, OpenAPI."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import schemathesis
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from fastapi import FastAPI
from fastapi.testclient import TestClient
from schemathesis import checks as every_check
from typer.testing import CliRunner

from gonogo.cli import app as command_line
from gonogo.errors import InputError
from gonogo.images import decode, encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, Where
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.api.problems import ApiError
from gonogo.server.api.turns import MOST_AT_ONCE, Turns
from gonogo.server.kserve.grpc_server import GrpcServer
from gonogo.server.kserve.messages import message
from gonogo.server.server_thread import running
from gonogo.testing import fake_frame, write_fake_bundle
from server_kit import WEAK_HASHER

GOOD, BAD = encode_png(fake_frame(1)), encode_png(fake_frame(2, bad=True))
PNG = {"content-type": "image/png"}


def open_app(root: Path, **more: Any) -> FastAPI:
    """The app of a workspace with a fake inspector in use."""
    space = Workspace.open(root)
    if not space.bundle_paths():
        write_fake_bundle(space.bundles / "red.inspector")
        space.activate("red.inspector")
    return create_app(space, options=Options(hasher=WEAK_HASHER, names=("testserver",), **more))


def make_key(app: FastAPI, name: str = "press 4", role: Role = Role.OPERATOR) -> str:
    """A key; its secret."""
    return str(app.state.components.accounts.sessions.issue(name, role, days=1, created_by="test")[1])


def client_of(app: FastAPI, key: str | None = None) -> TestClient:
    """A program with a key of its own."""
    client = TestClient(app, raise_server_exceptions=False)
    client.headers["authorization"] = f"Bearer {key or make_key(app)}"
    return client


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    made = open_app(tmp_path_factory.mktemp("api") / "plant", key_rate_per_s=1e5)
    yield made
    made.state.components.close()


@pytest.fixture(scope="module")
def program(app: FastAPI) -> TestClient:
    return client_of(app)


def rows(app: FastAPI, key: str) -> int:
    """How many verdicts the ledger has under an idempotency key."""
    with app.state.components.ledger_pool.reading() as ledger:
        return sum(row.record.trigger_id.endswith(f"/{key}") for row in ledger.verdicts(Where(station="api")))


@pytest.mark.parametrize(("picture", "state"), [(GOOD, "go"), (BAD, "no_go")])
def test_a_picture_gets_the_verdict_of_the_inspector_and_a_row(
    app: FastAPI, program: TestClient, picture: bytes, state: str
) -> None:
    answer = program.post("/api/inspect?part=P-7&lot=L-1", content=picture, headers=PNG)
    found = answer.json()
    assert answer.status_code == 200, found
    assert found["state"] == state == answer.headers["gonogo-state"]
    judged = Inspector.load(app.state.components.workspace.active_bundle()).inspect_encoded(picture)
    assert found["score"] == judged.score
    assert (found["part"], found["lot"], found["inspector"], found["repeated"]) == ("P-7", "L-1", "red", False)
    with app.state.components.ledger_pool.reading() as ledger:
        record = ledger.row(found["row"]).record
        assert record.state == state
        assert record.trigger_id == f"token:press 4/{found['key']}"
        assert ledger.frames.read(record.views[0].frame_sha256) == picture


def test_a_form_gives_the_same_verdict_as_the_bare_picture(program: TestClient) -> None:
    bare = program.post("/api/inspect", content=BAD, headers=PNG).json()
    form = program.post("/api/inspect?inspector=red", files={"picture": ("a.png", BAD, "image/png")}).json()
    assert (form["state"], form["score"]) == (bare["state"], bare["score"])


def test_pictures_come_in_json_or_as_the_answer(program: TestClient) -> None:
    found = program.post("/api/inspect?include=heatmap,overlay", content=BAD, headers=PNG).json()
    assert decode(base64.b64decode(found["heatmap_png"])).shape == (8, 8, 3)
    assert decode(base64.b64decode(found["overlay_png"])).shape == fake_frame(2).shape
    answer = program.post("/api/inspect", content=BAD, headers={**PNG, "accept": "image/jpeg"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["gonogo-state"] == "no_go"
    assert decode(answer.content).shape == fake_frame(2).shape


@pytest.mark.slow
def test_the_same_key_with_the_same_picture_gets_the_recorded_verdict_even_after_a_restart(tmp_path: Path) -> None:
    headers, answers = {**PNG, "idempotency-key": "t-1"}, []
    app = open_app(tmp_path / "plant")
    key = make_key(app)
    for number in range(3):
        app = app if number < 2 else open_app(tmp_path / "plant")
        answers.append(client_of(app, key).post("/api/inspect", content=BAD, headers=headers).json())
        if number == 1:
            app.state.components.close()
    assert [answer["repeated"] for answer in answers] == [False, True, True]
    assert {(answer["row"], answer["state"], answer["score"]) for answer in answers} == {
        (answers[0]["row"], "no_go", answers[0]["score"])
    }
    assert rows(app, "t-1") == 1
    app.state.components.close()


def test_the_same_key_with_anything_else_is_refused(program: TestClient) -> None:
    headers = {**PNG, "idempotency-key": "t-2"}
    assert program.post("/api/inspect?part=a", content=BAD, headers=headers).status_code == 200
    for query, picture, what in (("", GOOD, "picture"), ("?part=b", BAD, "part"), ("?inspector=x", BAD, "inspector")):
        answer = program.post(f"/api/inspect{query}", content=picture, headers=headers)
        assert answer.status_code == 409
        assert f"another {what}" in answer.json()["detail"]
        assert answer.json().get("state") != "go"


def test_two_programs_never_share_a_key(app: FastAPI, program: TestClient) -> None:
    headers = {**PNG, "idempotency-key": "t-3"}
    assert program.post("/api/inspect", content=BAD, headers=headers).json()["state"] == "no_go"
    other = client_of(app, make_key(app, "press 5")).post("/api/inspect", content=GOOD, headers=headers).json()
    assert (other["state"], other["repeated"]) == ("go", False)


def test_many_at_once_with_one_key_get_one_row(app: FastAPI, program: TestClient) -> None:
    headers = {**PNG, "idempotency-key": "t-4"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: program.post("/api/inspect", content=BAD, headers=headers).json(), range(6)))
    assert {answer["state"] for answer in answers} == {"no_go"}
    assert rows(app, "t-4") == 1
    assert sum(not answer["repeated"] for answer in answers) == 1


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", PNG, 422),
        (b"not a picture", PNG, 422),
        (GOOD[:200], PNG, 422),
        (GOOD, {"content-type": "text/plain"}, 415),
        (b"--x--", {"content-type": "multipart/form-data; boundary=x"}, 422),
        (b"x", {"content-type": "multipart/form-data"}, 422),
        (GOOD, {**PNG, "idempotency-key": "with a blank"}, 422),
        (b"x" * (64 * 1024 * 1024 + 1), PNG, 413),
    ],
)
def test_what_is_no_picture_is_refused_with_what_was_expected(
    program: TestClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = program.post("/api/inspect", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert '"state"' not in answer.text
    if status != 413:  # refused before anything is read
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["detail"]


@pytest.mark.parametrize("query", ["?include=map", "?part=%00", "?inspector=none", "?inspector=../../etc"])
def test_a_wrong_parameter_is_refused(program: TestClient, query: str) -> None:
    answer = program.post(f"/api/inspect{query}", content=GOOD, headers=PNG)
    assert answer.status_code in (404, 422)
    assert "expected" in answer.json()["detail"]


def test_a_verdict_that_cannot_be_recorded_is_not_given(
    app: FastAPI, program: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gonogo.errors import LedgerError

    def full(*_: object) -> None:
        raise LedgerError("line.ledger: cannot be written.")

    monkeypatch.setattr(app.state.components.ledger_pool, "append_verdict", full)
    answer = program.post("/api/inspect", content=GOOD, headers=PNG)
    assert answer.status_code == 503
    assert '"go"' not in answer.text
    assert "gonogo-state" not in answer.headers


def test_without_a_valid_key_nothing_is_answered_and_no_secret_is_told(app: FastAPI, capfd: Any) -> None:
    token, secret = app.state.components.accounts.sessions.issue("gone", Role.OPERATOR, days=1, created_by="test")
    app.state.components.accounts.sessions.revoke(token.id)
    auditor = make_key(app, "auditor", Role.AUDITOR)
    for sent, status in (
        ("", 401),
        (f"Bearer {secret}", 401),
        ("Bearer gonogo_guess", 401),
        (f"Bearer {auditor}", 403),
    ):
        client = TestClient(app)
        answer = client.post("/api/inspect", content=GOOD, headers={**PNG, "authorization": sent})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert secret not in answer.text
    said = capfd.readouterr()
    assert secret not in said.out + said.err
    assert client_of(app, auditor).get("/metrics").status_code == 200


def test_a_key_has_a_rate_and_the_server_a_limit() -> None:
    clock = SimpleNamespace(now=0.0)
    turns = Turns(1.0, clock=lambda: clock.now)
    for _ in range(10):
        with turns.turn("a"):
            pass
    with pytest.raises(ApiError, match="per second") as refused, turns.turn("a"):
        pass
    assert refused.value.retry_after_s == 1
    clock.now = 1.0
    with turns.turn("a"):
        pass
    many = Turns(1000.0)
    held = [many.turn("a") for _ in range(MOST_AT_ONCE)]
    for each in held:
        each.__enter__()
    with pytest.raises(ApiError, match="at a time"), many.turn("b"):
        pass
    for each in held:
        each.__exit__(None, None, None)
    with many.turn("b"):
        pass


def test_too_many_requests_say_when_to_come_back(tmp_path: Path) -> None:
    app = open_app(tmp_path / "plant", key_rate_per_s=0.1)
    program = client_of(app)
    assert program.post("/api/inspect", content=GOOD, headers=PNG).status_code == 200
    answer = program.post("/api/inspect", content=GOOD, headers=PNG)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 10
    app.state.components.close()


def test_readiness_metrics_and_inspectors(program: TestClient, tmp_path: Path) -> None:
    assert program.get("/ready").text == "ready\n"
    assert program.get("/api/inspectors").json() == {"inspectors": ["red"], "in_use": "red"}
    program.post("/api/inspect", content=GOOD, headers=PNG)
    text = program.get("/metrics").text
    for name in ('verdicts_total{state="go"}', "judge_seconds_count", "free_bytes", "inspector_in_use 1.0"):
        assert f"gonogo_server_{name}" in text
    empty = create_app(Workspace.open(tmp_path / "empty"), options=Options(hasher=WEAK_HASHER, names=("testserver",)))
    bare = client_of(empty)
    assert bare.get("/ready").status_code == bare.get("/v2/health/ready").status_code == 503
    assert "expected an inspector in use" in bare.post("/api/inspect", content=GOOD, headers=PNG).json()["detail"]
    empty.state.components.close()


@pytest.mark.slow
def test_the_administrator_makes_lists_and_revokes_keys_while_the_server_runs(app: FastAPI) -> None:
    root = str(app.state.components.workspace.root)

    def call(*words: str) -> Any:
        done = CliRunner().invoke(command_line, ["serve-key", *words, "--json"], catch_exceptions=False)
        return json.loads(done.output)

    made = call("add", root, "mes")
    program = client_of(app, made["key"])
    assert program.get("/api/inspectors").status_code == 200
    assert made["key"] not in json.dumps(call("list", root))
    with pytest.raises(InputError, match="expected a new name"):
        CliRunner().invoke(
            command_line, ["serve-key", "add", root, "mes"], catch_exceptions=False, standalone_mode=False
        )
    assert call("revoke", root, str(made["number"]))["state"] == "revoked"
    assert program.get("/api/inspectors").status_code == 401
    with Ledger.open(app.state.components.workspace.ledger, read_only=True) as ledger:
        acted = [row.record for row in ledger.actions(Where()) if row.record.details.get("token") == "mes"]
    assert [action.action for action in acted] == ["token_issued", "token_revoked"]
    assert made["key"] not in str(acted)


# KServe


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[tuple[str, int]]:
    """The server's address, and its port for gRPC."""
    server = GrpcServer(app.state.components, host="127.0.0.1", port=0).start()
    with running(app) as url:
        yield url.removeprefix("http://"), server.port
    server.close()


def bearer(app: FastAPI) -> dict[str, str]:
    return {"authorization": f"Bearer {make_key(app, 'scorer', Role.AUDITOR)}"}


def tensor() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (1, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_over_http_gets_the_outputs_of_the_network(
    app: FastAPI, address: tuple[str, int], binary: bool
) -> None:
    client, headers = triton_http.InferenceServerClient(address[0]), bearer(app)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata(headers=headers)["name"] == "gonogo"
    for version in ("", "1"):
        assert client.is_model_ready("red", version, headers=headers)
        described = client.get_model_metadata("red", version, headers=headers)
    assert described["inputs"] == [{"name": "picture", "datatype": "UINT8", "shape": [1, 64, 64, 3]}]
    assert described["rt_info"] == {"model_info": {}}
    sent = triton_http.InferInput("picture", [1, 64, 64, 3], "UINT8")
    sent.set_data_from_numpy(tensor(), binary_data=binary)
    wanted = None if binary else [triton_http.InferRequestedOutput("score", binary_data=False)]
    found = client.infer("red", [sent], outputs=wanted, headers=headers, request_id="7")
    expected = app.state.components.judges.of("red").inspector.graph(tensor()[0])
    for name in expected if binary else ["score"]:
        np.testing.assert_array_equal(found.as_numpy(name), expected[name])
    assert found.get_response()["id"] == "7"
    client.close()


def test_a_model_is_also_served_as_model_api_reads_it(app: FastAPI, address: tuple[str, int]) -> None:
    client, headers = triton_http.InferenceServerClient(address[0]), bearer(app)
    described = client.get_model_metadata("red.classifier", headers=headers)
    assert described["name"] == "red.classifier"
    assert [each["name"] for each in described["outputs"]] == ["logits", "saliency_map", "feature_vector"]
    assert described["rt_info"]["model_info"]["model_type"] == "Classification"
    sent = triton_http.InferInput("picture", [1, 64, 64, 3], "UINT8")
    sent.set_data_from_numpy(tensor())
    found = client.infer("red.classifier", [sent], headers=headers)
    expected = app.state.components.judges.of("red").inspector.graph(tensor()[0])
    low, high = found.as_numpy("logits")[0]
    assert high - low == pytest.approx(float(expected["score"][0]))
    np.testing.assert_array_equal(found.as_numpy("saliency_map"), expected["heatmap"])
    client.close()


def test_tritonclient_over_grpc_gets_the_outputs_of_the_network(app: FastAPI, address: tuple[str, int]) -> None:
    client, headers = triton_grpc.InferenceServerClient(f"127.0.0.1:{address[1]}"), bearer(app)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata(headers=headers).name == "gonogo"
    assert client.is_model_ready("red", "1", headers=headers)
    described = client.get_model_metadata("red", headers=headers, as_json=True)
    assert [each["name"] for each in described["outputs"]] == ["score", "heatmap", "feature_vector"]
    sent = triton_grpc.InferInput("picture", [1, 64, 64, 3], "UINT8")
    sent.set_data_from_numpy(tensor())
    found = client.infer("red", [sent], headers=headers, request_id="7")
    expected = app.state.components.judges.of("red").inspector.graph(tensor()[0])
    for name, value in expected.items():
        np.testing.assert_array_equal(found.as_numpy(name), value)
    with pytest.raises(triton_grpc.InferenceServerException, match="expected a valid key") as refused:
        client.infer("red", [sent], headers={"authorization": "Bearer gonogo_guess"})
    assert "UNAUTHENTICATED" in str(refused.value.status())
    with pytest.raises(triton_grpc.InferenceServerException, match="expected the name of an inspector"):
        client.get_model_metadata("blue", headers=headers)
    client.close()


def test_the_messages_have_the_field_numbers_that_the_standard_client_uses() -> None:
    from tritonclient.grpc import service_pb2

    for name in ("ModelInferRequest", "ModelInferResponse", "ModelMetadataResponse", "ServerMetadataResponse"):
        ours, theirs = message(name).DESCRIPTOR, getattr(service_pb2, name).DESCRIPTOR
        same_fields(ours, theirs)


def same_fields(ours: Any, theirs: Any) -> None:
    """Each of our fields is one of theirs, with its number and type."""
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert (field.name, field.type, field.is_repeated) == (other.name, other.type, other.is_repeated)
        if field.message_type is not None:
            same_fields(field.message_type, other.message_type)


def test_clients_that_cannot_send_a_key_are_answered_where_the_server_says_so(tmp_path: Path) -> None:
    app = open_app(tmp_path / "plant", open_models=True)
    program = TestClient(app)
    body = {"inputs": [{"name": "picture", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": tensor().tolist()}]}
    answer = program.post("/v2/models/red/infer", json=body)
    assert answer.status_code == 200
    assert [each["name"] for each in answer.json()["outputs"]] == ["score", "heatmap", "feature_vector"]
    assert "state" not in answer.text
    assert program.post("/api/inspect", content=GOOD, headers=PNG).status_code == 401
    assert program.get("/metrics").status_code == 401
    app.state.components.close()


def wrong_bodies() -> list[Any]:
    good = {"name": "picture", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": [0] * 12288}
    return [
        {},
        {"inputs": []},
        {"inputs": [good, good]},
        {"inputs": [{**good, "name": "other"}]},
        {"inputs": [{**good, "datatype": "FP32"}]},
        {"inputs": [{**good, "shape": [2, 64, 64, 3]}]},
        {"inputs": [{**good, "shape": [-1, 64, 64, 3]}]},
        {"inputs": [{**good, "data": [0] * 5}]},
        {"inputs": [{**good, "data": [256] * 12288}]},
        {"inputs": [{**good, "data": [0.5] * 12288}]},
        {"inputs": [{**good, "data": "x"}]},
        {"inputs": [{**good, "data": [[1], [2, 3]]}]},
        {"inputs": [{**good, "parameters": {"binary_data_size": 5}}]},
        {"inputs": [good], "outputs": [{"name": "verdict"}]},
        {"inputs": [good], "outputs": [{"name": "score"}, {"name": "score"}]},
    ]


@pytest.mark.parametrize("number", range(len(wrong_bodies())))
def test_a_wrong_tensor_is_refused(program: TestClient, number: int) -> None:
    answer = program.post("/v2/models/red/infer", json=wrong_bodies()[number])
    assert answer.status_code == 422
    assert "expected" in answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize("length", ["x", "-1", "99999999999999", "5", "0"])
def test_a_wrong_header_length_is_refused(program: TestClient, length: str) -> None:
    headers = {"inference-header-content-length": length}
    assert program.post("/v2/models/red/infer", content=b"{}", headers=headers).status_code == 422


def test_random_bytes_over_grpc_are_refused_and_the_service_lives(app: FastAPI, address: tuple[str, int]) -> None:
    draw, metadata = random.Random(1), tuple(bearer(app).items())
    good = message("ModelInferRequest")(model_name="red")
    good.inputs.add(name="picture", datatype="UINT8", shape=[1, 64, 64, 3])
    good.raw_input_contents.append(tensor().tobytes())
    with grpc.insecure_channel(f"127.0.0.1:{address[1]}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(60):
            with pytest.raises(grpc.RpcError):
                call(draw.randbytes(draw.randrange(1, 300)), metadata=metadata)
        assert b"score" in call(good.SerializeToString(), metadata=metadata)


# OpenAPI


def fuzzed(app: FastAPI, examples: int) -> None:
    """Send what schemathesis makes of the OpenAPI document; every answer is documented and none is a server error."""
    from hypothesis import HealthCheck, Phase, given, settings

    headers = {"authorization": f"Bearer {make_key(app, 'schemathesis')}", "host": "testserver"}
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=headers)
    checks = [
        every_check.not_a_server_error,
        schemathesis.specs.openapi.checks.status_code_conformance,
        schemathesis.specs.openapi.checks.content_type_conformance,
        schemathesis.specs.openapi.checks.response_schema_conformance,
    ]
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def send(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=checks)

        send()


@pytest.fixture
def own_app(tmp_path: Path) -> FastAPI:
    """schemathesis starts and ends it."""
    return open_app(tmp_path / "plant", key_rate_per_s=1e5)


@pytest.mark.slow
def test_schemathesis_finds_no_server_error_and_no_undocumented_answer(own_app: FastAPI) -> None:
    fuzzed(own_app, 5)


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_many_more_requests(own_app: FastAPI) -> None:
    fuzzed(own_app, 300)


def test_the_openapi_document_lists_the_routes_for_programs_and_no_page(app: FastAPI) -> None:
    found = TestClient(app).get("/api/openapi.json").json()
    listed = set(found["paths"])
    declared = {route.path for route in app.state.table if route.documented is not None}
    assert listed == declared
    assert "/people" not in listed
    assert set(found["paths"]["/api/inspect"]["post"]["responses"]) >= {"200", "401", "403", "409", "413", "422", "429"}
