"""Every protocol: real peers killed at random, fuzzed messages, added latency, and the memory of all adapters together.

``make test-protocols``; ``QUICK=1`` takes a twentieth of the counts. The last line holds the figures as JSON; exit code
1 if a verdict was lost, doubled or out of order, if a bad part was passed, or if a fuzzed message ended a process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from command import print_figures, run
from gonogo.errors import UnfitError

PROTOCOLS = ("tcp", "modbus", "opcua", "opcua_node", "mqtt", "http_api", "kserve", "results")
OPTIONAL = ("ethernet_ip",)
"""Only with ``--only``: its peer needs an environment of its own."""
_MUST_BE_ZERO = ("lost", "doubled", "out_of_order", "escapes", "mixed_up", "wrong", "died", "errors")


def failures(found: dict[str, Any]) -> list[str]:
    """Return the counts that had to be zero and are not, through all levels of a result."""
    wrong = [f"{key} {value}" for key, value in found.items() if key in _MUST_BE_ZERO and value]
    for key, value in found.items():
        if isinstance(value, dict):
            wrong += [f"{key}: {each}" for each in failures(value)]
    return wrong


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the counts")
    parser.add_argument(
        "--only", choices=PROTOCOLS + OPTIONAL, action="append", help="one protocol alone; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    count = 500 if given.quick else 10_000
    names = given.only or PROTOCOLS
    found = _tried_all(names[0], count, given.seed) if len(names) == 1 else _apart(names, given.quick, given.seed)
    print_figures(found)
    if wrong := [f"{name}: {each}" for name, result in found.items() for each in failures(result)]:
        raise UnfitError(f"expected 0, found {'; '.join(wrong)}.")


def _tried_all(name: str, count: int, seed: int) -> dict[str, Any]:
    """Run the parts of one protocol."""
    found: dict[str, Any] = {}
    module = importlib.import_module(f"protocols.{name}")
    with tempfile.TemporaryDirectory() as folder:
        found[name] = _tried(name, "campaign", module.campaign, triggers=count, seed=seed, folder=folder)
        parts: dict[str, dict[str, int]] = {
            "fuzz": {"messages": count, "seed": seed},
            "latency": {"count": count // 10},
        }
        for part, counts in parts.items():
            if hasattr(module, part):
                found[f"{name} {part}"] = _tried(name, part, getattr(module, part), folder=folder, **counts)
    return found


def _apart(names: Sequence[str], quick: bool, seed: int) -> dict[str, Any]:
    """Run each protocol in a process of its own: asyncua keeps the types of a nodeset for a whole process."""
    found: dict[str, Any] = {}
    for name in names:
        command = [sys.executable, "-m", "protocols.everything", "--only", name, "--seed", str(seed)]
        run_apart = subprocess.run([*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, text=True)
        lines = run_apart.stdout.splitlines()
        print("\n".join(lines[:-1]), flush=True)  # noqa: T201
        try:
            found |= json.loads(lines[-1])
        except (IndexError, ValueError) as error:
            raise UnfitError(f"{name}: the campaign ended with exit code {run_apart.returncode}, see above.") from error
    return found


def _tried(name: str, part: str, call: Callable[..., dict[str, Any]], *, folder: str, **counts: int) -> dict[str, Any]:
    print(f"--- {name}: {part} ({', '.join(f'{key} {value}' for key, value in counts.items())})", flush=True)  # noqa: T201
    began_s = time.monotonic()
    result = call(folder=Path(folder) / part, **counts)
    result["seconds"] = round(time.monotonic() - began_s, 1)
    print(result, file=sys.stderr)  # noqa: T201
    return result


if __name__ == "__main__":
    run(main)
