"""Self-contained HTML reports. Every report extends ``page.html``; `svg`, `pictures` and `phrases` fill it."""

from __future__ import annotations

from gonogo.report.page import render_page, write_report

__all__ = ["render_page", "write_report"]
