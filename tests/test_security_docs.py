"""What the pages about security claim is shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["security.md", "trust.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named
    for file, test in named:
        source = (ROOT / file).read_text("utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"


def test_every_command_of_the_table_of_claims_is_a_target_or_a_test() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    table = (ROOT / "docs" / "trust.md").read_text("utf-8").split("## Claims")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    assert len(lines) > 15
    for line in lines:
        cells = line.strip("| ").split(" | ")
        assert len(cells) == 4, line
        assert cells[3].startswith(("`make ", '`pytest -m "" tests/')), line
        assert set(re.findall(r"`make ([\w-]+)", cells[3])) <= targets, line
