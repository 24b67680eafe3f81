"""Devices: their names, the golden frames on each, and the loud way back to the CPU."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from command_kit import run_here
from gonogo import bundle, devices, runtime
from gonogo.certification import recertify
from gonogo.config import Settings, settings
from gonogo.devices import DeviceUse, device_name
from gonogo.errors import BundleError, InputError
from gonogo.inspector import Inspector
from gonogo.line.state import Health
from gonogo.operating_point import Promise
from gonogo.schema import State
from gonogo.station.exposition import exposition
from gonogo.station.messages import BundleReport, WorkerReport
from gonogo.station.metrics import Metrics
from gonogo.station.models import load_model
from gonogo.station.publishing import _alarms
from gonogo.station.status import StationState
from gonogo.testing import fake_frame, write_fake_bundle
from tiny_bundle import make_bundle, make_parts


class FakeGpu:
    """Puts a GPU into this machine: the CPU computes for it, and adds ``off`` to every score."""

    def __init__(self, patch: pytest.MonkeyPatch, off: float = 0.0) -> None:
        self.off = off
        self.there = True
        self.broken = ""
        """What OpenVINO says instead of compiling; empty if it compiles."""
        self.compiled = Counter[str]()
        self._real = runtime._compile
        patch.setattr(devices, "available", lambda: ("CPU", "GPU.0", "GPU.1") if self.there else ("CPU",))
        patch.setattr(runtime, "_compile", self._compile)

    def _compile(
        self, core: ov.Core, model: object, device: str, options: dict[str, object], **named: object
    ) -> object:
        self.compiled[device] += 1
        if device == "CPU":
            return self._real(core, model, device, options, **named)  # type: ignore[arg-type]
        if self.broken:
            raise BundleError(f"OpenVINO cannot compile it on {device}: {self.broken}")
        assert isinstance(model, tuple)
        return self._real(core, shifted(core.read_model(*model), self.off), "CPU", options, **named)  # type: ignore[arg-type]


def shifted(model: ov.Model, off: float) -> ov.Model:
    """The model with ``off`` added to its score."""
    score = model.output("score").get_node().input(0)
    source = score.get_source_output()
    added = op.add(source, op.constant(np.float32(off)))
    source.get_tensor().set_names(set())
    added.output(0).get_tensor().set_names({"score"})
    score.replace_source_output(added.output(0))
    return model


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    return write_fake_bundle(tmp_path / "red.inspector").root


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    return Settings(device="GPU", cache_dir=tmp_path / "cache", key_file=tmp_path / "cache.key")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CPU", "CPU"),
        (" gpu.1 ", "GPU.1"),
        ("npu", "NPU"),
        ("auto", "AUTO"),
        ("AUTO:CPU", "CPU"),
        ("auto: gpu , cpu", "AUTO:GPU,CPU"),
        ("HETERO:GPU,CPU", "HETERO:GPU,CPU"),
    ],
)
def test_a_device_name_is_spelt_as_openvino_does(text: str, name: str) -> None:
    assert device_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "GPPU",
            "GPU,CPU",
            "HETERO",
            "HETERO:",
            "HETERO:GPPU,CPU",
            "HETERO:AUTO,CPU",
            "AUTO:CPU,CPU",
            "AUTO:-GPU",
        ),
        *("AUTO:-GPU", "MYRIAD", "GPU\x1b[31m", "GPU\u202e", "\uff27\uff30\uff35", "GPU.x", "A" * 5000),
    ],
)
def test_a_name_that_is_no_device_is_refused_and_the_message_lists_what_exists(text: str) -> None:
    with pytest.raises(InputError, match="On this machine OpenVINO sees CPU; list what they can do") as refused:
        device_name(text)
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


def test_devices_that_alternate_are_refused_because_golden_frames_cannot_prove_each() -> None:
    for text in ("MULTI:CPU", "multi", "BATCH:GPU"):
        with pytest.raises(InputError, match="golden frames cannot prove each"):
            device_name(text)


def test_a_device_of_another_plugin_has_a_name_only_where_openvino_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="found 'FPGA'"):
        device_name("FPGA")
    monkeypatch.setattr(devices, "available", lambda: ("CPU", "FPGA"))
    assert device_name("HETERO:FPGA,CPU") == "HETERO:FPGA,CPU"
    assert devices.missing("HETERO:FPGA,CPU") == ""


def test_the_cpu_judges_for_a_device_that_is_not_there_and_says_so(
    sealed: Path, machine: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = Inspector.load(sealed, machine=machine.on_cpu()).inspect(fake_frame(1)).score
    assert capfd.readouterr().err == ""
    for name in ("GPU", "NPU", "GPU.7", "CPU.1", "HETERO:GPU,CPU", "AUTO:NPU,CPU"):
        inspector = Inspector.load(sealed, machine=machine.model_copy(update={"device": name}))
        found = str(inspector.device)
        assert found.startswith(f"CPU instead of {name}: OpenVINO does not see ")
        assert f"warning: {sealed}: device {found}" in capfd.readouterr().err
        assert inspector.inspect(fake_frame(1)).score == expected


def test_a_device_that_reproduces_the_golden_frames_judges(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gpu = FakeGpu(monkeypatch, off=0.0005)
    inspector = Inspector.load(sealed, machine=machine)
    assert inspector.device == DeviceUse(asked="GPU", used="GPU")
    assert not inspector.device.fell_back
    assert inspector.inspect(fake_frame(1)).state is State.GO
    assert gpu.compiled == Counter(GPU=1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("replay", [True, False])
def test_a_device_with_other_scores_never_judges_even_if_no_replay_is_asked_for(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch, replay: bool
) -> None:
    expected = Inspector.load(sealed, machine=machine.on_cpu()).inspect(fake_frame(1)).score
    FakeGpu(monkeypatch, off=0.02)
    inspector = Inspector.load(sealed, machine=machine, replay=replay)
    assert str(inspector.device) == "CPU instead of GPU: golden frame good.png differs by 0.02, tolerance 0.001"
    assert inspector.inspect(fake_frame(1)).score == expected


def test_a_device_whose_scores_are_no_numbers_never_judges(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(monkeypatch, off=np.nan)
    found = str(Inspector.load(sealed, machine=machine).device)
    assert found.startswith("CPU instead of GPU: golden frame good.png not judged: the network gave a score of nan")


def test_a_device_that_cannot_compile_the_graph_gives_way_to_the_cpu(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(monkeypatch).broken = "out of\x1b[31m memory"
    found = Inspector.load(sealed, machine=machine).device
    assert found.fell_back
    assert found.reason.endswith(r"on GPU: out of\x1b[31m memory")


def test_a_bundle_without_golden_frames_runs_on_the_cpu(
    tmp_path: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = make_bundle(tmp_path / "tiny.inspector", make_parts(tmp_path / "parts", np.random.default_rng(0)))
    bundle.write_manifest(opened.root, opened.manifest.model_copy(update={"golden": ()}))
    FakeGpu(monkeypatch)
    assert Inspector.load(opened.root, machine=machine).device.reason == "the bundle has no golden frames"


def test_a_bundle_that_no_device_reproduces_is_refused_without_a_warning(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    FakeGpu(monkeypatch)
    opened = bundle.read_bundle(sealed)
    wrong = tuple(each.model_copy(update={"score": each.score + 1}) for each in opened.manifest.golden)
    bundle.write_manifest(sealed, opened.manifest.model_copy(update={"golden": wrong}))
    with pytest.raises(BundleError, match="expected a score of"):
        Inspector.load(sealed, machine=machine)
    assert capfd.readouterr().err == ""


def test_a_device_that_vanishes_between_two_loads_is_missed_at_the_second(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(monkeypatch)
    assert Inspector.load(sealed, machine=machine).device.used == "GPU"
    gpu.there = False
    assert Inspector.load(sealed, machine=machine).device.reason == "OpenVINO does not see GPU here (it sees CPU)"


def test_each_device_keeps_a_compiled_graph_of_its_own(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(monkeypatch)
    for name in ("CPU", "GPU", "GPU.1"):
        Inspector.load(sealed, machine=machine.model_copy(update={"device": name}))
    assert gpu.compiled == Counter(("CPU", "GPU", "GPU.1"))
    assert len(list((machine.cache_dir / "compiled").iterdir())) == 3
    assert Inspector.load(sealed, machine=machine.on_cpu())._graph.kept


@pytest.mark.slow
def test_auto_and_hetero_judge_as_the_cpu_does_and_name_what_they_chose(sealed: Path, machine: Settings) -> None:
    expected = Inspector.load(sealed, machine=machine.on_cpu()).inspect(fake_frame(1)).score
    for name in ("AUTO", "HETERO:CPU"):
        for _ in range(2):
            inspector = Inspector.load(sealed, machine=machine.model_copy(update={"device": name, "threads": 1}))
            assert str(inspector.device) == f"{name} (CPU)"
            assert inspector.inspect(fake_frame(1)).score == pytest.approx(expected, abs=1e-4)


def test_auto_may_not_change_the_device_after_the_golden_frames() -> None:
    options = devices.options_of("AUTO:GPU,CPU", precision="f32", threads=2)
    assert options["ENABLE_STARTUP_FALLBACK"] is options["ENABLE_RUNTIME_FALLBACK"] is False
    assert "INFERENCE_NUM_THREADS" not in options


def test_a_device_without_fp32_computes_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_property", lambda name, fact, otherwise: ["FP16", "INT8"])
    assert devices.arithmetic("NPU", "f32") == "f16"
    assert devices.arithmetic("CPU", "bf16") == "bf16"


@pytest.mark.slow
def test_thresholds_certified_on_another_device_hold_on_the_cpu_within_the_tolerance(
    tmp_path: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(tmp_path / "parts", np.random.default_rng(0))
    root = make_bundle(tmp_path / "tiny.inspector", parts).root
    gpu = FakeGpu(monkeypatch, off=0.0005)
    before = bundle.read_bundle(root).manifest
    made = recertify(Inspector.load(root, machine=machine), parts, Promise(max_escape=0.2, max_overkill=0.2))
    assert made.bundle.manifest.proven_on["device"] == "GPU"
    assert Inspector.load(root, machine=machine).device.used == "GPU"
    gpu.there = False
    assert Inspector.load(root, machine=machine.on_cpu()).operating_point == made.point
    assert before.proven_on["device"] == "CPU"


def test_a_station_records_the_device_and_alarms_about_another_one(
    sealed: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(monkeypatch, off=0.02)
    loaded = load_model(sealed, device="GPU")
    assert loaded.fell_back
    assert loaded.device == "CPU instead of GPU: golden frame good.png differs by 0.02, tolerance 0.001"
    report = BundleReport(
        name="red", sha256="0" * 64, path="red", trouble="", device=loaded.device, fell_back=loaded.fell_back
    )
    state = StationState(
        health=Health.RUNNING,
        worker_pid=1,
        report=WorkerReport(bundles=(report,)),
        faulting="",
        alarms=(),
        waiting=0,
        unrecorded=0,
    )
    metrics = Metrics("line1")
    assert _alarms(metrics, state) == [f"device {loaded.device}"]
    assert 'gonogo_station_device_fallbacks{station="line1"} 1.0' in exposition(metrics, state, free_bytes=1)


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores what ``--device`` changes in this process."""
    monkeypatch.setenv("GONOGO_DEVICE", "CPU")
    yield
    settings.cache_clear()


def test_the_commands_name_the_device_that_judged(sealed: Path, tmp_path: Path, own_environment: None) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes((sealed / "golden" / "good.png").read_bytes())
    ended = run_here(["inspect", str(sealed), str(photo), "--device", "GPU", "--json"])
    assert ended.code == 0
    row, summary = map(json.loads, ended.out.splitlines())
    assert row["device"] == summary["device"]
    assert row["device"].startswith("CPU instead of GPU: OpenVINO does not see GPU here")
    ended = run_here(["inspect", str(sealed), str(photo), "--device", "hetero:cpu"])
    assert "device HETERO:CPU (CPU)" in ended.out
    ended = run_here(["inspect", str(sealed), str(photo), "--device", "GPPU"])
    assert ended.code == 2
    assert "On this machine OpenVINO sees CPU" in ended.err


@pytest.mark.slow
def test_devices_lists_what_openvino_sees_and_tries_a_bundle_on_each(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(monkeypatch, off=0.02)
    listed = json.loads(run_here(["devices", "--json"]).out)
    assert [(each["name"], each["default"], each["reproduces"]) for each in listed["devices"]] == [
        ("CPU", True, None),
        ("GPU.0", False, None),
        ("GPU.1", False, None),
    ]
    tried = json.loads(run_here(["devices", str(sealed), "--json"]).out)
    assert [each["reproduces"] for each in tried["devices"]] == [True, False, False]
    assert tried["devices"][1]["reason"] == "golden frame good.png differs by 0.02, tolerance 0.001"
    assert "NOT reproduced" in run_here(["devices", str(sealed)]).out


def test_a_misspelt_device_in_the_settings_ends_the_station_command(tmp_path: Path) -> None:
    example = run_here(["station", "example"]).out
    (tmp_path / "station.toml").write_text(example.replace('# device = "GPU"', 'device = "GPPU"'))
    ended = run_here(["station", "run", str(tmp_path / "station.toml")])
    assert ended.code == 2
    assert "found 'GPPU'" in ended.err
