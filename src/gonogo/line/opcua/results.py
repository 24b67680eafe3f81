"""The results of OPC 40100-1: what a job brought, the last ones by their ids."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from asyncua import ua

from gonogo.line.messages import Answer
from gonogo.schema import State

if TYPE_CHECKING:
    from gonogo.line.opcua.space import Space

UNDEFINED, COMPLETED, ABORTED, FAILED = 0, 1, 3, 4
"""The values of ``ResultStateDataType`` that a station uses."""
CODES = {State.GO: 1, State.NO_GO: 2, State.REVIEW: 3, State.FAULT: 4}
"""The number that stands for a verdict; 0 is none."""
NOTHING = 0
_MOST_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one job, or of one part of a continuous job."""

    job_id: str
    meas_id: str
    recipe: str
    """Name of the product, which is the id of its recipe."""
    configuration: str
    answer: Answer
    started: datetime
    created: datetime
    aborted: bool = False

    @property
    def id(self) -> str:
        """The result's id: that of the trigger, so that a repeated job has the same result."""
        return self.answer.trigger_id

    @property
    def state(self) -> int:
        """Value of ``ResultStateDataType``."""
        if self.answer.state is State.FAULT:
            return ABORTED if self.aborted else FAILED
        return COMPLETED


def document(answer: Answer) -> str:
    """Return the result document of an answer: JSON."""
    return json.dumps(answer.to_json())


def content(result: Result) -> list[ua.Variant]:
    """Return the result's content: the verdict, its code, the score (not a number if there is none), the document."""
    answer = result.answer
    return [
        ua.Variant(answer.state.value, ua.VariantType.String),
        ua.Variant(CODES[answer.state], ua.VariantType.Byte),
        ua.Variant(float("nan") if answer.score is None else answer.score, ua.VariantType.Double),
        ua.Variant(document(answer), ua.VariantType.String),
    ]


def values(space: Space, result: Result) -> dict[str, Any]:
    """Return the fields of a result that a station fills, by name."""
    made, answer = space.make, result.answer
    ended = max(result.started, result.created)
    taken_ms = answer.timings_ms.get("capture")
    times = made(
        "ProcessingTimesDataType",
        StartTime=result.started,
        EndTime=ended,
        AcquisitionDuration=taken_ms,
        ProcessingDuration=(ended - result.started) / timedelta(milliseconds=1),
    )
    return {
        "ResultId": made("ResultIdDataType", Id=result.id),
        "IsPartial": False,
        "IsSimulated": False,
        "ResultState": result.state,
        "MeasId": made("MeasIdDataType", Id=result.meas_id),
        "PartId": made("PartIdDataType", Id=answer.part or ""),
        "InternalRecipeId": made("RecipeIdInternalDataType", Id=result.recipe),
        "ProductId": made("ProductIdDataType", Id=answer.product or result.recipe),
        "InternalConfigurationId": made("ConfigurationIdDataType", Id=result.configuration),
        "JobId": made("JobIdDataType", Id=result.job_id),
        "CreationTime": result.created,
        "ProcessingTimes": times,
        "ResultContent": content(result),
    }


class Results:
    """The last results, by their ids; the oldest are dropped."""

    def __init__(self, most: int) -> None:
        """Store the largest number of results."""
        self._most = most
        self._found: OrderedDict[str, Result] = OrderedDict()

    def add(self, result: Result) -> None:
        """Add a result; it replaces an earlier one with the same id."""
        self._found.pop(result.id, None)
        self._found[result.id] = result
        while len(self._found) > self._most:
            self._found.popitem(last=False)

    def get(self, result_id: str) -> Result | None:
        """Return a result; ``None`` if it is unknown or was dropped."""
        return self._found.get(result_id)

    def matching(self, state: int, wanted: dict[str, str], *, start: int, most: int) -> tuple[list[Result], bool]:
        """Return results, the newest first, and whether these are all that follow ``start``.

        Args:
            state: Value of ``ResultStateDataType``; 0 accepts any.
            wanted: Values of ``meas_id``, ``part``, ``recipe``, ``configuration``, ``product`` and ``job_id``; an empty
                one accepts any.
            start: Number of results to skip.
            most: Largest number of results; 0 for as many as fit into an answer.
        """
        chosen = [each for each in reversed(self._found.values()) if state in (UNDEFINED, each.state)]
        chosen = [each for each in chosen if all(not text or _value(each, key) == text for key, text in wanted.items())]
        limit = min(most or _MOST_LISTED, _MOST_LISTED)
        return chosen[start : start + limit], len(chosen) <= start + limit


def _value(result: Result, key: str) -> str | None:
    match key:
        case "part":
            return result.answer.part
        case "product":
            return result.answer.product or result.recipe
        case _:
            found: str = getattr(result, key)
            return found
