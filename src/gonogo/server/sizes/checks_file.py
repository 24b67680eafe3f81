"""``checks.toml`` of a data set: read, checked and saved for the page Sizes. ``gonogo bundle checks`` reads it too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gonogo.config import Checks, Rule, Scale, Then
from gonogo.server.drawn_file import DrawnFile, RowProblem, Saved, WrongRowsError
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool

_HEAD = "# Set on the page Sizes of this data set. Saving there keeps presence zones and [health], but not comments.\n"
_FIELDS = {
    "name": N_("A name has 1 to 40 letters, digits, spaces, dots or hyphens, and starts with a letter or digit."),
    "limit": N_("A limit is a number of at least 0."),
    "kind": N_("A limit that rejects cannot be for one kind of defect, because a part that passes has no kind."),
}
_TWICE = N_("Another limit has this name.")

Size = Literal["longer_than_mm", "wider_than_mm", "larger_than_mm2"]


class DrawnRule(BaseModel):
    """A limit as the page sends it; `gonogo.config.Rule` checks its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, Field(max_length=400)]
    size: Size
    limit: float | None
    zone: Annotated[str, Field(max_length=400)] | None = None
    kind: Annotated[str, Field(max_length=400)] | None = None
    then: Then = "review"

    @classmethod
    def of(cls, rule: Rule) -> DrawnRule:
        """The row of a rule."""
        sizes: dict[Size, float | None] = {
            "longer_than_mm": rule.longer_than_mm,
            "wider_than_mm": rule.wider_than_mm,
            "larger_than_mm2": rule.larger_than_mm2,
        }
        size, limit = next((name, value) for name, value in sizes.items() if value is not None)
        return cls(name=rule.name, size=size, limit=limit, zone=rule.zone, kind=rule.kind, then=rule.then)

    def as_table(self) -> dict[str, object]:
        """The rule's table in TOML."""
        more = {key: value for key in ("zone", "kind") if (value := getattr(self, key))}
        return {"name": self.name.strip(), self.size: self.limit, **more, "then": self.then}


class DrawnChecks(BaseModel):
    """Request body: the scale and the limits of the page, saved or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scale: Scale | None
    rules: Annotated[list[DrawnRule], Field(max_length=50)]


class ChecksRequest(DrawnChecks):
    """Request body: what to save."""

    digest: Annotated[str, Field(max_length=64)]
    """`Saved.digest` of the file that the page shows."""


def save_checks(root: Path, said: ChecksRequest, who: str, ledger_pool: LedgerPool) -> Saved[Checks]:
    """Save the checks of a data set. Saving the same again changes nothing.

    Raises:
        ChangedFileError: another version was saved since the page was loaded.
        WrongRowsError: values are wrong.
        RefusedError: the file is malformed, or there are limits without a scale.
        LedgerError: the change could not be recorded and was not saved.
    """
    return CHECKS_FILE.save(
        root,
        seen=said.digest,
        change=lambda before: drawn_checks(said, before),
        told=lambda after: {
            "mm_per_px": None if after.scale is None else after.scale.mm_per_px,
            "rules": [f"{rule.name} ({rule.then})" for rule in after.rules],
        },
        who=who,
        ledger_pool=ledger_pool,
    )


def drawn_checks(said: DrawnChecks, kept: Checks) -> Checks:
    """Return the checks of a request, with the presence zones and picture limits that the page does not show.

    Raises:
        WrongRowsError: values are wrong.
        RefusedError: there are limits without a scale.
    """
    rules: list[Rule] = []
    names: set[str] = set()
    problems: list[RowProblem] = []
    for row, drawn in enumerate(said.rules):
        if drawn.name.strip() in names:
            problems.append(RowProblem(row=row, field="name", message=_TWICE))
        names.add(drawn.name.strip())
        try:
            rules.append(Rule.model_validate(drawn.as_table()))
        except ValidationError as error:
            problems.append(_problem(row, drawn, error))
    if problems:
        raise WrongRowsError(problems)
    if rules and said.scale is None:
        raise RefusedError(N_("Limits need a scale: draw a known length, or use a checkerboard."))
    return kept.model_copy(update={"scale": said.scale, "rules": tuple(rules)})


def _problem(row: int, drawn: DrawnRule, error: ValidationError) -> RowProblem:
    keys = {str(key) for each in error.errors() for key in each["loc"]}
    wrong = "name" if "name" in keys else "limit" if drawn.limit is None or drawn.size in keys else "kind"
    return RowProblem(row=row, field=wrong, message=_FIELDS[wrong])


def _as_toml(checks: Checks) -> bytes:
    return (_HEAD + tomli_w.dumps(checks.model_dump(mode="json", exclude_none=True))).encode()


CHECKS_FILE: Final = DrawnFile(
    name="checks.toml", empty=Checks(), as_toml=_as_toml, example="gonogo roi calibrate", event="sizes"
)
