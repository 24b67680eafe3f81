"""``gonogo train --config``: options out of a TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gonogo.cli.help_text import sections
from gonogo.cli.train_config import TrainConfig, read_options
from gonogo.config import Strict
from gonogo.errors import InputError
from tests import command_kit as kit

TRAIN = dict(kit.commands())[("train",)]


def parsed(*words: str) -> dict[str, Any]:
    """What the command would run with."""
    found: dict[str, Any] = TRAIN.make_context("train", ["data", "--out", "x", *words]).params
    return found


def written(folder: Path, text: str) -> Path:
    path = folder / "train.toml"
    path.write_text(text)
    return path


def test_the_example_states_the_defaults(tmp_path: Path) -> None:
    ended = kit.run_here(["train", "--example-config"])
    assert ended.code == 0
    assert TrainConfig.model_validate(tomllib.loads(ended.out)) == TrainConfig()
    path = written(tmp_path, ended.out)
    assert parsed("--config", str(path)) | {"config": None} == parsed()


def test_every_key_of_the_example_may_be_used(tmp_path: Path) -> None:
    text = kit.run_here(["train", "--example-config"]).out
    text = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    stated = TrainConfig.model_validate(tomllib.loads(text)).options(given_only=True)
    assert set(stated) == set(TrainConfig().options())
    assert read_options(written(tmp_path, text))["roi_weights"] == str(tmp_path / "resnet18.safetensors")


def test_the_tables_of_the_file_are_the_sections_of_the_help() -> None:
    shown = [{each.name for each in group} for heading, group in sections(TRAIN.params).items()][2:]
    tables = [set(type(each).model_fields) for _, each in TrainConfig() if isinstance(each, Strict)]
    assert tables == shown
    assert {"seed"} == set(TrainConfig().options()) - set().union(*tables)


def test_what_stands_on_the_command_line_wins(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        """
        seed = 3
        [promise]
        max_escape = 0.01
        joint = true
        reject = true
        [input]
        reduction = 4
        tile = true
        cut = ["a", "b"]
        weights = "w.safetensors"
        [fine_tuning]
        finetune = true
        learning_rate = 1
        """,
    )
    read = parsed("--config", str(config))
    assert (read["seed"], read["max_escape"], read["joint"], read["reduction"]) == (3, 0.01, True, "4")
    assert (read["cut"], read["tile"], read["finetune"], read["learning_rate"]) == (["a", "b"], True, True, 1.0)
    assert read["weights"] == str(tmp_path / "w.safetensors")
    assert (read["epochs"], read["backbone"]) == (24, "efficientnet_lite0"), "what the file leaves out is the default"
    words = [
        "--seed",
        "5",
        "--each",
        "--no-reject",
        "--max-escape",
        "0.2",
        "--cut",
        "z",
        "--no-tile",
        "--no-finetune",
        "--weights",
        "none",
    ]
    won = parsed(*words, "--config", str(config))
    assert (won["seed"], won["joint"], won["reject"], won["max_escape"]) == (5, False, False, 0.2)
    assert (won["cut"], won["tile"], won["finetune"], won["weights"]) == (["z"], False, False, "none")
    assert won["reduction"] == "4"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sede = 1", "sede: unknown key, expected one of seed, promise, input, region, fine_tuning"),
        ("[promise]\nmax_escpae = 0.1", "promise.max_escpae: unknown key, expected one of max_escape, max_overkill"),
        ("seed = -1", "seed: expected greater than or equal to 0, found -1"),
        ("seed = 1e3", "seed: expected a valid integer, found 1000.0"),
        ('seed = "1"', "seed: expected a valid integer, found '1'"),
        ("promise = 3", "promise: expected a table, found 3"),
        ("[promise]\nconfidence = 1.5", "promise.confidence: expected less than 1, found 1.5"),
        ("[promise]\nconfidence = nan", "promise.confidence: expected"),
        ("[promise]\njoint = 1", "promise.joint: expected a valid boolean, found 1"),
        ('[input]\nsize = "9x9"', "input.size: expected one or two sides of 32 to 2048 pixels"),
        ("[input]\nreduction = 3", "input.reduction: expected 1, 2, 4 or 8, found 3"),
        ("[input]\noverlap = 5", "input.overlap: expected a multiple of 16, found 5"),
        ('[input]\ncut = "layer2"', "input.cut: expected a valid list, found 'layer2'"),
        ("[fine_tuning]\nlearning_rate = inf", "fine_tuning.learning_rate: expected a finite number, found inf"),
        ("[fine_tuning]\nepochs = 99999999999", "fine_tuning.epochs: expected less than or equal to 2147483647"),
        ('[fine_tuning]\npool = "big"', "fine_tuning.pool: expected 'auto', 'mean', 'max' or 'lse', found 'big'"),
        ("[region", "expected TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key_what_was_expected_and_what_was_found(
    text: str, told: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as refusal:
        read_options(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert told in str(refusal.value)
    ended = kit.run_here(["train", "data", "--out", str(tmp_path / "x"), "--config", str(path)])
    assert ended.code == 2
    assert told in ended.err


def test_a_file_that_is_not_there_is_refused_with_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gonogo train --example-config"):
        read_options(tmp_path / "train.toml")
