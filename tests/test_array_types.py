"""Annotations of arrays: checked in tests, nothing on the line."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from gonogo.evidence.context import pooled_vector


@pytest.mark.slow
def test_the_line_imports_neither_jaxtyping_nor_a_checker() -> None:
    code = "import sys, gonogo.inspector, gonogo.station.worker, gonogo.cli; "
    code += "sys.exit(any(name in sys.modules for name in ('jaxtyping', 'beartype')))"
    environment = {name: value for name, value in os.environ.items() if name != "GONOGO_CHECK_ARRAYS"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_an_array_of_another_dtype_is_refused_in_tests() -> None:
    maps = [np.zeros((3, 4, 4), np.float64), np.zeros((3, 2, 2), np.float64), np.zeros((3, 1, 1), np.float64)]
    with pytest.raises(Exception, match="pooled_vector"):
        pooled_vector(maps)  # type: ignore[arg-type]
