"""Latency of networks by framework, topology and device: ``python benchmarks/study_frameworks.py [--out FILE]``.

One table: torch eager, torch compiled, ONNX Runtime and OpenVINO in FP32, BF16 and INT8, on every device that OpenVINO
sees, and torch on a GPU where there is one; for the topologies of Deka and Mittal (2018) and those that gonogo has
weights for. Weights are random, as latency does not depend on them. The frameworks take turns picture by picture, so
other load on the machine affects all of them equally: compare the ratios. On a machine that is busy with other work add
``--one-thread``: threads that wait for each other suffer from that, torch's most; one core then, and processor time.
Rows are printed as they finish and the last line is the figures. ``--quick`` (QUICK=1) leaves out torch.compile and
takes fewer turns.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import nn

from bench import rivals
from bench.clock import take_turns
from command import print_figures, run
from gonogo import devices, runtime
from gonogo.files import write_beside
from gonogo.model import architecture
from gonogo.progress import console
from gonogo.runtime import Picture

TOPOLOGIES = ("inception_v3", "resnet50", "densenet121", "efficientnet_lite0", "mobilenet_v2", "squeezenet1_1")
CALIBRATION_PICTURES = 8
Run = Callable[[Picture], object]
Figures = dict[str, dict[str, float | str]]


def main() -> None:
    """Measure every topology, and print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", default=os.environ.get("QUICK", "") not in ("", "0"))
    parser.add_argument("--one-thread", action="store_true", help="one core, in processor time, for a busy machine")
    parser.add_argument("--only", nargs="+", choices=TOPOLOGIES, default=TOPOLOGIES, help="topologies to measure")
    parser.add_argument("--repeats", type=int, help="turns of each framework (default 40; 8 with --quick)")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    given = parser.parse_args()
    repeats = given.repeats or (8 if given.quick else 40)
    if given.one_thread:
        torch.set_num_threads(1)
    table: dict[str, Figures] = {}
    for name in given.only:
        table[name] = measure(name, repeats=repeats, compiled=not given.quick, one_thread=given.one_thread)
        for framework, found in table[name].items():
            console.print(f"{name}: {framework}: {_cell(found)}", markup=False, highlight=False)
    text = as_markdown(table)
    if given.out is not None:
        write_beside(given.out, text.encode())
        console.print(f"Wrote {given.out}")
    print(text)  # noqa: T201
    print_figures({"machine": runtime.runtime_environment(), "repeats": repeats, "topologies": table})


def measure(topology: str, *, repeats: int, compiled: bool, one_thread: bool) -> Figures:
    """Median milliseconds of one topology in every framework, and how many times as fast as torch eager it is."""
    side = architecture(topology).side
    contenders = _contenders(classifier(topology), (side, side), compiled=compiled, threads=int(one_thread))
    clock = time.process_time if one_thread else time.perf_counter
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    runs = {name: partial(each, picture) for name, each in contenders.items() if not isinstance(each, str)}
    times = take_turns(runs, repeats=repeats, description=topology, clock=clock)
    eager = times["torch eager"].median_ms
    return {
        name: {"why_not": each}
        if isinstance(each, str)
        else {"median_ms": times[name].median_ms, "times_as_fast": eager / times[name].median_ms}
        for name, each in contenders.items()
    }


def classifier(topology: str) -> nn.Module:
    """A network with random weights and two classes, where the topology has no classes of its own, behind a mean."""
    torch.manual_seed(0)
    network = architecture(topology).build(weights=None).eval()
    with torch.no_grad():
        found = network(torch.zeros(1, 3, 224, 224)) if architecture(topology).side == 224 else None
    if found is None or found.ndim == 2:
        return network
    return nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(found.shape[1], 2)).eval()


def _contenders(network: nn.Module, size_wh: tuple[int, int], *, compiled: bool, threads: int) -> dict[str, Run | str]:
    found: dict[str, Run | str] = dict(rivals.networks(network, size_wh, compiled=compiled, threads=threads))
    graph = rivals.exported(network, size_wh)
    quantized = in_int8(graph)
    found["OpenVINO, INT8"] = runtime.compile_graph(quantized, threads=threads)
    for device in devices.available():
        if device != devices.CPU:
            found[f"OpenVINO, FP32, {device}"] = runtime.compile_graph(graph, device=device)
            found[f"OpenVINO, INT8, {device}"] = runtime.compile_graph(quantized, device=device)
    if torch.cuda.is_available():
        found["torch eager, cuda"] = rivals.in_torch(network, "cuda")
    return found


def in_int8(graph: ov.Model) -> ov.Model:
    """Quantize a graph on random pictures: its speed does not depend on them."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    rng = np.random.default_rng(0)
    shape = tuple(graph.inputs[0].shape)
    pictures = [rng.integers(0, 256, shape, np.uint8) for _ in range(CALIBRATION_PICTURES)]
    return nncf.quantize(graph, nncf.Dataset(pictures), subset_size=len(pictures))


def as_markdown(table: Mapping[str, Figures]) -> str:
    """Rows are frameworks, columns topologies: milliseconds, and times as fast as torch eager."""
    frameworks = list(dict.fromkeys(name for found in table.values() for name in found))
    lines = [f"| | {' | '.join(table)} |", "|---" * (len(table) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(_cell(found.get(name)) for found in table.values())} |" for name in frameworks]
    reasons = {
        f"{name}: {each['why_not']}" for found in table.values() for name, each in found.items() if "why_not" in each
    }
    return "\n".join([*lines, "", *sorted(reasons)])


def _cell(found: Mapping[str, float | str] | None) -> str:
    if found is None or "why_not" in found:
        return ""
    return f"{found['median_ms']:.1f} ms, {found['times_as_fast']:.1f}"


if __name__ == "__main__":
    run(main)
