"""Shared by the commands of this folder: JSON in the last line, one-line errors, and gonogo's exit codes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gonogo.errors import GonogoError, UnfitError


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print the figures as one line of JSON, the last line of a command's output."""
    print(json.dumps(figures), flush=True)  # noqa: T201


def run(main: Callable[[], None]) -> None:
    """Run a command; on a `GonogoError` print its message and exit with 1 for `UnfitError`, otherwise 2.

    SIGTERM ends it as an exception does, so that servers it has started and their folders do not stay behind.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except GonogoError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1 if isinstance(error, UnfitError) else 2)
