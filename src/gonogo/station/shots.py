"""The pictures of one part: judged, and as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gonogo.ledger import View
from gonogo.line.messages import Cause
from gonogo.names import readable
from gonogo.schema import State, Verdict
from gonogo.station.cameras import CameraPicture
from gonogo.station.models import ModelSlot
from gonogo.station.outcomes import ledger_cause


def judge_shot(shot: CameraPicture, slot: ModelSlot, *, judged: bool) -> Verdict:
    """Judge one picture; any error is a fault.

    Args:
        shot: The picture.
        slot: The bundle.
        judged: Whether the part is judged at all; otherwise every picture is a fault.
    """
    if not judged or shot.problem is not None:
        return Verdict(state=State.FAULT, score=None, reason="not judged because a camera failed")
    model, acquired = slot.model, shot.acquired
    assert model is not None, "parts without a bundle are refused earlier"
    assert acquired is not None, "a shot without a problem has a picture"
    try:
        return model.inspect(acquired.photograph)
    except Exception as error:  # noqa: BLE001  whatever went wrong, the part is a fault
        return Verdict(state=State.FAULT, score=None, reason=f"not judged ({type(error).__name__}: {error})")


def views_of(
    shots: Sequence[CameraPicture], names: Sequence[str], verdicts: Sequence[Verdict]
) -> tuple[tuple[View, ...], Cause | None]:
    """Return the records of the pictures, and the cause of the first failure.

    Waits until the frames are checked and stored: a picture that fails its health check makes the part a fault.
    """
    views, cause = [], None
    for shot, name, verdict in zip(shots, names, verdicts, strict=True):
        if not shot.abandoned:
            shot.kept.wait()
        if shot.problem is not None:
            verdict = Verdict(state=State.FAULT, score=None, reason=str(shot.problem))
            cause = cause or Cause(shot.problem.trouble.value)
        elif shot.store_error is not None:
            reason = f"the frame cannot be stored: {shot.store_error}"
            verdict = replace(verdict, state=State.FAULT, reason=reason)
            cause = cause or ledger_cause(shot.store_error)
        verdict = replace(verdict, reason=readable(verdict.reason))
        views.append(View.of(verdict, frame_sha256=shot.frame_sha256, name=name))
    return tuple(views), cause
