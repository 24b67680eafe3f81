"""The filters and the order of the grid, as they stand in its address."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gonogo.dataset import Split
from gonogo.schema import Label
from gonogo.server.grid.index import ABSENT, OPEN, VERDICTS, Array, GridIndex

PER_PAGE = 96
UNJUDGED, DISAGREES = "unjudged", "disagrees"
LABELS = (Label.GOOD.value, Label.BAD.value, OPEN, ABSENT)
SPLITS = (*(split.value for split in Split), "none")
FOUND_VERDICTS = (*(state.value for state in VERDICTS), UNJUDGED, DISAGREES)
SORTS = ("file", "name", "date", "score", "doubt")


def _empty_is_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


_Empty = BeforeValidator(_empty_is_none)
_Text = Annotated[str, Field(max_length=200)]
_Score = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, _Empty]
_Day = Annotated[datetime.date | None, _Empty]


class GridSearch(BaseModel):
    """The query of the page; an empty value filters nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: _Text = ""
    """Text in the name, part, lot, kind, or the name of the person who labelled."""
    label: Literal["", "good", "bad", "open", "none"] = ""
    kind: _Text = ""
    split: Literal["", "train", "val", "calibrate", "test", "none"] = ""
    verdict: Literal["", "go", "review", "no_go", "fault", "unjudged", "disagrees"] = ""
    low: _Score = None
    high: _Score = None
    part: _Text = ""
    lot: _Text = ""
    since: _Day = None
    until: _Day = None
    sort: Literal["file", "name", "date", "score", "doubt"] = "file"
    like: Annotated[str, Field(max_length=1000)] = ""
    """Sort by similarity to this picture."""
    heat: Literal["", "1"] = ""
    page: Annotated[int, Field(ge=1, le=10**7)] = 1

    def address(self, **changes: object) -> str:
        """The query string with some values changed, without those that say nothing."""
        values = self.model_dump(mode="json") | changes
        said = {key: value for key, value in values.items() if value not in (None, "")}
        if said.get("sort") == "file":
            del said["sort"]
        if said.get("page") == 1:
            del said["page"]
        return "?" + urlencode(said)

    @property
    def filtered(self) -> bool:
        """Whether anything but the order is chosen."""
        return self.address(sort="file", like="", heat="", page=1) != "?"

    def rows(self, index: GridIndex, near: Mapping[str, float] | None = None) -> Array:
        """Numbers of the matching rows, in order: by distance where ``near`` says it."""
        order = index.order(self.sort) if near is None else index.nearest(near)
        return np.asarray(order[self._matching(index)[order]])

    def _matching(self, index: GridIndex) -> Array:
        found = np.ones(len(index.rows), bool)
        for column in ("label", "kind", "split", "part", "lot"):
            if value := getattr(self, column):
                found &= index.equal(column, value)
        if self.verdict:
            found &= _of_verdict(index, self.verdict)
        if self.low is not None:
            found &= index.score >= self.low
        if self.high is not None:
            found &= index.score <= self.high
        if self.since is not None:
            found &= index.at >= _midnight(self.since)
        if self.until is not None:
            found &= index.at < _midnight(self.until + datetime.timedelta(days=1))
        if self.q.strip():
            found &= index.containing(self.q.strip())
        return found


def _of_verdict(index: GridIndex, verdict: str) -> Array:
    if verdict == DISAGREES:
        return index.disagrees
    number = next((number for number, state in enumerate(VERDICTS) if state == verdict), -1)
    return np.asarray(index.verdict == number)


def _midnight(day: datetime.date) -> float:
    """The beginning of a day in plant time, which is the server's."""
    return datetime.datetime.combine(day, datetime.time()).astimezone().timestamp()
