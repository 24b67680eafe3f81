"""``gonogo ledger replay`` on a cluster: stored frames, judged again by the same function as in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gonogo.cluster.blocks import MOST_JOBS, Block, DoneBlock
from gonogo.cluster.blocks import Row as ResultRow
from gonogo.cluster.connecting import Cluster
from gonogo.cluster.inspecting import worker_inspector, worker_threads
from gonogo.cluster.journal import Journal
from gonogo.cluster.machine import Used
from gonogo.cluster.running import Shipments, run_blocks
from gonogo.cluster.shipping import pack
from gonogo.config import settings
from gonogo.errors import InputError
from gonogo.ledger import FrameStore, Ledger, Row, VerdictRecord, Where
from gonogo.ledger.frames import Frames
from gonogo.replay import (
    Gaps,
    Rejudged,
    Skipped,
    Unreadable,
    judge_again,
    judged_views,
    recorded_bundle,
    require_recorded,
)
from gonogo.schema import State, Verdict

_Digests = tuple[str, ...]
_Held = dict[int, list[Row[VerdictRecord]]]


@dataclass(frozen=True, kw_only=True)
class ReplayWork:
    """Judge stored frames again; see `gonogo.cluster.blocks.Work`."""

    frames: str
    """Folder or URL of the frames."""
    device: str
    threads: int

    def open(self, bundle: Path | None) -> Callable[[_Digests], ResultRow]:
        """Load the inspector in the worker, and open the store of frames."""
        if bundle is None:
            return lambda digests: {}
        inspector, frames = worker_inspector(bundle, self.device, self.threads), _open_frames(self.frames)

        def judge(digests: _Digests) -> ResultRow:
            found = judge_again(frames, digests, inspector)
            if isinstance(found, Unreadable):
                return {"missing": sorted(found.missing), "why": found.why}
            return {"states": [each.state.value for each in found], "scores": [each.score for each in found]}

        return judge


def replay_on(
    cluster: Cluster,
    ledger: Ledger,
    bundle: Path | None = None,
    *,
    where: Where = Where(),  # noqa: B008  frozen
    after: int | None = None,
    journal: Path | None = None,
    used: Used | None = None,
) -> Iterator[Rejudged | Skipped]:
    """Judge the parts of a ledger again on a cluster, in the order of its rows; see `gonogo.replay.replay_ledger`.

    Args:
        cluster: See `gonogo.cluster.connected`.
        ledger: The ledger; every machine must reach its frames: a folder that all see, or a store by its URL.
        bundle: The bundle to use; by default those that judged the parts, from the paths in the rows.
        where: Filter for the verdicts.
        after: Only rows with a higher number.
        journal: File that keeps what is finished; the same call resumes from it, up to the row that was the last then.
        used: Counts the processors.

    Raises:
        BundleError: A recorded bundle cannot be opened.
        InputError: A row does not name its bundle, or another bundle is at that path now; a machine cannot judge; the
            journal is another run's.
    """
    bundles, gaps, threads = _Bundles(bundle), Gaps(ledger), worker_threads()
    work = ReplayWork(frames=_place_of(ledger.frames), device=settings().device, threads=threads)
    last = ledger.head().seq
    with ExitStack() as stack:
        kept = None
        if journal is not None:
            run = _identity(ledger, work, bundles.chosen, where, after)
            kept = stack.enter_context(Journal(journal, run, begin={"last_row": last}))
            last = kept.begun["last_row"]
        held: _Held = {}
        blocks = _blocks(ledger.verdicts(where, after=after, before=last + 1), bundles, held)
        for done in run_blocks(
            cluster, work, blocks, shipments=bundles.shipments, journal=kept, threads=threads, used=used or Used()
        ):
            for row, result in zip(held.pop(done.number), done.rows, strict=True):
                yield _outcome(row, result, gaps, bundles, ledger.frames, done)


class _Bundles:
    """The bundles that rows need: the chosen one, or the recorded ones."""

    def __init__(self, chosen: Path | None) -> None:
        self.shipments = Shipments()
        self.chosen = "" if chosen is None else self._ship(chosen)
        self._recorded: set[str] = set()

    def of(self, row: Row[VerdictRecord]) -> str:
        """Ship the bundle of a row and return its SHA-256; empty if nothing was judged."""
        if not judged_views(row):
            return ""
        if self.chosen:
            return self.chosen
        place, expected = recorded_bundle(row)
        if expected not in self._recorded:
            require_recorded(row, self._ship(Path(place)))
            self._recorded.add(expected)
        return expected

    def _ship(self, place: Path) -> str:
        packed = pack(place)
        self.shipments.add(packed)
        return packed.sha256


def _blocks(rows: Iterator[Row[VerdictRecord]], bundles: _Bundles, held: _Held) -> Iterator[Block]:
    """Cut rows into blocks; ``held`` gets the rows of each until its results come."""
    block = Block(number=0, jobs=(), bundles=())
    chosen: list[Row[VerdictRecord]] = []
    for row in rows:
        digests = tuple(str(view.frame_sha256) for view in judged_views(row))
        block = replace(block, jobs=(*block.jobs, digests), bundles=(*block.bundles, bundles.of(row)))
        chosen.append(row)
        if len(chosen) == MOST_JOBS:
            held[block.number] = chosen
            yield block
            block, chosen = Block(number=block.number + 1, jobs=(), bundles=()), []
    if chosen:
        held[block.number] = chosen
        yield block


def _outcome(
    row: Row[VerdictRecord], result: ResultRow, gaps: Gaps, bundles: _Bundles, frames: Frames, done: DoneBlock
) -> Rejudged | Skipped:
    views = judged_views(row)
    if not views:
        return gaps.not_judged(row)
    if "why" in result:
        if any(frames.holds(digest) for digest in result["missing"]):
            raise InputError(
                f"machine {done.node}: does not see the frames of the ledger, which are here. All machines must reach "
                "them: a folder that all see, or a store with a URL."
            )
        return gaps.unreadable(row, Unreadable(missing=frozenset(result["missing"]), why=result["why"]))
    after = tuple(
        Verdict(state=State(state), score=score, reason="judged on another machine")
        for state, score in zip(result["states"], result["scores"], strict=True)
    )
    same = not bundles.chosen or bundles.chosen == row.record.bundle_sha256
    return Rejudged(row=row, before=views, after=after, same_bundle=same)


def _identity(ledger: Ledger, work: ReplayWork, bundle: str, where: Where, after: int | None) -> dict[str, Any]:
    first = ledger.row(1)
    return {
        "kind of work": "replay",
        "ledger": "" if first is None else first.sha256,
        "bundle": bundle,
        "filter": repr((where, after or 0)),
        "device": work.device,
        "number of threads": work.threads,
    }


def _place_of(frames: Frames) -> str:
    """Where a worker finds the frames: a folder, or the URL of a store."""
    if isinstance(frames, FrameStore):
        return str(frames.root.resolve())
    url = getattr(frames, "url", None)
    if url is None:
        raise InputError("this chain has no store of frames at the centre, so nothing can be judged again.")
    return str(url)


def _open_frames(place: str) -> Frames:
    if "://" not in place:
        return FrameStore(Path(place))
    from gonogo.centre import open_frames  # needs fsspec

    return open_frames(place)
