"""The tasks of ``make clicks``: each ends with its result, checked in the workspace, and what it took is counted."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser

from clicks import Cost, do_tasks, open_app
from clicks_data import furnish
from gonogo.server import Workspace
from gonogo.server.server_thread import running


def test_every_standard_task_is_done_and_counted(tmp_path: Path, chromium: Browser) -> None:
    space = Workspace.open(tmp_path / "plant")
    part = furnish(space, 5, parts=60)
    with running(open_app(space)) as address:
        labelled, found, raised, explained = do_tasks(chromium, address, space, part, {})
    assert labelled.before is not None
    assert counts(labelled.before) == (3, 5, 3)
    assert counts(labelled.after) == (6, 6, 6)
    assert counts(found.after) == (1, 7, 2)
    assert counts(explained.after) == (2, 7, 2)
    assert raised.after.clicks == 4
    assert raised.after.pages == 1
    assert all(each.after.seconds > 0 for each in (labelled, found, raised, explained))


def counts(cost: Cost) -> tuple[int, int, int]:
    return cost.clicks, cost.keys, cost.pages
