"""The web server: pages, JSON and streams for people and programs. `create_app` builds it, ``gonogo serve`` runs it."""

from __future__ import annotations

from gonogo.server.application import create_app
from gonogo.server.options import Options
from gonogo.server.workspace import Workspace

__all__ = ["Options", "Workspace", "create_app"]
