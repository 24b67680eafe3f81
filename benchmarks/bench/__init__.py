"""Benchmark of whole judgements against the bare network, the training framework and other runtimes.

The way in is `bench.study.run_bench`; nothing is imported here, because the processes that judge side by side
need no training framework.
"""
