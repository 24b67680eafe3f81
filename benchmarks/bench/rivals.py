"""The rivals of the benchmark: the training framework, its compiler, and other runtimes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import openvino as ov
import torch
import torchvision
from torch import nn

from gonogo import images, runtime
from gonogo.devices import find_devices
from gonogo.export import to_graph
from gonogo.roi import Roi
from gonogo.runtime import Picture

CLASSES = 2


class GradCam:
    """ResNet-50 in torch, eager, with Grad-CAM (Selvaraju et al., ICCV 2017): the usual verdict with a heat map.

    Args:
        whole: Backward through the whole network, as it comes about when the parameters are left as they are; else only
            down to the last feature map, the least that Grad-CAM needs.
    """

    def __init__(self, *, whole: bool) -> None:
        *body, pool, last = resnet50().children()
        self._body = nn.Sequential(*body)
        self._head = nn.Sequential(pool, nn.Flatten(), last)
        self._whole = whole
        if not whole:
            self._body.requires_grad_(False)

    def __call__(self, picture: Picture) -> tuple[float, np.ndarray]:
        """Return the logit of the second class and its map, rows x columns, for one picture."""
        pixels = torch.from_numpy(picture[None]).permute(0, 3, 1, 2).float().sub_(127.5).div_(58.0)
        features = self._body(pixels)
        if self._whole:
            features.retain_grad()
            self._body.zero_grad()
        else:
            features.requires_grad_(True)
        self._head.zero_grad()
        score = self._head(features)[0, 1]
        score.backward()
        weights = features.grad.mean((2, 3), keepdim=True)
        heat = (weights * features).sum(1).relu()[0]
        return float(score.detach()), heat.detach().numpy()


def from_jpeg(judge: Callable[[Picture], object], roi: Roi, size_wh: tuple[int, int]) -> Callable[[bytes], object]:
    """Decode, find the region, crop and judge, with the same steps around the network as in the inspector."""

    def run(encoded: bytes) -> object:
        frame = images.decode(encoded)
        located = roi.locate(frame)
        if located.region is None:
            raise ValueError(f"the part was not found on the benchmark's own frame: {located.reason}")
        return located.box, judge(images.cut(frame, located.region, size_wh))

    return run


def resnet50() -> nn.Module:
    """ResNet-50 with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.resnet50(weights=None, num_classes=CLASSES)
    return network.eval()


def networks(
    network: nn.Module, size_wh: tuple[int, int], *, compiled: bool, threads: int = 0
) -> dict[str, Callable[[Picture], object] | str]:
    """Return a bare network in several runtimes, each as a function of one picture, or why it is unavailable.

    Args:
        network: The network, in torch.
        size_wh: Width and height of its pictures.
        compiled: Whether to include torch.compile, which takes minutes.
        threads: Threads of ONNX Runtime and OpenVINO; 0 takes every core. torch's are set by its caller.
    """
    found: dict[str, Callable[[Picture], object] | str] = {"torch eager": in_torch(network)}
    found["torch.compile"] = _compiled(network, size_wh) if compiled else "not with --quick: compiling takes minutes"
    found["ONNX Runtime, FP32"] = _in_onnx_runtime(network, size_wh, threads)
    graph = exported(network, size_wh)
    found["OpenVINO, FP32"] = runtime.compile_graph(graph, threads=threads)
    able = "BF16" in next(each for each in find_devices() if each.default).capabilities
    found["OpenVINO, BF16"] = (
        runtime.compile_graph(graph, precision="bf16", threads=threads) if able else "this processor has no BF16"
    )
    return found


def exported(network: nn.Module, size_wh: tuple[int, int]) -> ov.Model:
    """Return the OpenVINO graph of a bare network."""
    graph = to_graph(_Whole(network), size_wh)
    graph.outputs[0].get_tensor().set_names({"logits"})
    return graph


class _Whole(nn.Module):
    """uint8 NHWC in, logits out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.network((pictures.permute(0, 3, 1, 2).float() - 127.5) / 58.0)  # type: ignore[no-any-return]


def in_torch(network: nn.Module, device: str = "cpu") -> Callable[[Picture], object]:
    """Return a bare network in torch, eager, on one of torch's devices."""
    whole = _Whole(copy.deepcopy(network).to(device) if device != "cpu" else network)

    def run(picture: Picture) -> object:
        with torch.inference_mode():
            return whole(torch.from_numpy(picture[None]).to(device)).cpu().numpy()

    return run


def _compiled(network: nn.Module, size_wh: tuple[int, int]) -> Callable[[Picture], object] | str:
    run = in_torch(torch.compile(network))  # type: ignore[arg-type]
    try:
        run(np.zeros((size_wh[1], size_wh[0], 3), np.uint8))
    except Exception as error:  # noqa: BLE001  a missing compiler is reported in the table
        return f"torch.compile failed: {_last_line(error)}"
    return run


def _in_onnx_runtime(network: nn.Module, size_wh: tuple[int, int], threads: int) -> Callable[[Picture], object] | str:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter asks for it
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed (pip install 'gonogo[dev]')"
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        path = Path(folder) / "network.onnx"
        example = torch.zeros(1, size_wh[1], size_wh[0], 3, dtype=torch.uint8)
        torch.onnx.export(_Whole(network).eval(), (example,), path, dynamo=True, external_data=False, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda picture: session.run(None, {name: picture[None]})


def peer(script: Path, python: Path | None, *arguments: str) -> dict[str, float] | str:
    """Run a script in a separate environment and return the milliseconds that it prints as JSON, or why it failed."""
    if python is None:
        return f"no environment given; see {script.name}"
    if not python.is_file():
        return f"{python}: no such file"
    done = subprocess.run([str(python), str(script), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{script.name} failed: {done.stderr.strip()[-200:]}"
    times: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return times


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
