"""Self-contained HTML pages. ``page.html`` is the base of every report; `svg`, `pictures` and `words` are its parts."""

from __future__ import annotations

from gonogo.report.page import render, write_report

__all__ = ["render", "write_report"]
