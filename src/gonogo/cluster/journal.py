"""The journal of a run: one line for each finished block, flushed to disk before its rows are shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from gonogo import locks
from gonogo.cluster.blocks import DoneBlock
from gonogo.errors import InputError
from gonogo.files import disk_is_full, require_regular, write_beside

_FORMAT = 1
_BLOCK = re.compile(rb'\{"number": (\d{1,12}), ')


class Journal:
    """Finished blocks in a file. It belongs to one run; the same run opened again goes on after them.

    The first line says which run it is; every other line is a block. A line counts with its newline: what a killed
    process left behind is cut off. Use as a context manager.

    Args:
        path: The file; created if missing.
        run: What decides the rows, as JSON can hold it: the kind of work, the bundle, the jobs.
        begin: What the run chose when it began, such as the size of its blocks; an existing journal keeps its own, in
            `begun`.

    Raises:
        InputError: The file is another run's, or something else, or another process writes to it.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, begin: Mapping[str, int]) -> None:
        self.path = path
        wanted = json.loads(json.dumps(dict(run)))
        try:
            if not path.exists():
                head = {"gonogo_journal": _FORMAT, "run": wanted, "begun": dict(begin)}
                write_beside(path, json.dumps(head).encode() + b"\n")
            require_regular(path)
            self._file: BinaryIO = path.open("r+b")
        except OSError as error:
            raise InputError(f"--journal {path}: cannot be opened ({error.strerror or error}).") from error
        try:
            self._lock()
            self.begun = self._read_head(wanted, set(begin))
            self._lines = self._read_lines()
        except BaseException:  # BLE001: closed whatever happened, and raised again
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, number: int) -> bool:
        return number in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, number: int) -> DoneBlock:
        """Return a finished block.

        Raises:
            InputError: Its line is damaged.
        """
        self._file.seek(self._lines[number])
        try:
            found = json.loads(self._file.readline())
            return DoneBlock(**{**found, "rows": tuple(found["rows"])})
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"--journal {self.path}: block {number} is damaged ({error}). Remove the file to judge again."
            ) from error

    def add(self, done: DoneBlock) -> None:
        """Append a finished block; durable when this returns.

        Raises:
            InputError: The disk is full; the blocks before it are kept.
        """
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(json.dumps(asdict(done), allow_nan=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            next_step = "Free some space" if disk_is_full(error) else "Check the disk"
            raise InputError(
                f"--journal {self.path}: cannot be written ({error.strerror or error}). {next_step}; the same command "
                "resumes."
            ) from error
        self._lines[done.number] = end

    def _lock(self) -> None:
        if not locks.try_lock(self._file):
            raise InputError(
                f"--journal {self.path}: another process writes to it. Wait for it, or choose another file."
            )

    def _read_head(self, wanted: Mapping[str, Any], names: set[str]) -> dict[str, int]:
        try:
            head = json.loads(self._file.readline(100_000))
            found, begun = dict(head["run"]), {name: int(head["begun"][name]) for name in head["begun"]}
            if head["gonogo_journal"] != _FORMAT:
                raise ValueError("another format")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"--journal {self.path}: expected a journal of this program, found another file. Choose another name."
            ) from error
        differs = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
        if differs or set(begun) != names:
            raise InputError(
                f"--journal {self.path}: holds another run, with another {' and '.join(differs)}. Choose another file, "
                "or remove it to start again."
            )
        return begun

    def _read_lines(self) -> dict[int, int]:
        """Find the lines of the blocks; an incomplete last one is cut off."""
        lines: dict[int, int] = {}
        place = self._file.tell()
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(place)
                break
            found = _BLOCK.match(line)
            if found is None:
                raise InputError(f"--journal {self.path}: byte {place} is not the start of a block. Remove the file.")
            lines[int(found[1])] = place
            place += len(line)
        return lines
