"""Adapters: how a station speaks with a PLC, an MES or a message broker.

Each adapter is one small module of the same shape, an async function ``serve(settings, link)``; see
`gonogo.line.adapter`. A station opens those in its ``[[adapters]]`` tables, beside its ``[trigger]`` and ``[answer]``.
"""

from gonogo.line.adapter import Adapter, AdapterError, Link, StationPort, TimelyAnswer
from gonogo.line.messages import Answer, Cause, Trigger
from gonogo.line.opening import open_adapter
from gonogo.line.settings import AdapterSettings
from gonogo.line.state import AdapterState, Health, LineState

__all__ = [
    "Adapter",
    "AdapterError",
    "AdapterSettings",
    "AdapterState",
    "Answer",
    "Cause",
    "Health",
    "LineState",
    "Link",
    "StationPort",
    "TimelyAnswer",
    "Trigger",
    "open_adapter",
]
