"""The label page: one picture at a time, and what its script asks for and saves."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gonogo.images.geometry import corners_of
from gonogo.server import pages
from gonogo.server.labels import ConflictError, Decision, decide, row
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.services import Here, Me

PRESENT_S = 20.0
"""A person who has said nothing for so long no longer holds a picture."""
KEYS = {
    "good": "g",
    "bad": "b",
    "none": "o",
    "undo": "u",
    "next": "n",
    "previous": "p",
    "open": "j",
    "copy": "c",
    "propose": "f",
    "box": "x",
    "quad": "q",
    "polygon": "m",
    "resize": "r",
    "clear": "e",
    "hide": "h",
}
"""What can be done by one key. Digits belong to the kinds; arrows, Enter, Escape and Delete are what they are."""
KEY_NAMES = {
    "good": N_("Good"),
    "bad": N_("Bad"),
    "none": N_("Not one whole part"),
    "undo": N_("Undo"),
    "next": N_("Next picture"),
    "previous": N_("Previous picture"),
    "open": N_("Next unlabelled"),
    "copy": N_("Copy the last box"),
    "propose": N_("Propose a box"),
    "box": N_("Draw a box"),
    "quad": N_("Draw a rotated box"),
    "polygon": N_("Outline a defect"),
    "resize": N_("Arrows move or resize"),
    "clear": N_("Remove the box"),
    "hide": N_("Hide what is drawn"),
}


@dataclass(frozen=True, kw_only=True)
class _Seen:
    file: str
    next: str
    who: str
    at: float


class _Presence:
    """Who looks at which picture, so that two people do not take the same one. Forgotten when the server ends."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, _Seen]] = defaultdict(dict)
        self._lock = threading.Lock()

    def look(self, dataset: str, place: str, who: str, file: str, following: str) -> tuple[dict[str, str], list[str]]:
        """Note what a browser shows, and set aside for it what it will show next, unless another has that already.

        Returns:
            Who has which other pictures open, and every picture that is open or set aside elsewhere.
        """
        now = time.monotonic()
        with self._lock:
            seen = self._seen[dataset]
            for other in [key for key, each in seen.items() if now - each.at > PRESENT_S]:
                del seen[other]
            others = [each for key, each in seen.items() if key != place]
            held = {name for each in others for name in (each.file, each.next) if name}
            seen[place] = _Seen(file=file, next="" if following in held else following, who=who, at=now)
            return {each.file: each.who for each in others if each.file}, sorted(held)


_presence = _Presence()


class Look(BaseModel):
    """What a page shows, and what it knows already."""

    model_config = ConfigDict(extra="forbid")
    place: Annotated[str, Field(max_length=64)]
    """Random, one for each page open."""
    file: Annotated[str, Field(max_length=1000)]
    since: int
    """The version that the page knows."""
    next: Annotated[str, Field(max_length=1000)] = ""
    """What it will show next, if nobody else has that."""


class Keys(BaseModel):
    """A person's keys by action; none goes back to the defaults."""

    model_config = ConfigDict(extra="forbid")
    keys: dict[str, Annotated[str, Field(max_length=8)]] = Field(max_length=40)


def label_page(request: Request, here: Here, me: Me, name: str, file: str = "") -> Response:
    """The page; its script fetches the pictures."""
    here.datasets.root_of(name)
    return pages.page(
        request,
        "label.html",
        name=name,
        file=file,
        keys=here.preferences.keys(me.user.id, "label", KEYS) if me.user else KEYS,
        key_names=KEY_NAMES,
        kinds=here.datasets.kinds(name),
        has_bundle=here.jobs.trained_on(name) is not None,
        by_doubt=here.jobs.made_from(name) is not None,
    )


def samples(here: Here, name: str) -> Response:
    """Every picture's record, and the version of all this."""
    records = here.datasets.read(name)
    rows = [here.rows.of(name, sample) for sample in records.samples.values()]
    return pages.answer(version=records.version, rows=rows)


def look(here: Here, me: Me, name: str, body: Look) -> Response:
    """Say which picture is open here; answers what others changed, and what they have open."""
    records = here.datasets.read(name)
    others, held = _presence.look(f"{here.workspace.root}/{name}", body.place, me.name, body.file, body.next)
    rows = [row(sample) for sample in records.since(body.since)]
    return pages.answer(version=records.version, rows=rows, others=others, held=held)


def save(here: Here, me: Me, name: str, body: Decision) -> Response:
    """Save a decision; 409 with the other record where somebody was faster."""
    try:
        saved = decide(here, name, body, me.name)
    except ConflictError as conflict:
        theirs = row(conflict.theirs)
        tell = translations(me.language).gettext
        message = tell(N_("%(who)s changed this picture in the meantime."))
        if theirs.get("labelled_by") == me.name:
            message = tell(N_("You changed this picture in another tab."))
        return JSONResponse({"message": message % {"who": theirs.get("labelled_by", "?")}, "row": theirs}, 409)
    return pages.answer(row=row(saved))


def picture(here: Here, name: str, file: str, width: int = 1920) -> Response:
    """A picture as JPEG; its full size is in the headers."""
    records = here.datasets.read(name)
    path = records.root / records.find(file).file_name
    if not path.is_file():
        raise HTTPException(404)
    drawn = here.photos.jpeg(path, width)
    across, down = here.photos.size_wh(path)
    headers = {"Cache-Control": "private, max-age=300", "X-Picture-Size": f"{across} {down}"}
    return Response(drawn, media_type="image/jpeg", headers=headers)


def mask(here: Here, name: str, file: str) -> Response:
    """A picture's mask as grey PNG."""
    records = here.datasets.read(name)
    sample = records.find(file)
    size_wh = here.photos.size_wh(records.root / sample.file_name)
    return Response(here.photos.mask(records.dataset, sample, size_wh), media_type="image/png")


def propose(here: Here, me: Me, name: str, file: str) -> Response:
    """Where the part may be."""
    found = here.proposals.propose(name, file)
    tell = translations(me.language).gettext
    located = found.located
    if not located.present or located.box is None:
        return pages.answer(found=False, reason=tell(located.reason))
    quad = None if located.quad is None else corners_of(located.quad).tolist()
    return pages.answer(found=True, box_xyxy=located.box.xyxy, quad=quad, source=tell(found.source))


def doubt(here: Here, me: Me, name: str) -> Response:
    """How doubtful the newest inspector finds each open picture; judging goes on in the background."""
    ranking = here.doubts.ranking(name)
    return pages.answer(bundle=ranking.bundle, waiting=ranking.waiting, doubt=ranking.doubt, problem=ranking.problem)


def set_keys(here: Here, me: Me, body: Keys) -> Response:
    """Keep this person's keys for this page."""
    if me.user is None:
        raise RefusedError(N_("Only people can do this. A key has no password and no settings."))
    here.preferences.set_keys(me.user.id, "label", KEYS, body.keys)
    return pages.answer(keys=here.preferences.keys(me.user.id, "label", KEYS))
