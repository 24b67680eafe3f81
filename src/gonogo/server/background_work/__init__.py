"""Background work: one thread for each queue, and a journal of what people asked for that survives a restart."""

from gonogo.server.background_work.asked import Asked, WorkKind, WorkState
from gonogo.server.background_work.journal import Entry, Journal
from gonogo.server.background_work.worker import StoppedError, Task, Worker

__all__ = ["Asked", "Entry", "Journal", "StoppedError", "Task", "WorkKind", "WorkState", "Worker"]
