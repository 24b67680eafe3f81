"""What the commands of this folder share: figures in the last line, errors in one line, gonogo's exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gonogo.errors import GonogoError, UnfitError


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print the figures as one line of JSON; it is the last line that a command prints."""
    print(json.dumps(figures), flush=True)  # noqa: T201


def run(main: Callable[[], None]) -> None:
    """Run a command; an error of gonogo ends the process with its message: exit code 1 for `UnfitError`, else 2."""
    try:
        main()
    except GonogoError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1 if isinstance(error, UnfitError) else 2)
