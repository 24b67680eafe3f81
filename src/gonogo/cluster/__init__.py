"""The same work on many machines: blocks of jobs on a Ray cluster, in order, each once, resumed after a kill.

A block is a run of jobs that one worker does with a state of its own, such as an opened bundle. Ray gives blocks to
workers and repeats those of a worker that died; the driver puts the rows in the order of the jobs and keeps finished
blocks in a journal. From Python::

    with connected() as cluster:                       # a cluster on this machine, or connected("10.0.0.1:6379")
        for row in inspect_on(cluster, Path("tile.inspector"), jobs, journal=Path("tiles.journal")):
            ...

Needs the extra ``ray``. No room that runs on the line imports this one.
"""

from gonogo.cluster.blocks import Block, DoneBlock, Row, Work
from gonogo.cluster.connecting import Cluster, connected
from gonogo.cluster.inspecting import inspect_on
from gonogo.cluster.journal import Journal
from gonogo.cluster.machine import Used
from gonogo.cluster.replaying import replay_on
from gonogo.cluster.running import run_blocks

__all__ = [
    "Block",
    "Cluster",
    "DoneBlock",
    "Journal",
    "Row",
    "Used",
    "Work",
    "connected",
    "inspect_on",
    "replay_on",
    "run_blocks",
]
