"""How fast a whole judgement is: against the bare network, the training framework and other runtimes, by turns.

The way in is `bench.study.run_bench`; nothing is imported here, because the processes that judge side by side
need no training framework.
"""
