"""What differs between two states of a data set's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import JsonValue

RecordsByName: TypeAlias = Mapping[str, Mapping[str, JsonValue]]
"""Records as JSON objects, by file name."""

_LABEL = ("label", "defect", "present")
_MASK = ("mask_file_name", "polygons")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One picture whose record says something else now."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Pictures that differ between two states; one picture can be in several lists."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    """Another picture has this file name now."""
    relabelled: tuple[Change, ...] = ()
    """Label or defect kind."""
    moved: tuple[Change, ...] = ()
    """Split."""
    remasked: tuple[Change, ...] = ()
    """Mask or outline."""
    other: tuple[Change, ...] = ()
    """Box, part, lot or another column; ``before`` and ``after`` name the columns."""

    def counts(self) -> dict[str, int]:
        """Return the number of pictures in each list that is not empty."""
        lists = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        return {name: count for name, count in lists.items() if count}

    def to_json(self) -> dict[str, Any]:
        """Return the lists as a JSON object."""
        return {
            name: [each if isinstance(each, str) else vars(each) for each in getattr(self, name)]
            for name in self.__dataclass_fields__
        }


def changes_between(
    before: RecordsByName,
    after: RecordsByName,
    *,
    files_before: Mapping[str, str] | None = None,
    files_after: Mapping[str, str] | None = None,
) -> Changes:
    """Compare two states of the records.

    Args:
        before: Records of the earlier state.
        after: Records of the later state.
        files_before: SHA-256 of the files of the earlier state, as far as they are known.
        files_after: SHA-256 of the files of the later state.
    """
    old_files, new_files = files_before or {}, files_after or {}
    both = [name for name in after if name in before]
    masks = {str(record.get("mask_file_name")) for record in after.values()}
    redrawn = {name for name in masks if old_files.get(name, "") != new_files.get(name, old_files.get(name, ""))}
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        replaced=tuple(
            name for name in both if name in old_files and old_files[name] != new_files.get(name, old_files[name])
        ),
        relabelled=_differing(before, after, both, _label_of),
        moved=_differing(before, after, both, lambda record: str(record.get("split") or "no split")),
        remasked=tuple(
            Change(file=name, before=_mask_of(before[name]), after=_mask_of(after[name]))
            for name in both
            if any(before[name].get(key) != after[name].get(key) for key in _MASK)
            or (after[name].get("mask_file_name") in redrawn and before[name].get("mask_file_name") is not None)
        ),
        other=_others(before, after, both),
    )


def _differing(before: RecordsByName, after: RecordsByName, both: list[str], shown: Any) -> tuple[Change, ...]:
    pairs = ((name, shown(before[name]), shown(after[name])) for name in both if before[name] is not after[name])
    return tuple(Change(file=name, before=old, after=new) for name, old, new in pairs if old != new)


def _others(before: RecordsByName, after: RecordsByName, both: list[str]) -> tuple[Change, ...]:
    found = []
    for name in both:
        old, new = before[name], after[name]
        columns = sorted(key for key in {*old, *new} - {*_LABEL, *_MASK, "split"} if old.get(key) != new.get(key))
        if columns:
            had = ", ".join(key for key in columns if old.get(key) is not None)
            has = ", ".join(key for key in columns if new.get(key) is not None)
            found.append(Change(file=name, before=had or "-", after=has or "-"))
    return tuple(found)


def _label_of(record: Mapping[str, JsonValue]) -> str:
    if record.get("present") is False:
        return "not one whole part"
    label = str(record.get("label") or "unlabelled")
    return f"{label}, {record['defect']}" if record.get("defect") else label


def _mask_of(record: Mapping[str, JsonValue]) -> str:
    return str(record.get("mask_file_name") or "no mask")


def describe_counts(counts: Mapping[str, int]) -> str:
    """Say in words how many pictures changed, as in ``12 added, 3 relabelled``."""
    words = {"other": "with other columns changed"}
    return ", ".join(f"{count} {words.get(name, name)}" for name, count in counts.items()) or "nothing changed"
