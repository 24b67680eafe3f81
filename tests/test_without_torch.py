"""The default way from pictures to a qualified bundle, in a process that has no torch at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gonogo.dataset import Dataset, Split

_WITHOUT_TORCH = """
import contextlib, io, json, sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    # What is not installed is not found, rather than refused: so packages that look for torch see none.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
from gonogo.cli import main

ends = []
for words in json.load(sys.stdin):
    sys.argv = ["gonogo", *words]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    ends.append((code, out.getvalue(), err.getvalue()))
assert "torch" not in sys.modules
json.dump(ends, sys.stdout)
"""


def without_torch(*commands: list[object]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of command lines, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH],
        input=json.dumps([[str(word) for word in words] for words in commands]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.mark.slow
def test_training_judging_quantizing_and_qualifying_need_no_torch(discs: Dataset, tmp_path: Path) -> None:
    made, small = tmp_path / "disc.inspector", tmp_path / "disc8.inspector"
    photo = discs.path(discs.split(Split.TEST)[0])
    anything = ["--max-flips", "1", "--max-moves", "1", "--max-pointing-loss", "1", "--min-correlation", "-1"]
    ends = without_torch(
        ["train", discs.root, "--out", made, "--size", "64"],
        ["inspect", made, photo, "--json"],
        ["evaluate", made, discs.root, "--json", "--report", tmp_path / "report.html"],
        ["qualify", made, discs.root, "--out", tmp_path / "qualification.html"],
        ["bundle", "quantize", made, discs.root, "--out", small, "--pictures", "8", "--no-control", *anything],
    )
    trained, inspected, evaluated, qualified, quantized = ends
    assert trained[0] == 0, trained
    assert json.loads(inspected[1].splitlines()[0])["state"] in ("go", "no_go", "review")
    assert evaluated[0] == 0, evaluated
    assert json.loads(evaluated[1])["auroc"] > 0.9
    assert (tmp_path / "report.html").is_file()
    assert qualified[0] in (0, 1), qualified
    assert "FAIL" in qualified[1] if qualified[0] else "pass" in qualified[1]
    assert quantized[0] == 0, quantized
    assert small.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["train", "--finetune"],
        ["train", "--backbone", "resnet18", "--weights", "none"],
        ["train", "--roi", "learned"],
    ],
    ids=lambda words: " ".join(words),
)
def test_what_needs_torch_names_its_extra_in_one_line(words: list[str], discs: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "x.inspector"
    command, *options = words
    [(code, _, told)] = without_torch([command, discs.root, "--out", out, "--size", "64", *options])
    assert code == 2
    assert "pip install 'gonogo[finetune]'" in told
    lines = [line for line in told.splitlines() if not line.startswith("Data set: revision")]
    assert len(lines) == 1, told
    assert not out.exists()
