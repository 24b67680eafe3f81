"""The pages about Modbus and TCP say what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
MADE = runpy.run_path(str(DOCS / "make_plc.py"))


def test_the_tables_and_the_capture_are_those_of_the_code() -> None:
    page = (DOCS / "modbus.md").read_text("utf-8")
    assert page == MADE["filled"](page), "run make docs-plc"


def test_the_timing_diagram_is_a_run_of_the_state_machine() -> None:
    assert (DOCS / "images/handshake.svg").read_text("utf-8") == MADE["picture"](), "run make docs-plc"


def test_the_exchanges_of_the_page_about_tcp_are_those_of_the_adapter() -> None:
    made = runpy.run_path(str(DOCS / "make_tcp.py"))
    page = (DOCS / "tcp-lines.md").read_text("utf-8")
    assert page == made["filled"](page), "run make docs-plc"
