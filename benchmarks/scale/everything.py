"""Everything that shows how far it scales, one part after the other, each within its time.

``make test-scale``; ``QUICK=1`` takes a hundredth of the counts: less than ten minutes on two quiet cores, and the
budgets are several times that, for busy ones. Each part is a target of the Makefile and can be made alone. The last
line holds the figures of every part as JSON; exit code 1 if one fails or takes too long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command import print_figures, run
from gonogo.errors import UnfitError

_PATIENCE_S = 60.0
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A target of the Makefile."""

    target: str
    budget_s: float
    quick_budget_s: float


PARTS = (
    Part(target="scale-stations", budget_s=3600, quick_budget_s=480),
    Part(target="scale-batch", budget_s=7200, quick_budget_s=540),
    Part(target="scale-migration", budget_s=3600, quick_budget_s=300),
    Part(target="fleet", budget_s=1800, quick_budget_s=480),
    Part(target="check-deploy", budget_s=900, quick_budget_s=600),
)


def targets(makefile: str) -> set[str]:
    """Return the targets that a Makefile has rules for."""
    return set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))


def run_part(command: list[str], budget_s: float) -> dict[str, Any]:
    """Run a part, showing what it prints.

    Returns:
        ``passed``, ``seconds``, and ``figures``: its last line if that is JSON; ``skipped`` if the part says why it
        cannot run here.
    """
    began_s, last, late = time.monotonic(), "", threading.Event()
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:

        def too_late() -> None:
            late.set()
            _end(process)

        clock = threading.Timer(budget_s, too_late)
        clock.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)  # noqa: T201
                last = line if line.strip() else last
            code = process.wait()
        finally:
            clock.cancel()
            _end(process)
    found: dict[str, Any] = {"passed": code == 0 and not late.is_set(), "seconds": round(time.monotonic() - began_s, 1)}
    with contextlib.suppress(ValueError):
        figures = json.loads(last)
        if isinstance(figures, Mapping):
            found |= {"skipped": figures["skipped"]} if "skipped" in figures else {"figures": figures}
    if late.is_set():
        found["why"] = f"took longer than {budget_s:g} s"
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """End a part and everything that it started, where it is still running; it has a while to put things away."""
    until_s = time.monotonic() + _PATIENCE_S
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < until_s:
            process.poll()
            os.killpg(process.pid, 0)  # raises once the last of them has ended
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the counts")
    parser.add_argument("--only", choices=[part.target for part in PARTS], help="one part alone")
    given = parser.parse_args()
    there = targets((_ROOT / "Makefile").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        if given.only not in (None, part.target):
            continue
        if part.target not in there:
            found[part.target] = {"passed": True, "skipped": f"the Makefile has no target {part.target}"}
            continue
        print(f"--- {part.target}", flush=True)  # noqa: T201
        command = ["make", "--no-print-directory", part.target, *(["QUICK=1"] if given.quick else [])]
        found[part.target] = run_part(command, part.quick_budget_s if given.quick else part.budget_s)
    for name, each in found.items():
        what = each.get("skipped") or each.get("why") or ("passed" if each["passed"] else "failed")
        print(f"{name:18s}{each.get('seconds', 0.0):8.1f} s  {what}", file=sys.stderr)  # noqa: T201
    print_figures(found)
    failed = [name for name, each in found.items() if not each["passed"]]
    if failed:
        raise UnfitError(f"failed: {', '.join(failed)}.")


if __name__ == "__main__":
    run(main)
