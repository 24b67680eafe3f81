"""Self-contained HTML pages. ``page.html`` is the base of every report; `svg`, `pictures` and `words` are its parts."""

from __future__ import annotations

from gonogo.report.page import render_page, write_report

__all__ = ["render_page", "write_report"]
