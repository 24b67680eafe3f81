"""Nothing that is shipped reads a pickle or runs code out of a file, but the one guarded reader of weights."""

from __future__ import annotations

import ast
import json
import os
import pickle  # noqa: TID251  hostile files are made with it
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gonogo.errors import InputError
from gonogo.imported.reading import open_model

ROOT = Path(__file__).parents[1]
READER = "gonogo/backbone/weights_file.py"
BANNED = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "imp"}
CALLS = {"torch.load", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "eval", "exec"}
OPTIONS = {("allow_pickle", True), ("weights_only", False), ("safe_mode", False), ("shell", True)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src" / "gonogo", folder / "src" / "gonogo", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    pytest.importorskip("setuptools")
    subprocess.run([sys.executable, "-c", code, str(folder / "out")], cwd=folder, check=True, capture_output=True)
    return next((folder / "out").glob("*.whl"))


def found_in(source: str) -> Iterator[str]:
    """What a module imports, calls or asks for that it must not."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        yield from (name for name in names if name.split(".")[0] in BANNED)
        if isinstance(node, ast.Call):
            if (called := ast.unparse(node.func)) in CALLS:
                yield called
            for option in node.keywords:
                value = getattr(option.value, "value", None)
                if (option.arg, value) in OPTIONS:
                    yield f"{option.arg}={value}"


def test_the_scan_finds_what_it_looks_for() -> None:
    assert list(found_in("import pickle\nfrom dill import loads\ntorch.load(x, weights_only=False)")) == [
        "pickle", "dill", "torch.load", "weights_only=False",
    ]  # fmt: skip


@pytest.mark.slow
def test_no_module_reads_a_pickle_but_the_weights() -> None:
    modules = list((ROOT / "src").rglob("*.py"))
    bad = {
        path.relative_to(ROOT / "src").as_posix(): found
        for path in modules
        if (found := sorted(set(found_in(path.read_text("utf-8")))))
    }
    assert bad == {READER: ["pickle"]}
    assert len(modules) > 500


@pytest.mark.slow
def test_the_wheel_reads_no_pickle_but_the_weights(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        bad = {
            name: found
            for name in names
            if name.endswith(".py") and (found := sorted(set(found_in(archive.read(name).decode()))))
        }
        assert bad == {READER: ["pickle"]}
        assert len(names) > 500
        for name in names:
            assert not name.endswith((".pkl", ".pickle", ".joblib", ".pt", ".pth", ".pyc", ".so", ".h5"))
            assert archive.read(name)[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), name


class _Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 16, 16),)), path)
    return path


def changed(program: Path, to: Path, new: dict[str, bytes]) -> Path:
    """A copy of a program with members replaced or added."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            target.writestr(name, new.pop(name.partition("/")[2], None) or source.read(name))
        for name, data in new.items():
            target.writestr(f"net/{name}", data)
    return to


def evil_tensor(mark: Path) -> bytes:
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(_Evil(mark), buffer)
    return buffer.getvalue()


@pytest.mark.slow
def test_a_plain_program_is_read(program: Path) -> None:
    assert open_model(program).framework == "torch"


def test_programs_with_code_are_refused_and_nothing_of_it_runs(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with zipfile.ZipFile(program) as archive:
        member = "data/weights/net_weights_config.json"
        (member,) = [name for name in archive.namelist() if name.endswith("weights_config.json")]
        weights = json.loads(archive.read(member))
        (graph_member,) = [name for name in archive.namelist() if "/models/" in name]
        graph = archive.read(graph_member).decode()
    for each in weights["config"].values():
        each["use_pickle"] = True
    config = member.partition("/")[2]
    attacks = {
        "inputs": {"data/sample_inputs/model.pt": evil_tensor(mark)},
        "weights": {config: json.dumps(weights).encode(), "data/weights/weight_0": evil_tensor(mark)},
        "constant": {"data/constants/custom_obj_0": pickle.dumps(_Evil(mark))},
        "library": {"data/aotinductor/net/net.wrapper.so": b"\x7fELF"},
        "slip": {"data/../../evil.json": b"{}"},
        "expression": {
            graph_member.partition("/")[2]: graph.replace(
                '"as_int": 16', '"as_expr": {"expr_str": "__import__(chr(111)).mkdir(1)", "hint": null}', 1
            ).encode()
        },
    }
    for name, new in attacks.items():
        hostile = changed(program, tmp_path / f"{name}.pt2", dict(new))
        with pytest.raises(InputError, match=rf"{name}\.pt2: "):
            open_model(hostile)
        assert not mark.exists(), name


def test_hdf5_from_which_keras_may_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(InputError, match=r"found HDF5.*model\.save\('net\.keras'\)"):
        open_model(tmp_path / "net.h5")
