"""Results for other systems: the documents, and the destinations that each verdict is delivered to.

The ledger is the outbox. ``gonogo ledger publish`` reads it row by row and delivers a document for each verdict and
each decision to every destination, in order: at least once, and exactly once for a receiver that keeps each
``result_id`` once. It is information for other systems and never controls the line: nothing here can delay or change an
answer.
"""

from gonogo.results.document import Decision, Document, Result, decision_of, document_of, result_id

__all__ = ["Decision", "Document", "Result", "decision_of", "document_of", "result_id"]
