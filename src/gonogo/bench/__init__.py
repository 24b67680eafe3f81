"""How fast a whole judgement is: against the bare network, the training framework and other runtimes, by turns."""

from gonogo.bench.clock import Times, take_turns
from gonogo.bench.records import Benchmark, Row
from gonogo.bench.study import FULL, QUICK, Extent, Peers, run_bench

__all__ = ["FULL", "QUICK", "Benchmark", "Extent", "Peers", "Row", "Times", "run_bench", "take_turns"]
