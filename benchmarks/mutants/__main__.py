"""Tests of the tests: change the code that decides in thousands of small ways; do the tests notice each change?

``make mutants``; ``ARGS='--only roi_losses'`` takes one part, ``QUICK=1`` a seeded sample of a few minutes. Survivors
are printed; those in `answers.toml` have been looked at, and their reason stands there. Results are kept in
``build/mutants``: an interrupted run, or one that ``--minutes`` ended, goes on, and an unchanged function is not tried
again. After a change of tests alone, ``--again`` tries the survivors again. The last line is the figures, as JSON; exit
code 1 if a survivor has no answer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from command import print_figures, run
from gonogo.errors import InputError, UnfitError
from mutants.parts import OUTCOMES, PARTS, Part

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = Path(__file__).with_name("answers.toml")
COPIED = ("src", "tests", "benchmarks", "conftest.py")
QUICK_MUTANTS = {"operating_point": 0.06, "roi_losses": 0.15, "bundle": 0.03, "ledger": 0.03, "station": 0.01}
"""Share of the mutants in a quick run, by part."""
_FIELDS = ("module", "function", "mutation")


def prepare(name: str, part: Part, out: Path) -> Path:
    """Make the working folder of a part: links to the sources, and a configuration of mutmut."""
    folder = out / name
    # Python forgets a folder of its path that is not there when it starts.
    (folder / "mutants/src").mkdir(parents=True, exist_ok=True)
    for entry in COPIED:
        link = folder / entry
        if not link.is_symlink():
            link.symlink_to(ROOT / entry)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    settings["tool"]["mutmut"] = {
        "source_paths": ["src"],
        "only_mutate": [f"src/gonogo/{pattern}" for pattern in part.sources],
        "also_copy": [entry for entry in COPIED if entry != "src"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "mutants.fast_tests", "-m", ""],
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in part.tests],
        "use_git_change_detection": False,
    }
    (folder / "pyproject.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    return folder


def forget_survivors(folder: Path) -> None:
    """Let mutants that no test noticed be tried again, with the tests as they are now."""
    for kept in folder.glob("mutants/src/**/*.meta"):
        data = json.loads(kept.read_text(encoding="utf-8"))
        codes = data["exit_code_by_key"]
        data["exit_code_by_key"] = {name: code if code == 1 else None for name, code in codes.items()}
        kept.write_text(json.dumps(data), encoding="utf-8")


def try_part(name: str, folder: Path, *, share: float, seed: int, minutes: float) -> list[dict[str, str]]:
    """Run the mutants of a part; return what came of each."""
    changed = {
        "GONOGO_MUTATED_PART": name,
        "OMP_NUM_THREADS": "1",
        # The folder's own copy of the benchmarks may be older; the tests find it by the settings of pytest.
        "PYTHONPATH": os.pathsep.join(map(str, (folder / "mutants/src", ROOT / "benchmarks"))),
    }
    command = [sys.executable, "-m", "mutants.engine", name, str(share), str(seed), str(minutes)]
    (folder / OUTCOMES).unlink(missing_ok=True)
    done = subprocess.run(command, cwd=folder, env=os.environ | changed, check=False)
    if not (folder / OUTCOMES).exists():
        raise InputError(f"{name}: expected outcomes, but mutmut ended with {done.returncode}; see its output above.")
    found: list[dict[str, str]] = json.loads((folder / OUTCOMES).read_text(encoding="utf-8"))
    return found


def read_answers(path: Path = ANSWERS) -> dict[tuple[str, ...], str]:
    """Read the reasons of survivors that were looked at, by module, function and mutation."""
    given = tomllib.loads(path.read_text(encoding="utf-8"))["answer"]
    return {tuple(each[field] for field in _FIELDS): each["reason"] for each in given}


def figures(outcomes: list[dict[str, str]], answers: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    """Count the outcomes of a part and list survivors without an answer."""
    counts = Counter(each["status"] for each in outcomes)
    survived = [tuple(each[field] for field in _FIELDS) for each in outcomes if each["status"] == "survived"]
    unknown = sorted(counts.keys() - {"killed", "timeout", "survived", "no tests", "segfault", "not checked"})
    if unknown:
        raise InputError(f"expected every mutant to be tried, found {unknown}. Run it again: it goes on where it was.")
    return {
        "mutants": len(outcomes),
        "tried": len(outcomes) - counts["no tests"] - counts["not checked"],
        "killed": counts["killed"] + counts["segfault"],
        "timed_out": counts["timeout"],
        "survived": len(survived),
        "answered": sum(key in answers for key in survived),
        "not_covered": counts["no tests"],
        "unanswered": [dict(zip(_FIELDS, key, strict=True)) for key in survived if key not in answers],
    }


def main() -> None:
    """Try the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small random sample of the mutants")
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="one part alone; may be repeated")
    parser.add_argument("--seed", type=int, default=28, help="of the random choice of mutants")
    parser.add_argument("--again", action="store_true", help="try mutants that survived again: tests have changed")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop each part after this time")
    parser.add_argument("--out", type=Path, default=Path("build/mutants"), help="folder in which results are kept")
    given = parser.parse_args()
    answers, found = read_answers(), {}
    for name in given.only or PARTS:
        folder = prepare(name, PARTS[name], given.out.resolve())
        if given.again:
            forget_survivors(folder)
        share = QUICK_MUTANTS[name] if given.quick else PARTS[name].share
        found[name] = figures(try_part(name, folder, share=share, seed=given.seed, minutes=given.minutes), answers)
    unanswered = [each for part in found.values() for each in part.pop("unanswered")]
    for each in unanswered:
        print(f"survived: {each['module']}.{each['function']}: {each['mutation']}")  # noqa: T201
    print_figures(found)
    if unanswered:
        raise UnfitError(f"{len(unanswered)} changes were not noticed: write a test, or a reason into {ANSWERS.name}.")


if __name__ == "__main__":
    run(main)
