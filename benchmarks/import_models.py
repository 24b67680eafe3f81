"""Imports a Keras, an ONNX and a torch classifier, and compares them with their own frameworks.

    make check-imports                 # QUICK=1: fewer parts
    make check-imports ARGS='--weights ../shared/weights --data DATASET'

Trains the last layer of MobileNet (Keras, one sigmoid, in an environment of its own with TensorFlow), of SqueezeNet
(to ONNX, logits) and of MobileNetV2 (torch.export, a softmax inside) on rendered close-ups, or on DATASET. Each is
imported, judged, and quantized to INT8 through the gate; the Keras model also as a SavedModel, the ONNX one also as
OpenVINO IR. Writes a table and the heat maps of some test parts; the last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import torch
import torchvision
from torch import Tensor, nn

from command import print_figures, run
from gonogo import images
from gonogo.dataset import Dataset, Split
from gonogo.errors import GonogoError, InputError, UnfitError
from gonogo.evaluate import evaluate
from gonogo.heatmap import overlay
from gonogo.imported import Declaration
from gonogo.inspector import Inspector
from gonogo.model import Normalisation
from gonogo.model.backbones import IMAGENET, SYMMETRIC
from gonogo.model.weights import read_tensors
from gonogo.openvino_import import no_telemetry
from gonogo.progress import console, track
from gonogo.schema import Label
from gonogo.source import TrainingSource, labels
from gonogo.workflow import Allowed, QuantizingOptions, import_model, quantize_bundle

SIDE = 224
PARTS, QUICK_PARTS = 800, 240
STEPS = 300
SHOWN = 6
KERAS = ("keras==3.15.1", "tensorflow-cpu==2.21.0")
INT8 = Allowed(flips=0.02, moves=0.15, pointing_loss=0.05)
"""Wider than the default limits, which take 598 compared parts without a single flip; QUICK compares 156."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained model and its own framework's logits of the test parts."""

    name: str
    model: Path
    declared: Declaration
    scores: np.ndarray
    python: Path | None = None
    """Interpreter to import it with; default this one."""
    quantize: bool = True


def main() -> None:
    """Train, import, compare, quantize and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("imports"))
    parser.add_argument("--data", type=Path, help="A labelled and split data set; default rendered close-ups.")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="Folder of pretrained weights.")
    parser.add_argument("--env", type=Path, default=Path(".venv-keras"), help="Environment for Keras; made if missing.")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(0)
    given.out.mkdir(parents=True, exist_ok=True)
    dataset = Dataset.read(given.data) if given.data else rendered(given.out, QUICK_PARTS if given.quick else PARTS)
    source = TrainingSource(dataset=dataset, size_wh=(SIDE, SIDE))
    made = candidates(given.out, source, given.weights, keras_python(given.env))
    rows = []
    for each in made:
        rows.append(measured(each, dataset, given.out))
        row = " | ".join(f"{key} {value}" for key, value in rows[-1].items())
        console.print(row, markup=False, highlight=False, soft_wrap=True)
    sheet = given.out / "heatmaps.png"
    draw(sheet, dataset, {each.name: bundle_of(given.out, each) for each in made})
    console.print(f"Heat maps: {sheet}")
    worst = max(row["largest_score_difference"] for row in rows)
    print_figures({"parts": len(dataset.samples), "largest_score_difference": worst, "models": rows})
    if worst > 1e-4:
        raise UnfitError(f"a score differs by {worst:.2e} from its framework's, more than 1e-4.")


def rendered(out: Path, parts: int) -> Dataset:
    """Close-ups of a chip, imported as a data set; kept for the next run."""
    folder = out / f"parts-{parts}"
    if not folder.is_dir():
        from gonogo.synthetic import write_close_ups

        write_close_ups(out / f"photos-{parts}", parts, workers=os.cpu_count() or 1)
        words = ("dataset", "import", str(out / f"photos-{parts}"), "--out", str(folder))
        gonogo(Path(sys.executable), *words, "--mask-suffix", "_mask.png", "--splits", "25/10/45/20")
    return Dataset.read(folder)


def gonogo(python: Path, *words: str) -> str:
    """Run a command of gonogo in an environment and return what it prints."""
    done = subprocess.run([python, "-m", "gonogo", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"gonogo {' '.join(words)}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def keras_python(folder: Path) -> Path:
    """The interpreter of the environment with Keras and TensorFlow; made if it is missing."""
    python = folder / "bin" / "python"
    if not python.is_file():
        console.print(f"Making {folder} with {' and '.join(KERAS)} (about 2 GB)")
        uv = next((each for each in (Path(".uv/bin/uv"),) if each.is_file()), Path("uv"))
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        words = ["pip", "install", "--quiet", "--python", str(python), "--constraint", "constraints.txt"]
        subprocess.run([uv, *words, *KERAS, "--editable", ".[train]"], check=True)
    return python


def candidates(out: Path, source: TrainingSource, weights: Path, python: Path) -> list[Candidate]:
    """Train one model in each framework."""
    train = source.dataset.split(Split.TRAIN, Split.VAL)
    test = source.dataset.split(Split.TEST)
    pictures = np.stack(list(track(source.plain(train), "reading train", total=len(train))))
    tested = np.stack(list(track(source.plain(test), "reading test", total=len(test))))
    bad = labels(train)
    keras = of_keras(out, pictures, bad, tested, weights, python)
    squeezenet = of_onnx(out, pictures, bad, tested, weights / "squeezenet1_1.safetensors")
    return [*keras, *squeezenet, of_torch(out, pictures, bad, tested, weights / "mobilenet_v2.safetensors")]


def of_keras(
    out: Path, pictures: np.ndarray, bad: np.ndarray, tested: np.ndarray, weights: Path, python: Path
) -> list[Candidate]:
    """MobileNet in Keras, with one sigmoid; as a .keras file, and as a SavedModel read without TensorFlow."""
    np.savez(out / "pictures.npz", train=pictures, bad=bad, test=tested)
    script = Path(__file__).parent / "peers" / "keras_classifier.py"
    file = weights / "mobilenet_v1_keras.npz"
    words: list[Any] = [python, script, out / "pictures.npz", out, *([file] if file.is_file() else [])]
    with console.status("training in Keras"):
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    declared = Declaration(channels="rgb", mean=(127.5,), scale=(127.5,), bad_class=(1,))
    scores = np.load(out / "scores.npy")
    return [
        Candidate(name="keras", model=out / "net.keras", declared=declared, scores=scores, python=python),
        Candidate(name="saved_model", model=out / "net_tf", declared=declared, scores=scores, quantize=False),
    ]


def of_onnx(out: Path, pictures: np.ndarray, bad: np.ndarray, tested: np.ndarray, weights: Path) -> list[Candidate]:
    """SqueezeNet, whose last convolution is pooled; as ONNX, and as OpenVINO IR."""
    import onnxruntime

    net = torchvision.models.squeezenet1_1(weights=None, num_classes=2).eval()
    load(net, weights, skipped="classifier")
    maps = batched(net.features, normalised(pictures, IMAGENET))
    nn.init.constant_(net.classifier[1].bias, 1.0)  # so that the ReLU behind it starts open
    fit(nn.Sequential(net.classifier, nn.Flatten()), maps, bad)
    file = out / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, SIDE, SIDE),), file, dynamo=True, verbose=False, external_data=False)
    with no_telemetry():
        ov.save_model(ov.convert_model(file), out / "net.xml", compress_to_fp16=False)
    session = onnxruntime.InferenceSession(file)
    (entry,) = session.get_inputs()
    inputs = normalised(tested, IMAGENET).numpy()
    logits = np.concatenate([session.run(None, {entry.name: each[None]})[0] for each in inputs])
    declared = Declaration(
        channels="rgb",
        mean=IMAGENET.mean,
        scale=IMAGENET.std,
        classes=("good", "bad"),
        bad_class=("bad",),
        head="softmax",
    )
    scores = logits[:, 1] - logits[:, 0]
    return [
        Candidate(name="onnx", model=file, declared=declared, scores=scores),
        Candidate(name="openvino", model=out / "net.xml", declared=declared, scores=scores, quantize=False),
    ]


def of_torch(out: Path, pictures: np.ndarray, bad: np.ndarray, tested: np.ndarray, weights: Path) -> Candidate:
    """MobileNetV2 with a softmax inside, as a program of torch.export."""
    net = torchvision.models.mobilenet_v2(weights=None, num_classes=2).eval()
    load(net, weights, skipped="classifier")
    maps = batched(net.features, normalised(pictures, SYMMETRIC))
    fit(net.classifier, maps.mean((2, 3)), bad)
    whole = nn.Sequential(net, nn.Softmax(1)).eval()
    program = torch.export.export(whole, (torch.zeros(1, 3, SIDE, SIDE),))
    torch.export.save(program, out / "net.pt2")
    logits = batched(net, normalised(tested, SYMMETRIC)).numpy()
    declared = Declaration(channels="rgb", mean=SYMMETRIC.mean, scale=SYMMETRIC.std, bad_class=(1,))
    return Candidate(name="torch", model=out / "net.pt2", declared=declared, scores=logits[:, 1] - logits[:, 0])


def load(net: nn.Module, weights: Path, *, skipped: str) -> None:
    """Load pretrained weights up to the head; random ones without a file."""
    if not weights.is_file():
        console.print(f"{weights}: no such file; the network keeps random weights.")
        return
    known = {name: value for name, value in read_tensors(weights).items() if not name.startswith(skipped)}
    net.load_state_dict({**net.state_dict(), **known})


def normalised(pictures: np.ndarray, normalisation: Normalisation) -> Tensor:
    """Pictures as the network takes them: pictures x 3 x height x width."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (normalisation.mean, normalisation.std))
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - mean) / std


def batched(net: nn.Module, inputs: Tensor) -> Tensor:
    """Run a network on many pictures."""
    with torch.no_grad():
        return torch.cat([net(each) for each in track(torch.split(inputs, 16), "features")])


def fit(head: nn.Module, features: Tensor, bad: np.ndarray) -> None:
    """Train a head on the features of a frozen network."""
    optimiser = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=1e-2)
    wanted = torch.from_numpy(bad)
    head.train()
    for _ in track(range(STEPS), "training the head"):
        chosen = torch.randperm(len(bad))[:64]
        optimiser.zero_grad()
        loss: Tensor = nn.functional.cross_entropy(head(features[chosen]), wanted[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    head.eval()


def bundle_of(out: Path, made: Candidate) -> Path:
    """Path of the bundle of a candidate."""
    return out / f"{made.name}.inspector"


def measured(made: Candidate, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Import a candidate, compare its scores on test, and quantize it."""
    bundle = bundle_of(out, made)
    if made.python is None:
        import_model(made.model, dataset, bundle, made.declared, overwrite=True)
    else:
        imported_elsewhere(made, dataset, bundle, made.python)
    inspector = Inspector.load(bundle)
    origin = inspector.bundle.manifest.classifier.imported
    assert origin is not None, "it was imported"
    judged = evaluate(inspector, dataset, (Split.TEST,))
    by_file = {each.file: each for each in judged.pictures}
    test = dataset.split(Split.TEST)
    found = [by_file[sample.file_name].score for sample in test]
    off = max(abs(float("nan") if one is None else one - other) for one, other in zip(found, made.scores, strict=True))
    states = Counter(each.state.value for each in judged.pictures)
    pointing = judged.localisation.pointing
    return {
        "model": made.name,
        "compared_with": origin.compared_with,
        "largest_score_difference": float(off),
        "auroc": judged.auroc,
        "verdicts": dict(states),
        "map": origin.map,
        "hottest_point_on_defect": f"{pointing.count} of {pointing.of}",
        **({"int8": quantized(inspector, dataset, out / f"{made.name}-int8.inspector")} if made.quantize else {}),
    }


def imported_elsewhere(made: Candidate, dataset: Dataset, bundle: Path, python: Path) -> None:
    """Import with the command line of another environment."""
    file = bundle.with_suffix(".toml")
    stated = made.declared.model_dump(mode="json", exclude_defaults=True)
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in stated.items()))
    words = ("import-model", str(made.model), str(dataset.root), "--out", str(bundle), "--overwrite")
    with console.status(f"importing {made.model}"):
        gonogo(python, *words, "--preprocessing", str(file))


def quantized(inspector: Inspector, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Quantize through the gate, every layer of the backbone; restoring layers takes minutes per network."""
    options = QuantizingOptions(pictures=100, control=False, allowed=INT8)
    try:
        made = quantize_bundle(inspector, dataset, out, options, overwrite=True)
    except GonogoError as error:
        return {"refused": str(error).splitlines()[0:3]}
    stated = made.bundle.manifest.quantization
    assert stated is not None, "it was quantized"
    return {
        "int8_layers": stated.int8_layers,
        "float_layers": stated.float_layers,
        "flips": f"{stated.flips.count} of {stated.flips.of}",
        "moves": f"{stated.moves.count} of {stated.moves.of}",
        "pointing": [stated.pointing_before, stated.pointing_after],
    }


def draw(file: Path, dataset: Dataset, bundles: dict[str, Path]) -> None:
    """Draw test parts of each kind with the heat map of every bundle, one row per bundle."""
    test = [sample for sample in dataset.split(Split.TEST) if sample.label is Label.BAD]
    kinds = {sample.defect: sample for sample in reversed(test)}
    good = next(sample for sample in dataset.split(Split.TEST) if sample.label is Label.GOOD)
    chosen = {sample.file_name: sample for sample in (*kinds.values(), *test)}
    shown = [*list(chosen.values())[: SHOWN - 1], good]
    rows = []
    for name, path in bundles.items():
        inspector = Inspector.load(path)
        row = []
        for sample in shown:
            photograph, verdict = inspector.inspect_file(dataset.path(sample))
            assert photograph is not None, "it was judged before"
            drawn = cv2.resize(overlay(photograph.frame, verdict, inspector.heat_scale), (SIDE, SIDE))
            text = f"{verdict.state.value} {verdict.score:.1f}"
            cv2.rectangle(drawn, (0, SIDE - 22), (SIDE, SIDE), (250, 250, 248), -1)
            cv2.putText(drawn, text, (4, SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (38, 42, 48), 1, cv2.LINE_AA)
            row.append(drawn)
        label = np.full((SIDE, 120, 3), (250, 250, 248), np.uint8)
        cv2.putText(label, name, (6, SIDE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (38, 42, 48), 1, cv2.LINE_AA)
        rows.append(np.hstack([label, *row]))
    file.write_bytes(images.encode_png(np.ascontiguousarray(np.vstack(rows))))


if __name__ == "__main__":
    run(main)
