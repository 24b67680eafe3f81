"""What a network loses on its way from torch to INT8: file sizes, scores, verdicts and AUROC at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo import bundle, runtime
from gonogo.bundle import Bundle
from gonogo.certification.trust import refuse_other_data
from gonogo.config import settings
from gonogo.dataset import Dataset, Split
from gonogo.devices import find_devices
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, evaluate
from gonogo.inspector import Inspector
from gonogo.runtime import Graph
from gonogo.signing import NOT_REQUIRED
from gonogo.workflow.comparing import require_same_data

_ROUNDING = np.float32(2**16 + 1)
_MULTIPLYING = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed from one step to another, over the pictures that both gave a score."""

    largest: float
    """Largest absolute difference in score."""
    mean: float
    """Mean absolute difference in score."""
    verdicts: int
    """Number of pictures with another verdict."""


@dataclass(frozen=True, kw_only=True)
class ConversionStep:
    """One step of the conversion."""

    name: str
    """``torch``, ``FP32``, ``BF16`` or ``INT8``."""
    simulated: bool
    """Whether the processor lacks this arithmetic, and it was imitated in FP32."""
    size_bytes: int
    """Size of the network on disk; in torch, of its FP32 weights."""
    pictures: int
    auroc: float | None
    auroc_low: float | None
    """The 95 % interval of the AUROC."""
    auroc_high: float | None
    from_before: Difference | None
    """Against the step before; ``None`` for the first."""
    from_first: Difference | None
    """Against the first step; ``None`` for the first."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def follow_conversion(
    full: Bundle, quantized: Bundle | None, dataset: Dataset, splits: Sequence[Split] = (Split.TEST,)
) -> tuple[ConversionStep, ...]:
    """Judge some splits with a network in torch, in OpenVINO in FP32 and BF16, and quantized.

    In torch, the stored operations run one by one. BF16 is simulated where the processor has none: the inputs and
    results of every convolution and matrix product are rounded to BF16, and the sums stay in FP32, as in hardware.
    Every step locates the part in the same way. The quantized bundle has thresholds of its own; the others share one
    pair.

    Args:
        full: A bundle in full precision.
        quantized: The INT8 bundle that was made from it, if there is one.
        dataset: The data set that both were trained on.
        splits: The splits to judge.

    Raises:
        DatasetError: The splits have no labelled pictures.
        InputError: A bundle or the data set does not fit, or torch cannot run an operation of the graph.
    """
    _require_fit(full, quantized)
    source = Inspector.load(full.root, machine=settings().on_cpu(), policy=NOT_REQUIRED)
    require_same_data(dataset, source)
    if quantized is not None:
        refuse_other_data(quantized, dataset)
    steps: list[ConversionStep] = []
    seen: list[Evaluation] = []
    for name, size_bytes, simulated, inspector in _contenders(full, quantized, source):
        judged = evaluate(inspector, dataset, splits, with_regions=False)
        low, high = judged.auroc_range
        steps.append(
            ConversionStep(
                name=name,
                simulated=simulated,
                size_bytes=size_bytes,
                pictures=len(judged.pictures),
                auroc=judged.auroc,
                auroc_low=low,
                auroc_high=high,
                from_before=_difference(seen[-1], judged) if seen else None,
                from_first=_difference(seen[0], judged) if seen else None,
            )
        )
        seen.append(judged)
    return tuple(steps)


def _contenders(full: Bundle, quantized: Bundle | None, source: Inspector) -> list[tuple[str, int, bool, Inspector]]:
    """Name, size, whether it is simulated, and inspector of each step."""
    from gonogo.workflow.torch_graph import TorchGraph  # torch is imported only here

    model = ov.Core().read_model(*full.graph(bundle.CLASSIFIER))
    reference = TorchGraph(model)
    on_disk = _size(full)
    capable = "BF16" in next(each for each in find_devices() if each.default).capabilities
    halved = runtime.compile_graph(
        full.graph(bundle.CLASSIFIER) if capable else rounding_to_bf16(model),
        precision="bf16" if capable else "f32",
    )

    def with_graph(graph: object) -> Inspector:
        return Inspector(full, cast(Graph, graph), source.roi)

    found = [
        ("torch", reference.stored_bytes, False, with_graph(reference)),
        ("FP32", on_disk, False, source),
        ("BF16", on_disk, not capable, with_graph(halved)),
    ]
    if quantized is not None:
        judge = Inspector.load(quantized.root, machine=settings().on_cpu(), policy=NOT_REQUIRED)
        found.append(("INT8", _size(quantized), False, judge))
    return found


def _size(opened: Bundle) -> int:
    return sum(opened.classifier.with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin"))


def _difference(before: Evaluation, after: Evaluation) -> Difference:
    rows = {each.file: each for each in before.pictures}
    pairs = [(rows[each.file], each) for each in after.pictures if each.file in rows]
    off = [abs(b.score - a.score) for a, b in pairs if a.score is not None and b.score is not None]
    return Difference(
        largest=max(off, default=0.0),
        mean=float(np.mean(off)) if off else 0.0,
        verdicts=sum(a.state is not b.state for a, b in pairs),
    )


def rounding_to_bf16(model: ov.Model) -> ov.Model:
    """Copy a graph, with the inputs and results of its convolutions and matrix products rounded to BF16.

    Source of the rounding: T. J. Dekker, "A floating-point technique for extending the available precision",
    Numerische Mathematik 18, 1971: ``x * c - (x * c - x)`` with ``c = 2**16 + 1`` keeps 8 of FP32's 24 significant
    bits, rounded to nearest.
    """
    made = model.clone()
    for node in made.get_ordered_ops():
        if node.get_type_name() not in _MULTIPLYING:
            continue
        for port in node.inputs():
            port.replace_source_output(_rounded(port.get_source_output()))
        readers = [port for port in node.output(0).get_target_inputs() if port.get_node().get_type_name() != "Result"]
        result = _rounded(node.output(0))
        for port in readers:
            port.replace_source_output(result)
    made.validate_nodes_and_infer_types()
    return made


def _rounded(value: ov.Output) -> ov.Output:
    scaled = ops.multiply(value, ops.constant(_ROUNDING))
    return ops.subtract(scaled, ops.subtract(scaled, value)).output(0)


def _require_fit(full: Bundle, quantized: Bundle | None) -> None:
    for opened in (full, *([quantized] if quantized is not None else [])):
        if opened.manifest.cascade is not None:
            raise InputError(f"{opened.root}: expected a bundle with one network, found a cascade. Give its two parts.")
    if full.manifest.quantization is not None or full.manifest.precision != "f32":
        raise InputError(
            f"{full.root}: expected a bundle in full precision, found a quantized one. Add its source with --against."
        )
    if quantized is not None and (
        quantized.manifest.quantization is None or quantized.manifest.quantization.arithmetic != "int8"
    ):
        raise InputError(
            f"{quantized.root}: expected the INT8 bundle that was made from {full.root}, found another one. Make it "
            f"with: gonogo bundle quantize {full.root} DATASET --out FILE"
        )
