"""Runs the mutants of one part, in the working folder that `mutants.__main__` prepared: a process of its own.

``python -m mutants.engine PART SHARE SEED MINUTES``. mutmut makes the mutants and finds which test runs which function.
The tests are imported and collected once; each mutant is then a fork of that process, which runs its tests, the fastest
first, until one fails. What came of each mutant lies in ``outcomes.json`` afterwards. Results are kept, so that an
interrupted run goes on; a mutant is tried again once its function has changed.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from mutmut import __main__ as mutmut
from mutmut.configuration import config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import change_cwd
from mutmut.utils.format_utils import mangled_name_from_mutant_name
from mutmut.workers.isolation import ForkRunner

from mutants import operators
from mutants.parts import OUTCOMES

NOT_COVERED, TIMED_OUT = 33, 36
CPU_S, WALL_S = 10, 600
"""Limits of one mutant beyond four times what its tests took without it: processor time, and waiting included."""


def changed_lines(diff: str) -> str:
    """The changed lines of a diff as one line: ``old -> new``."""
    lines = diff.splitlines()[2:]
    old, new = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return f"{old} -> {new}"


def function_name(mutant: str) -> str:
    """``Class.method`` or ``function`` of a name such as ``gonogo.bundle.xǁClassǁmethod__mutmut_3``."""
    mangled = mutant.rpartition("__mutmut_")[0].rpartition(".")[2]
    return mangled.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("x_")


def chosen(names: Sequence[str], share: float, seed: int) -> set[str]:
    """A random share of the mutants, at least 1; all of them for a share of 1."""
    names = sorted(names)
    return set(names if share >= 1.0 else random.Random(seed).sample(names, max(1, round(share * len(names)))))


class Campaign:
    """A plugin of pytest: instead of running the collected tests once, run them for each mutant, in forks."""

    def __init__(self, mutants: list[tuple[Any, str, int | None]], *, seed: int, until_s: float) -> None:
        self._mutants = mutants
        self._seed = seed
        self._until_s = until_s
        self._folder = Path.cwd()
        self._terminal = os.fdopen(os.dup(2), "w")  # pytest captures the other one

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try the mutants that have no result yet, in random order, until all are tried or the time is over."""
        items = {item.nodeid: item for item in session.items}
        waiting = [(data, name) for data, name, code in self._mutants if code is None]
        random.Random(self._seed).shuffle(waiting)
        for number, (data, name) in enumerate(waiting, start=1):
            if time.monotonic() > self._until_s:
                break
            print(f"mutant {number} of {len(waiting)}", end="\r", flush=True, file=self._terminal)
            known = state().tests_by_mangled_function_name.get(mangled_name_from_mutant_name(name), set())
            tests = sorted(known & items.keys(), key=lambda test: state().duration_by_test[test])
            took_s = sum(state().duration_by_test[test] for test in tests)
            data.exit_code_by_key[name] = _try(name, [items[test] for test in tests], took_s) if tests else NOT_COVERED
            with change_cwd(self._folder):
                data.save()
        return True


def _try(name: str, items: list[pytest.Item], took_s: float) -> int:
    """Run the tests of one mutant in a fork: 1 if one failed, 0 if none did, `TIMED_OUT`, or the signal, negative."""
    pid = os.fork()
    if pid == 0:
        limit = int(CPU_S + 4 * took_s)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        set_mutant_under_test(name)
        os._exit(_failed(items))
    deadline = time.monotonic() + WALL_S + 4 * took_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return TIMED_OUT if code == -signal.SIGXCPU else code
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return TIMED_OUT


def _failed(items: list[pytest.Item]) -> int:
    try:
        for item, following in zip(items, [*items[1:], None], strict=True):
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                return 1
    except BaseException:  # noqa: BLE001  whatever ends the tests is a notice; the fork must not run on
        return 1
    return 0


def outcomes(mutants: list[tuple[Any, str, int | None]]) -> Iterator[dict[str, str]]:
    """What came of each mutant."""
    for data, name, _ in mutants:
        status = status_by_exit_code[data.exit_code_by_key[name]]
        mutation = (
            "" if status in ("killed", "not checked") else changed_lines(get_diff_for_mutant(name, path=data.path))
        )
        module = name.rpartition(".")[0]
        yield {"module": module, "function": function_name(name), "mutation": mutation, "status": status}


def main() -> None:
    """Mutate, run, and write the outcomes."""
    share, seed = float(sys.argv[2]), int(sys.argv[3])
    until_s = time.monotonic() + 60.0 * float(sys.argv[4])
    operators.install()
    collect = mutmut.collect_source_file_mutation_data
    # mutmut makes the mutants and its statistics of the tests, but none of its own runs.
    mutmut.collect_source_file_mutation_data = lambda **options: ([], collect(**options)[1])
    mutmut.run_forced_fail_test = lambda runner: None
    ForkRunner.run_clean_tests = lambda self, tests: 0  # type: ignore[method-assign]
    mutmut._run((), 1)
    found, _ = collect(mutant_names=())
    wanted = chosen([name for _, name, _ in found], share, seed)
    mutants = [mutant for mutant in found if mutant[1] in wanted]
    set_mutant_under_test("")
    campaign, settings = Campaign(mutants, seed=seed, until_s=until_s), config()
    with change_cwd("mutants"):
        selected = [*settings.pytest_add_cli_args, *settings.pytest_add_cli_args_test_selection]
        ended = pytest.main(["--rootdir=.", "-q", *selected], plugins=[campaign])
    if ended is not pytest.ExitCode.OK:
        sys.exit(f"expected to try every mutant, but pytest ended with {ended}; see above.")
    OUTCOMES.write_text(json.dumps(list(outcomes(mutants)), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
