from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gonogo.evidence import FeatureTable, fitting, out_of_fold


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_evidence_is_fitted_on_one_blas_thread_and_others_get_theirs_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    fit_memory = fitting.fit_memory

    def watching(*given: object, **named: object) -> object:
        seen.update(blas_threads())
        return fit_memory(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "fit_memory", watching)
    rng = np.random.default_rng(0)
    bad = np.arange(12) % 2
    table = FeatureTable(
        vectors=rng.standard_normal((12, 12)).astype(np.float32),
        joined=rng.standard_normal((12, 6, 4, 4)).astype(np.float16),
        widths=(2, 2, 2),
        bad=bad,
        groups=tuple(range(12)),
        targets=None,
    )
    with threadpool_limits(2, user_api="blas"):
        out_of_fold(table, seed=0)
        assert blas_threads() == {2}
    assert seen == {1}
