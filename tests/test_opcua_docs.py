"""The OPC UA page shows the address space of the model."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("asyncua")

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_shows_the_tree_of_the_model() -> None:
    made = runpy.run_path(str(DOCS / "make_opcua.py"))["tree"]()
    assert f"```text\n{made}\n```" in (DOCS / "opc-ua.md").read_text("utf-8"), "run python docs/make_opcua.py"
