"""Tamper with ledgers at random, as with an SQLite tool, and check that verification finds every edit.

``make tampering``, or ``python benchmarks/tampering.py --ledger FILE``. ``QUICK=1`` makes 100 edits, not 1,000. Exit
code 1 if one was missed, or if the untouched file raised an alarm. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from command import print_figures, run
from gonogo.errors import UnfitError
from gonogo.ledger import formats
from gonogo.ledger.anchors import Anchor
from gonogo.ledger.formats import apsw
from gonogo.ledger.records import NO_HASH, RowKind, row_hash
from gonogo.ledger.store import Ledger
from gonogo.ledger.verifying import verify
from gonogo.progress import track
from ledger_timing import fill

_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Number of random edits that were detected."""

    edits: int
    found: int
    found_without_anchor: int
    """Detected by the chain and the file, without an anchor."""
    false_alarms: int
    """Findings on the intact file, which is verified once per edit."""
    missed: tuple[str, ...]
    """The edits that were not detected."""
    by_edit: Mapping[str, int]
    """Number of edits of each kind."""


def survey(path: Path, *, edits: int, seed: int) -> Survey:
    """Make random edits, each on a separate copy of a ledger with an anchor at its head, and verify every copy.

    Args:
        path: The ledger; it is only read.
        edits: How many.
        seed: Of the random choices.
    """
    rng = np.random.default_rng(seed)
    made: Counter[str] = Counter()
    found = found_alone = false_alarms = 0
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        untouched, copy = Path(folder) / "untouched.ledger", Path(folder) / "copy.ledger"
        anchors = [_copy(path, untouched)]
        for _ in track(range(edits), "tampering", total=edits):
            shutil.copyfile(untouched, copy)
            false_alarms += len(verify(copy, anchors=anchors))
            what = tamper(copy, rng)
            made[what.split(":")[0]] += 1
            found_alone += bool(verify(copy))
            if verify(copy, anchors=anchors):
                found += 1
            else:
                missed.append(what)
    return Survey(
        edits=edits,
        found=found,
        found_without_anchor=found_alone,
        false_alarms=false_alarms,
        missed=tuple(missed),
        by_edit=dict(sorted(made.items())),
    )


def _copy(path: Path, to: Path) -> Anchor:
    with Ledger.open(path, read_only=True) as ledger:
        head = ledger.head()
    source, target = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY), apsw.Connection(str(to))
    try:
        with target.backup("main", source, "main") as backup:
            backup.step()
    finally:
        source.close()
        target.close()
    return Anchor(seq=head.seq, sha256=head.sha256, at=datetime.now(UTC))


def tamper(path: Path, rng: np.random.Generator) -> str:
    """Make one random edit and return its description; the triggers are dropped for it and restored."""
    connection = apsw.Connection(str(path))
    try:
        connection.pragma("synchronous", "OFF")
        guards = [sql for sql in formats.SCHEMA if sql.startswith("CREATE TRIGGER")]
        with connection:
            for sql in guards:
                connection.execute(f"DROP TRIGGER {sql.split()[2]}")
            rows = _rows(connection)
            before = list(map(dict, rows))
            while True:
                edit = _EDITS[int(rng.integers(len(_EDITS)))]
                what, after = edit(list(map(dict, rows)), rng)
                if after != before and _replaced(connection, after):
                    break
            # Who cuts the end may or may not know of the counter that remembers it.
            if rng.random() < 0.5:
                last = after[-1]["seq"] if after else 0
                connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'entries'", (last,))
            for sql in guards:
                connection.execute(sql)
    finally:
        connection.close()
    return what


def _rows(connection: apsw.Connection) -> list[_Row]:
    names = ("seq", "kind", "body", "previous", "sha256")
    found = connection.execute(f"SELECT {', '.join(names)} FROM entries ORDER BY seq")
    return [dict(zip(names, row, strict=True)) for row in found]


def _replaced(connection: apsw.Connection, rows: list[_Row]) -> bool:
    """Store these rows instead; false where SQLite refuses them, for example text where the table expects a number."""
    try:
        with connection:
            connection.execute("DELETE FROM entries")
            connection.executemany(
                "INSERT INTO entries (seq, kind, body, previous, sha256)"
                " VALUES (:seq, :kind, :body, :previous, :sha256)",
                rows,
            )
    except apsw.ConstraintError:
        return False
    return True


def _change(rows: list[_Row], rng: np.random.Generator) -> tuple[str, list[_Row]]:
    column = str(rng.choice(["seq", "kind", "body", "previous", "sha256"]))
    row = rows[int(rng.integers(len(rows)))]
    what = f"change {column}: row {row['seq']}"
    if column == "seq":
        row["seq"] = int(rng.choice([-1, 0, rows[-1]["seq"] + int(rng.integers(1, 9))]))
    elif column == "kind":
        row["kind"] = str(rng.choice(list(RowKind)))
    elif column == "body":
        row["body"] = _changed_body(row["body"], rng)
    else:
        place = int(rng.integers(64))
        row[column] = row[column][:place] + str(rng.choice(list("0123456789abcdefF"))) + row[column][place + 1 :]
    return what, sorted(rows, key=lambda each: int(each["seq"]))


def _changed_body(body: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.25:
        place = int(rng.integers(len(body)))
        return body[:place] + " " + body[place:]
    content = json.loads(body)
    record = content["record"]
    name = str(rng.choice(sorted(record)))
    others = ("go", None, 0, -1.5, "x", True)
    record[name] = others[int(rng.integers(len(others)))]
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _delete(rows: list[_Row], rng: np.random.Generator) -> tuple[str, list[_Row]]:
    start = int(rng.integers(len(rows) - 1))
    count = int(rng.integers(1, min(5, len(rows) - start)))
    return f"delete: {count} rows from {rows[start]['seq']}", rows[:start] + rows[start + count :]


def _insert(rows: list[_Row], rng: np.random.Generator) -> tuple[str, list[_Row]]:
    place = int(rng.integers(1, len(rows)))
    forged = _forged(rows[place], rng) | {"seq": place + 1, "previous": rows[place - 1]["sha256"]}
    later = [row | {"seq": row["seq"] + 1} for row in rows[place:]]
    return f"insert: before row {place + 1}", [*rows[:place], _sealed(forged), *later]


def _forged(row: _Row, rng: np.random.Generator) -> _Row:
    content = json.loads(row["body"])
    if "trigger_id" in content["record"]:
        content["record"]["trigger_id"] = f"forged-{rng.integers(10**9)}"
    return row | {"body": json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)}


def _swap(rows: list[_Row], rng: np.random.Generator) -> tuple[str, list[_Row]]:
    first, second = sorted(int(place) for place in rng.choice(len(rows), 2, replace=False))
    moved = ["kind", "body", "previous", "sha256"] if rng.random() < 0.5 else ["kind", "body"]
    for name in moved:
        rows[first][name], rows[second][name] = rows[second][name], rows[first][name]
    return f"swap {'rows' if len(moved) == 4 else 'contents'}: {first + 1} and {second + 1}", rows


def _cut(rows: list[_Row], rng: np.random.Generator) -> tuple[str, list[_Row]]:
    kept = int(rng.integers(len(rows)))
    return f"cut the end: after row {kept}", rows[:kept]


def _recompute(rows: list[_Row], rng: np.random.Generator) -> tuple[str, list[_Row]]:
    """Change, delete, insert or swap rows, then renumber and rehash the chain: only an anchor reveals this."""
    edits: list[_Edit] = [_change, _delete, _insert, _swap]
    what, rows = edits[int(rng.integers(len(edits)))](rows, rng)
    previous = NO_HASH
    for seq, row in enumerate(rows, start=1):
        row |= {"seq": seq, "previous": previous}
        previous = _sealed(row)["sha256"]
        row["sha256"] = previous
    return f"recompute the chain: after {what}", rows


def _sealed(row: _Row) -> _Row:
    return row | {"sha256": row_hash(row["previous"], row["seq"], row["kind"], row["body"].encode())}


_Edit = Callable[[list[_Row], np.random.Generator], tuple[str, list[_Row]]]
_EDITS: tuple[_Edit, ...] = (_change, _delete, _insert, _swap, _cut, _recompute)


def main() -> None:
    """Tamper, verify and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 edits.")
    parser.add_argument("--edits", type=int, help="Number of edits. Default: 1,000.")
    parser.add_argument("--ledger", type=Path, help="Ledger to copy and edit. Default: one with simulated parts.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.ledger or Path(folder) / "made-up.ledger"
        if given.ledger is None:
            with Ledger.open(path) as ledger:
                fill(ledger, rows=300, seed=given.seed)
        found = survey(path, edits=given.edits or (100 if given.quick else 1_000), seed=given.seed)
    print_figures(asdict(found))
    if found.missed or found.false_alarms:
        raise UnfitError(f"{len(found.missed)} edits were missed, with {found.false_alarms} false alarms.")


if __name__ == "__main__":
    run(main)
