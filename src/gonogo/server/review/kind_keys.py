"""What the number keys of the review page stand for: kept for each inspector, so that a key keeps its meaning."""

from __future__ import annotations

import json
from collections.abc import Iterable

from gonogo.server.database import Database

MOST_KINDS = 40


class KindKeys:
    """The defect kinds in the order of their number keys; further kinds are only ever added at the end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self, graph: str) -> list[str]:
        """The kinds of an inspector so far.

        Args:
            graph: Names what gives the scores, so that new limits keep the keys.
        """
        return self._read("SELECT kinds FROM review_kinds WHERE graph = ?", graph)

    def extend(self, graph: str, dataset: str, *, listed: Iterable[str], others: Iterable[str]) -> list[str]:
        """The kinds of an inspector with those that are new.

        Args:
            graph: As above.
            dataset: The data set it was trained on; a retrained inspector begins with the keys of its predecessor.
            listed: In the order that a person gave them on the data set's page: this order alone may move a key.
            others: Further kinds in use.
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
