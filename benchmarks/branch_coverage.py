"""Branch coverage of the parts that a wrong go would come from: ``python -m branch_coverage [--quick] [--only PART]``.

Runs the tests that belong to these parts and prints, for each part, its statements and branches, how many of them ran,
and each line and branch that did not. Processes that the tests start are measured too; what is killed with SIGKILL
leaves no trace. The settings are those of ``[tool.coverage]`` in `pyproject.toml`: a line is excluded only by
``# pragma: no cover  REASON``, and every such line is printed. Ends with 1 if a part lies below its aim.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from command import print_figures, run
from gonogo.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "gonogo"
FOLDER = ROOT / "build" / "coverage"
REASON = re.compile(r"# pragma: no cover  (\S.*)")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the product, its tests, and what they must reach together."""

    name: str
    files: tuple[str, ...]
    """Patterns below `src/gonogo`."""
    tests: tuple[str, ...]
    """Names of test files, without ``test_`` and ``.py``."""
    aim: float = 100.0
    """Least share of statements and branches that must run, in percent. It may only be raised."""
    quick: bool = False
    """Whether ``--quick`` measures it."""


PARTS = (
    Part(
        name="operating point",
        files=("operating_point/*.py",),
        tests=("operating_point", "operating_point_audit", "promise", "certificate_lots"),
        quick=True,
    ),
    Part(name="ROI losses", files=("train/box_losses.py",), tests=("box_losses",), quick=True),
    Part(
        name="bundle",
        files=("bundle.py", "bundle_graphs.py"),
        tests=("bundle", "odd_bundles", "old_bundles"),
        quick=True,
    ),
    Part(
        name="ledger",
        files=("ledger/*.py",),
        tests=("ledger", "ledger_faults", "ledger_formats", "results", "certificate_lots", "scale", "signed_actions"),
    ),
    Part(
        name="station",
        files=("station/*.py",),
        tests=(
            "station", "station_beside", "station_centre", "station_expiry", "station_failures", "station_messages",
            "station_names", "station_results", "station_troubles", "codes", "devices", "handshake", "odd_bundles",
            "products", "server_stations", "signing", "tracking", "trust_policy", "week",
        ),
    ),
)  # fmt: skip


_FORKING = ("test_odd_bundles",)
"""Files whose tests fork: where other tests have started threads, a measured fork may wait for a lock for ever."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What ran of one file."""

    file: Path
    statements: int
    branches: int
    missed_statements: int
    missed_branches: int
    missing: str
    """Lines that did not run, and branches as ``from->to``; ``exit`` is the end of the function."""
    excluded: tuple[tuple[int, str], ...]
    """Lines with a pragma, and their reasons."""


def main() -> None:
    """Run the tests, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Leave out the ledger and the station.")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="Measure this part.")
    parser.add_argument("--processes", default="auto", help="Test processes; 0 runs in this one's only child.")
    options = parser.parse_args()
    wanted = options.only or [part.name for part in PARTS if part.quick or not options.quick]
    parts = [part for part in PARTS if part.name in wanted]
    failed = _run_tests(sorted({name for part in parts for name in part.tests}), options.processes)
    found = {part: _measure(part) for part in parts}
    for part, files in found.items():
        _print_part(part, files)
    figures = {part.name: _figures(part, files) for part, files in found.items()}
    print_figures({"parts": figures, "tests_failed": failed})
    sys.exit(int(failed or any(not each["reached"] for each in figures.values())))


def _run_tests(names: Iterable[str], processes: str) -> bool:
    """Run test files under coverage and join what their processes left; return whether a test failed."""
    files = [ROOT / "tests" / f"test_{name}.py" for name in names]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise InputError(f"no such test file: {', '.join(missing)}. Correct PARTS in {Path(__file__).name}.")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    spread = [] if processes == "0" else ["-n", processes, "--maxprocesses", "4", "--dist", "loadfile"]
    alone = [file for file in files if file.stem in _FORKING]
    tests = _coverage("run", "-m", "pytest", "-m", "", *spread, *(str(file) for file in files if file not in alone))
    for file in alone:
        tests = _coverage("run", "-m", "pytest", "-m", "", str(file)) or tests
    if _coverage("combine", "--quiet", str(FOLDER)):
        raise InputError("nothing was measured. Run one test file with pytest to see why.")
    return tests != 0


def _coverage(*words: str) -> int:
    """Run coverage and return its exit code; the variable says to every process where its data goes."""
    environment = os.environ | {"COVERAGE_FILE": str(FOLDER / "data")}
    return subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, env=environment, check=False).returncode


def _measure(part: Part) -> list[Measured]:
    """Compare the files of a part with what ran; a file of which nothing ran counts with all its lines."""
    files = sorted(file for pattern in part.files for file in SOURCE.glob(pattern))
    report = FOLDER / "report.json"
    if _coverage("json", "--quiet", "-o", str(report), *map(str, files)):
        raise InputError(f"{FOLDER}: no data of {part.name}. Run its tests with pytest to see why.")
    by_name = json.loads(report.read_bytes())["files"]
    return [_measured(file, by_name[str(file.relative_to(ROOT))]) for file in files]


def _measured(file: Path, found: dict[str, Any]) -> Measured:
    summary = found["summary"]
    lines = file.read_text(encoding="utf-8").splitlines()
    branches = [(a, b) for a, b in found["missing_branches"] if a not in found["missing_lines"]]
    return Measured(
        file=file,
        statements=summary["num_statements"],
        branches=summary["num_branches"],
        missed_statements=summary["missing_lines"],
        missed_branches=summary["missing_branches"],
        missing=", ".join([*_ranges(found["missing_lines"]), *map(_branch, branches)]),
        excluded=tuple(
            (number, match.group(1)) for number, line in enumerate(lines, 1) if (match := REASON.search(line))
        ),
    )


def _ranges(lines: Sequence[int]) -> list[str]:
    """Join consecutive numbers: 3, 4, 5, 9 are "3-5" and "9"."""
    starts = [line for before, line in pairwise([-1, *lines]) if line != before + 1]
    ends = [line for line, after in pairwise([*lines, -1]) if after != line + 1]
    return [str(first) if first == last else f"{first}-{last}" for first, last in zip(starts, ends, strict=True)]


def _branch(branch: tuple[int, int]) -> str:
    source, target = branch
    return f"{source}->{target if target > 0 else 'exit'}"


def _figures(part: Part, files: Sequence[Measured]) -> dict[str, Any]:
    statements, branches = sum(file.statements for file in files), sum(file.branches for file in files)
    missed = sum(file.missed_statements + file.missed_branches for file in files)
    percent = 100 * (1 - missed / (statements + branches))
    return {
        "statements": statements,
        "branches": branches,
        "missed": missed,
        "percent": int(percent * 100) / 100,  # never rounded up to 100
        "aim": part.aim,
        "excluded": sum(len(file.excluded) for file in files),
        "reached": percent >= part.aim,
    }


def _print_part(part: Part, files: Sequence[Measured]) -> None:
    figures = _figures(part, files)
    _say(
        f"\n{part.name}: {figures['percent']:g} % of {figures['statements']} statements and {figures['branches']} "
        f"branches in {len(files)} files (aim {part.aim:g} %), {figures['excluded']} lines excluded"
    )
    for file in files:
        name = file.file.relative_to(ROOT)
        if file.missing:
            _say(f"  {name}: not run: {file.missing}")
        for line, reason in file.excluded:
            _say(f"  {name}:{line}: excluded: {reason}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    run(main)
