"""Number keys of the review page, stored per inspector so that a key keeps its meaning."""

from __future__ import annotations

import json
from collections.abc import Iterable

from gonogo.server.database import Database

MOST_KINDS = 40


class KindKeys:
    """Defect kinds in the order of their number keys; new kinds are only appended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self, graph: str) -> list[str]:
        """Return the stored kinds of an inspector.

        Args:
            graph: Hash of the scoring files, so that new limits keep the keys.
        """
        return self._read("SELECT kinds FROM review_kinds WHERE graph = ?", graph)

    def extend(self, graph: str, dataset: str, *, listed: Iterable[str], others: Iterable[str]) -> list[str]:
        """Add new kinds and return all kinds of an inspector.

        Args:
            graph: See `kept`.
            dataset: Its training data set; a retrained inspector starts with the keys of its predecessor.
            listed: Kinds in the order set on the data set's page; only this order can move a key.
            others: Other kinds in use.
        """
        with self._database.transaction():
            before = self.kept(graph)
            if not before and dataset:
                before = self._read(
                    "SELECT kinds FROM review_kinds WHERE dataset = ? ORDER BY length(kinds) DESC LIMIT 1", dataset
                )
            kinds = list(dict.fromkeys([*listed, *before, *others]))[:MOST_KINDS]
            self._database.run(
                "INSERT INTO review_kinds VALUES (?, ?, ?) ON CONFLICT (graph) DO UPDATE SET kinds = excluded.kinds, "
                "dataset = CASE excluded.dataset WHEN '' THEN dataset ELSE excluded.dataset END",
                graph,
                dataset,
                json.dumps(kinds),
            )
        return kinds

    def _read(self, query: str, value: str) -> list[str]:
        found = self._database.run(query, value)
        kinds: list[str] = json.loads(found[0][0]) if found else []
        return kinds
