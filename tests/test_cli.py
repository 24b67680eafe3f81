from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gonogo import images
from gonogo.dataset import Dataset, Split
from gonogo.schema import Label
from tests.test_images import bomb


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gonogo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def loaded_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_openvino() -> None:
    assert not {"torch", "openvino", "cv2"} & loaded_after("import gonogo")
    assert not {"torch", "openvino"} & loaded_after("import gonogo.cli")


@pytest.mark.slow
def test_the_line_side_never_loads_torch() -> None:
    modules = loaded_after("import gonogo.cli, gonogo.inspector, gonogo.evaluate, gonogo.report")
    assert "openvino" in modules
    assert not {"torch", "torchvision", "sklearn", "matplotlib", "openvino_telemetry"} & modules


@pytest.mark.slow
def test_who_asks_openvino_for_its_converter_still_gets_it() -> None:
    modules = loaded_after("import gonogo.runtime, openvino\nassert callable(openvino.convert_model)")
    assert "openvino_telemetry" in modules
    asked_for_nonsense = "import gonogo.runtime, openvino\nassert not hasattr(openvino, 'nonsense')"
    assert "openvino" in loaded_after(asked_for_nonsense)


@pytest.mark.slow
def test_inspecting_never_loads_torch(trained: Path, discs: Dataset) -> None:
    photo = discs.path(discs.split(Split.TEST)[0])
    code = f"import sys; sys.argv = ['gonogo', 'inspect', {str(trained)!r}, {str(photo)!r}]\n"
    code += "from gonogo.cli import app\ntry:\n    app()\nexcept SystemExit as end:\n    assert not end.code"
    assert "torch" not in loaded_after(code)


@pytest.mark.slow
def test_an_option_of_fine_tuning_without_it_is_refused_and_so_is_a_device_that_is_not_there(
    discs: Dataset, tmp_path: Path
) -> None:
    command = ("train", discs.root, "--out", tmp_path / "x.inspector", "--weights", "none")
    done = run(*command, "--window", "0.6", COLUMNS="300")
    assert done.returncode == 2
    assert "Add --finetune" in done.stderr
    done = run(*command, "--finetune", "--device", "cuda:99", COLUMNS="300")
    assert done.returncode == 2
    assert "torch cannot use 'cuda:99' on this machine" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_wrong_environment_variable_is_named(trained: Path, discs: Dataset) -> None:
    done = run("inspect", trained, discs.root / discs.samples[0].file_name, GONOGO_THREADS="many")
    assert done.returncode == 2
    assert "GONOGO_THREADS" in done.stderr
    assert "'many'" in done.stderr


@pytest.mark.slow
def test_a_command_that_needs_the_training_packages_says_so_without_them(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['gonogo', 'bundle', 'distill', 'x', 'y', '--out', 'z']\n"
    )
    code += "from gonogo.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "gonogo[finetune]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_inspect_prints_one_object_per_picture(trained: Path, discs: Dataset, tmp_path: Path) -> None:
    chosen = [discs.path(sample) for sample in discs.split(Split.TEST)[:4]]
    done = run("inspect", trained, *chosen, "--json", "--heatmaps", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    summary = rows.pop()
    manifest = json.loads((trained / "inspector.json").read_text())["operating_point"]
    thresholds = {name: manifest[name] for name in ("go_below", "no_go_above")}
    assert summary["summary"] is True
    assert summary["pictures"] == sum(summary[state] for state in ("go", "no_go", "review", "fault")) == 4
    assert thresholds.items() <= summary.items()
    assert [row["file"] for row in rows] == [str(path) for path in chosen]
    fields = {"file", "state", "score", "box_xyxy", "region_xy", "heatmap_file", "reason", "windows", "timings_ms"}
    for row in rows:
        assert set(row) == fields | {
            "bundle_sha256",
            "go_below",
            "no_go_above",
            "go_without_promise",
            "device",
            "kind",
            "kind_share",
            "zone",
            "zones",
            "measurements",
            "counts",
            "notes",
            "identity",
        }
        assert row["bundle_sha256"] == summary["bundle_sha256"]
        assert thresholds.items() <= row.items()
        stages = {stage: took for stage, took in row["timings_ms"].items() if stage != "total"}
        assert row["timings_ms"]["total"] == pytest.approx(sum(stages.values()), rel=0.2, abs=0.5)
        assert row["timings_ms"]["total"] >= stages["decode"]
        assert row["box_xyxy"] == [0, 0, 96, 72]
        assert images.load_picture(row["heatmap_file"]).shape == (72, 96, 3)
    assert {row["state"] for row in rows} <= {"go", "no_go", "review"}


@pytest.mark.slow
def test_inspect_judges_the_rest_and_names_what_it_could_not_read(
    trained: Path, discs: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(discs.path(discs.samples[0]), folder / "b.png")
    (folder / "a.jpg").write_text("a note")
    (folder / "c.png").write_bytes(bomb(20_000, 20_000))
    done = run("inspect", trained, folder, "--json")
    rows = {Path(row["file"]).name: row for row in map(json.loads, done.stdout.splitlines()[:-1])}
    assert json.loads(done.stdout.splitlines()[-1])["fault"] == 2
    assert done.returncode == 2
    assert "2 of 3 pictures" in done.stderr
    assert rows["a.jpg"]["state"] == rows["c.png"]["state"] == "fault"
    assert "a note" in rows["a.jpg"]["reason"]
    assert rows["b.png"]["state"] != "fault"


@pytest.mark.slow
def test_two_pictures_of_one_name_keep_both_heat_maps(trained: Path, discs: Dataset, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(discs.path(discs.samples[0]), tmp_path / folder / "a.png")
    done = run("inspect", trained, tmp_path / "one", tmp_path / "two", "--heatmaps", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "maps").iterdir())) == 2


@pytest.mark.slow
def test_evaluate_prints_what_it_promises(trained: Path, discs: Dataset, tmp_path: Path) -> None:
    done = run("evaluate", trained, discs.root, "--json", "--report", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rates = {
        f"{rate}{end}" for rate in ("escape_rate", "overkill_rate", "review_rate") for end in ("", "_low", "_high")
    }
    assert set(found) >= rates | {"parts", "auroc", "average_precision", "pointing_game", "pointing_game_centre"}
    assert found["parts"] == 40
    assert found["summary"].startswith("40 parts: ")
    assert found["bundle_sha256"][:16] in found["summary"]
    assert "<html" in (tmp_path / "report.html").read_text()


def good_and_bad(folder: Path, good: int, bad: int) -> Path:
    rng = np.random.default_rng(1)
    for name, count in (("good", good), ("bad", bad)):
        for index in range(count):
            (folder / name).mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            (folder / name / f"{index}.png").write_bytes(images.encode_png(picture))
    return folder


def train(data: Path, out: Path, **options: object) -> subprocess.CompletedProcess[str]:
    flags = [item for key, value in options.items() for item in (f"--{key}", value)]
    return run("train", data, "--out", out, "--size", 64, *flags)


@pytest.mark.slow
def test_training_refuses_what_it_cannot_learn_from(tmp_path: Path) -> None:
    source = good_and_bad(tmp_path / "photos", 6, 4)
    imported = run("dataset", "import", source, "--out", tmp_path / "data")
    assert imported.returncode == 0, imported.stderr
    done = train(tmp_path / "data", tmp_path / "x.inspector")
    assert done.returncode == 2
    assert "10" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "photos"]


@pytest.mark.slow
def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("dataset", "import", tmp_path / "empty", "--out", tmp_path / "data")
    assert done.returncode == 2
    assert "empty" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_missing_data_set_and_weights_that_do_not_fit_are_refused(discs: Dataset, tmp_path: Path) -> None:
    assert train(tmp_path / "nowhere", tmp_path / "x.inspector").returncode == 2
    (tmp_path / "w.safetensors").write_bytes(b"x")
    done = train(discs.root, tmp_path / "x.inspector", backbone="resnet18", weights=tmp_path / "w.safetensors")
    assert done.returncode == 2
    assert "w.safetensors" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.slow
def test_a_changed_bundle_is_refused_with_exit_code_two(trained: Path, discs: Dataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy.inspector"))
    data = bytearray((copy / "classifier.bin").read_bytes())
    data[100] ^= 255
    (copy / "classifier.bin").write_bytes(data)
    done = run("inspect", copy, discs.path(discs.samples[0]))
    assert done.returncode == 2
    assert "classifier.bin" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_disk_that_fills_leaves_nothing_behind(discs: Dataset, trained: Path, tmp_path: Path) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    out = tmp_path / "x.inspector"
    code = (
        limit
        + f"""
import sys
from pathlib import Path
from gonogo.dataset import Dataset
from gonogo.errors import InputError
from gonogo.workflow import TrainingOptions, train_inspector
options = TrainingOptions(size_wh=(64, 64))
try:
    train_inspector(Dataset.read({str(discs.root)!r}), Path({str(out)!r}), options)
except InputError as error:
    print(error)
    sys.exit(2)
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_certificate_asked_for_is_written(discs: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "x.inspector"
    done = train(discs.root, out, **{"max-escape": 0.01})
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert "239 more are needed" in told
    judged = run("inspect", out, *(discs.path(s) for s in discs.split(Split.TEST) if s.label is Label.GOOD), "--json")
    assert {json.loads(line)["state"] for line in judged.stdout.splitlines()[:-1]} == {"review"}
