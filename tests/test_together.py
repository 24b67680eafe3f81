"""Several processes that fine-tune together."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gonogo.dataset import Dataset
from gonogo.errors import InputError
from gonogo.ranks import ALONE, Ranks

SCRIPT = Path(__file__).with_name("ddp_run.py")
LOSS_TOLERANCE = 1e-4
"""Largest relative difference of the losses between one process and two, after two epochs."""
WEIGHT_TOLERANCE, MOMENTUM_TOLERANCE = 1e-3, 5e-2
"""Largest difference of a weight or statistic, and of a momentum, relative to the largest of its tensor, which counts
as at least 0.1 for weights: rounding may flip which pixel a maximum takes, and the gradient then takes another way."""
torch_only = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs gonogo[finetune]")


def test_a_place_is_read_from_what_torchrun_sets() -> None:
    assert Ranks.of({}) == ALONE
    found = Ranks.of({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"})
    assert (found, found.first) == (Ranks(rank=3, local=1, count=4), False)
    assert (found.device("cuda"), found.device("cuda:0"), found.device("cpu")) == ("cuda:1", "cuda:0", "cpu")
    assert ALONE.device("cuda") == "cuda"
    for wrong in (
        {},
        {"RANK": "x", "LOCAL_RANK": "0"},
        {"RANK": "4", "LOCAL_RANK": "0"},
        {"RANK": "0", "LOCAL_RANK": "1"},
    ):
        with pytest.raises(InputError):
            Ranks.of({"WORLD_SIZE": "4"} | wrong)


@pytest.mark.parametrize("items", [0, 1, 3, 8])
def test_every_item_belongs_to_one_process(items: int) -> None:
    shares = [Ranks(rank=rank, count=3).share(range(items)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(items))


def run(data: Path, folder: Path, *words: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*start, str(SCRIPT), str(data), str(folder), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=3000
    )


@pytest.mark.slow
@pytest.mark.timeout(6000)
@torch_only
def test_two_processes_train_the_network_that_one_trains(discs: Dataset, tmp_path: Path) -> None:
    """The last batch has one picture, so a share is empty; the processes start with different heads."""
    import safetensors.torch

    rows, networks = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        ended = run(discs.root, folder, processes=processes)
        assert ended.returncode == 0, ended.stderr[-3000:]
        rows.append([json.loads(line) for line in (folder / "work" / "metrics.jsonl").read_text().splitlines()])
        networks.append(safetensors.torch.load_file(folder / "work" / "checkpoint.safetensors"))
    for one, two in zip(*rows, strict=True):
        assert two == pytest.approx(one, rel=LOSS_TOLERANCE)
    for name, value in networks[0].items():
        largest, off = (
            float(each.double().abs().max()) for each in (value, value.double() - networks[1][name].double())
        )
        if name.startswith("momentum"):
            assert off < MOMENTUM_TOLERANCE * largest + 1e-9, name
        else:
            assert off < WEIGHT_TOLERANCE * max(largest, 0.1), name
    again = run(discs.root, tmp_path / "2")
    assert "Resuming after epoch 2" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(6000)
@torch_only
def test_all_processes_fail_together(discs: Dataset, tmp_path: Path) -> None:
    ended = run(discs.root, tmp_path / "out", "fail")
    assert ended.returncode != 0
    assert not (tmp_path / "out" / "network").exists()


@pytest.mark.slow
@pytest.mark.timeout(6000)
@torch_only
def test_torchrun_makes_one_bundle(discs: Dataset, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gonogo"]
    train = ["train", str(discs.root), "--out", str(tmp_path / "two.inspector"), "--finetune", "--epochs", "1"]
    small = ["--backbone", "resnet18", "--weights", "none", "--cut", "layer1", "--size", "64x64", "--crops", "1"]
    command = [*start, *train, *small, "--rotations", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=3000)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stderr.count("Wrote ") == 1
    assert (tmp_path / "two.inspector" / "SHA256SUMS").is_file()
    assert not list(tmp_path.glob("*.work*"))
    alone = subprocess.run(
        [*start, *train[:4], str(tmp_path / "frozen.inspector")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=3000,
    )
    assert alone.returncode != 0, "nothing but fine-tuning is shared"
