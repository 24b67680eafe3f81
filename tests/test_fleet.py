"""A roll-out from the first release to the last: on the way it is attacked, cut off, and stopped."""

from __future__ import annotations

import bisect
import contextlib
import http.server
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from gonogo import bundle, signing
from gonogo.errors import SignatureError, UnfitError
from gonogo.fleet import (
    FOLLOWS,
    RUNNING,
    Event,
    Evidence,
    EvidenceReader,
    LedgerFile,
    Limits,
    Release,
    Stage,
    Terms,
    Trigger,
    Verdict,
    ask_station,
    assignment_of,
    decide,
    declare_fit,
    fleet_status,
    flips_to_settle,
    following,
)
from gonogo.fleet.pulling import FolderSource, HttpSource, Pull, UnreachableError
from gonogo.fleet.releases import SeenRelease, objection, open_release, sign_release
from gonogo.ledger import Ledger, Where
from gonogo.operating_point import confidence_sequence
from gonogo.schema import State
from gonogo.signing import Use, read_trust_store
from gonogo.station import parse_settings
from tests import command_kit as kit
from tests.fleet_kit import NOW, TERMS, Line, Plant, make_bundle

A, B, C = "a" * 64, "b" * 64, "c" * 64


# --- the bounds


@pytest.mark.slow
def test_the_bounds_hold_at_every_number_of_parts_at_once() -> None:
    """Optional stopping: 2,000 lines, looked at after every part, at the rate on which a decision turns."""
    rate, delta, lines, parts = 0.1, 0.05, 2_000, 120
    errors = np.cumsum(np.random.default_rng(0).random((lines, parts)) < rate, axis=1)
    counts = range(int(errors.max()) + 1)

    def bounds(count: int, number: int) -> tuple[float, float]:
        return confidence_sequence(count, max(number, count), delta=delta, around=rate)

    # Both bounds fall with the number of parts, so each number of errors has a first part within them and a last one.
    numbers = range(parts + 1)
    first = np.array([bisect.bisect_left(numbers, True, key=lambda n, k=k: bounds(k, n)[0] <= rate) for k in counts])
    last = np.array([bisect.bisect_left(numbers, True, key=lambda n, k=k: bounds(k, n)[1] < rate) for k in counts])
    looks = np.arange(1, parts + 1)
    missed = ((looks < first[errors]) | (looks >= last[errors])).any(axis=1).mean()
    assert 0.0 < missed <= delta


def test_the_bounds_are_as_tight_as_counts_allow() -> None:
    assert confidence_sequence(0, 0, delta=0.05, around=0.01) == (0.0, 1.0)
    low, high = confidence_sequence(0, 600, delta=0.05, around=0.01)
    assert (low, high) == (0.0, pytest.approx(0.0092, abs=0.0005))  # a sample fixed beforehand: 0.0050
    low, high = confidence_sequence(100, 100, delta=0.05, around=0.01)
    assert low > 0.9
    assert high == 1.0
    lows = [confidence_sequence(count, 500, delta=0.05, around=0.01) for count in range(0, 100, 7)]
    assert lows == sorted(lows), "late errors can be left out of the lower bound and assumed in the upper one"


# --- the decision


def test_every_move_that_there_is_and_no_other() -> None:
    running = {"candidate_sha256": B, "canaries": ("x",)}
    for stage, event in itertools.product(Stage, Event):
        before = Release(
            channel="c",
            sequence=7,
            started=5,
            stage=stage,
            bundle_sha256=A,
            previous_sha256=C,
            made=NOW,
            who="a",
            why="",
            **(running if stage in RUNNING else {}),
        )
        changes = running if event is Event.START else {}
        if (stage, event) not in FOLLOWS:
            with pytest.raises(UnfitError, match=f"in stage {stage}"):
                following(before, event, who="a", why="", made=NOW, **changes)
            continue
        after = following(before, event, who="a", why="", made=NOW, **changes)
        assert after.stage is FOLLOWS[stage, event]
        assert after.sequence == 8
        expected = {Stage.DONE: B, Stage.ROLLED_BACK: C}.get(after.stage, A)
        assert after.bundle_sha256 == expected
        assert (after.candidate_sha256 == B) == (after.stage in RUNNING)
    assert {stage for stage, event in FOLLOWS if event is Event.PROMOTE} == RUNNING


@pytest.mark.slow
def test_the_decision_on_all_kinds_of_evidence() -> None:
    """Stop beats ready; ready needs the bound, people, the certificate, and live parts in stage canary."""
    terms = Terms(max_flips=0.05, max_bad_flips=0.01, min_settled=20, min_live=200)
    good = Evidence(parts=5_000, live=1_000, flips=50, settled=50)
    for stage in Stage:
        found = decide(stage, good, terms, promised=True)
        assert (found.verdict is Verdict.READY) == (stage in RUNNING)
        assert decide(stage, good, terms, promised=False).verdict is Verdict.WAIT
    spoiled = {
        "challenges_passed": (1, Verdict.STOP),
        "crashes": (3, Verdict.STOP),
        "bad_flips": (150, Verdict.STOP),
        "flips": (500, Verdict.STOP),
        "unsettled": (150, Verdict.WAIT),  # nobody has looked: neither harm nor harmlessness is shown
        "settled": (0, Verdict.WAIT),  # agreement alone never promotes
        "parts": (50, Verdict.WAIT),
        "live": (0, Verdict.READY),
    }
    for name, (value, expected) in spoiled.items():
        evidence = replace(good, **{name: value})
        if name == "parts":
            evidence = replace(evidence, flips=1, settled=20)
        assert decide(Stage.SHADOW, evidence, terms, promised=True).verdict is expected, name
        stopped = decide(Stage.DONE, evidence, terms, promised=True).verdict
        assert stopped is Verdict.WAIT, "a roll-out that has ended cannot be stopped"
    assert decide(Stage.CANARY, replace(good, live=0), terms, promised=True).verdict is Verdict.WAIT
    for names in itertools.combinations(spoiled, 2):
        evidence = replace(good, **{name: spoiled[name][0] for name in names if name != "parts"})
        stops = any(spoiled[name][1] is Verdict.STOP for name in names)
        found = decide(Stage.SHADOW, evidence, terms, promised=True).verdict
        assert (found is Verdict.STOP) == stops, names


def test_total_agreement_without_a_person_never_promotes() -> None:
    terms = Terms()
    agreed = Evidence(parts=1_000_000, live=1_000_000)
    for stage in RUNNING:
        found = decide(stage, agreed, terms, promised=True)
        assert found.verdict is Verdict.WAIT
        assert found.reasons == ("People have decided 0 of the 20 parts that are needed.",)


# --- releases


def release_of(**changes: object) -> Release:
    values = {"channel": "c", "sequence": 3, "started": 3, "stage": "done", "bundle_sha256": A, "made": NOW, "who": "a"}
    return Release.model_validate({**values, "stage": Stage.DONE, "why": "", **changes})


def test_what_a_release_asks_of_each_station() -> None:
    shadow = release_of(stage=Stage.SHADOW, candidate_sha256=B, canaries=("canary-*",))
    canary = release_of(stage=Stage.CANARY, candidate_sha256=B, canaries=("canary-*",))
    asked = [
        (each.active, each.shadow)
        for each in (
            assignment_of(release_of(), "canary-1"),
            assignment_of(shadow, "canary-1"),
            assignment_of(canary, "canary-1"),
            assignment_of(canary, "other"),
        )
    ]
    assert asked == [(A, None), (A, B), (B, A), (A, B)]


def test_old_doubled_and_foreign_releases_are_not_taken() -> None:
    release = release_of()
    seen = SeenRelease(channel="c", sequence=3, digest=release.digest)
    assert objection(release, channel="c", seen=None) == ""
    assert objection(release, channel="c", seen=seen) == ""
    assert objection(release_of(sequence=9), channel="c", seen=seen) == ""
    assert "an old release was put back" in objection(release_of(sequence=2), channel="c", seen=seen)
    assert "two different releases" in objection(release_of(bundle_sha256=B), channel="c", seen=seen)
    assert "expected a release of channel d" in objection(release, channel="d", seen=None)


def test_a_release_must_be_signed_for_releases(plant: Plant) -> None:
    release, store = release_of(), read_trust_store(plant.store)
    data = sign_release(release, plant.robot)
    assert open_release(data, store, name="r")[0] == release
    with pytest.raises(SignatureError, match="may sign only bundle, not release"):
        open_release(sign_release(release, plant.anna), store, name="r")
    with pytest.raises(SignatureError, match="changed after signing"):
        open_release(data.replace(A.encode(), B.encode()), store, name="r")
    both = plant.key("both", Use.BUNDLE, Use.RELEASE)
    opened = bundle.read_bundle(plant.bundles["old"])
    signing.sign_bundle(opened, both, now=NOW)
    store = read_trust_store(plant.store)
    with pytest.raises(SignatureError, match="of another kind"):
        open_release((plant.bundles["old"] / bundle.SIGNATURE).read_bytes(), store, name="r")


# --- a plant


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    made = {"old": -60.0, "better": -20.0, "worse": 100.0, "third": -50.0}
    found = {name: make_bundle(root / name, name, go_below=go_below) for name, go_below in made.items()}
    return {**found, "uncertified": make_bundle(root / "uncertified", "x", go_below=-20.0, certified=False)}


@pytest.fixture
def plant(originals: dict[str, Path], tmp_path: Path) -> Iterator[Plant]:
    copies = {name: Path(shutil.copytree(path, tmp_path / "lab" / name)) for name, path in originals.items()}
    made = Plant(folder=tmp_path, bundles=copies)
    yield made
    for line in made.stations.values():
        line.close()


def names(letter: str, count: int, red: int) -> list[str]:
    return [f"{letter}{number}-{red}" for number in range(count)]


def actions(line: Line, action: str) -> list[dict[str, object]]:
    with Ledger.open(line.settings.ledger) as ledger:
        return [dict(row.record.details) for row in ledger.actions(Where(action=action))]


@pytest.mark.slow
def test_a_better_bundle_goes_through_all_stages_and_back_in_one_command(plant: Plant) -> None:
    plant.first()
    canary, other = plant.add("canary-1"), plant.add("other")
    for line in (canary, other):
        line.pull()
        assert line.active == plant.sha("old")
    (started,) = actions(other, "started")
    assert (started["signed_by"], started["key_id"]) == ("anna", plant.anna.key_id)
    with pytest.raises(UnfitError, match="in stage done"):
        plant.server().promote(plant.robot, who="anna", why="")
    plant.start("better")
    for line in (canary, other):
        line.pull()
        assert line.active == plant.sha("old")
        answers = line.run(*names(line.name, 12, 50), *names(f"{line.name}-soft", 2, 90))
        assert [each.state for each in answers[-2:]] == [State.REVIEW] * 2, "the silent judge answers nothing"
    found = plant.server().judge()
    assert (found.evidence.parts, found.evidence.flips, found.evidence.unsettled) == (28, 4, 4)
    with pytest.raises(UnfitError, match="People have decided 0"):
        plant.server().promote(plant.robot, who="anna", why="")
    for flip in flips_to_settle(plant.server()):
        assert flip.frames[0].is_file()
        words = ["fleet", "settle", str(flip.ledger), str(flip.row), "--label", "good", "--who", "bert"]
        assert kit.run_here(words).code == 0
    assert plant.server().promote(plant.robot, who="anna", why="").release.stage is Stage.CANARY
    for line, name in ((canary, "better"), (other, "old")):
        line.pull()
        assert line.active == plant.sha(name)
    answers = canary.run(*names("k", 16, 50), *names("k-soft", 2, 90))
    assert [each.state for each in answers[-2:]] == [State.GO] * 2, "on a canary station the new bundle answers"
    found = plant.server().judge()
    assert (found.evidence.live, found.evidence.flips) == (18, 2), "the old bundle judges silently beside it"
    for answer in answers[-2:]:
        canary.settle(answer.row, "good")
    assert plant.server().promote(plant.robot, who="anna", why="").release.stage is Stage.DONE
    for line in (canary, other):
        line.pull()
        assert line.active == plant.sha("better")
    back = plant.server().roll_back(plant.robot, who="carla", why="complaint 17").release
    assert (back.stage, back.sequence, back.bundle_sha256) == (Stage.ROLLED_BACK, 5, plant.sha("old"))
    for line in (canary, other):
        line.pull()
        assert line.active == plant.sha("old")
    with Ledger.open(plant.own) as ledger:
        moves = [(row.record.who, row.record.details["event"], row.record.details["to"]) for row in ledger.actions()]
    assert moves == [
        ("anna", "start", "done"),
        ("anna", "start", "shadow"),
        ("anna", "promote", "canary"),
        ("anna", "promote", "done"),
        ("carla", "rollback", "rolled_back"),
    ]
    assert [each["stage"] for each in actions(other, "release_taken")] == [
        "done",
        "shadow",
        "canary",
        "done",
        "rolled_back",
    ]


@pytest.mark.slow
def test_a_worse_bundle_is_stopped_by_itself_in_shadow(plant: Plant) -> None:
    plant.first()
    line = plant.add("canary-1")
    line.pull()
    plant.start("worse")
    line.pull()
    answers = line.run(*names("good", 2, 50), *names("bad", 28, 200))
    assert {each.state for each in answers[2:]} == {State.NO_GO}
    found = plant.server().stop_if_needed(plant.robot)
    assert found.decision.verdict is Verdict.STOP
    assert "newly go" in found.decision.reasons[0]
    assert (found.release.stage, found.release.who) == (Stage.STOPPED, "gonogo fleet")
    line.pull()
    assert line.active == plant.sha("old")
    assert plant.server().stop_if_needed(plant.robot).release.sequence == 3, "stopped once, not again and again"


@pytest.mark.slow
def test_a_canary_station_leaves_a_worse_bundle_by_itself_without_the_network(plant: Plant) -> None:
    plant.first()
    line = plant.add("canary-1")
    line.pull()
    plant.start("worse", min_settled=1)
    line.pull()
    answers = line.run(*names("good", 14, 50))
    line.settle(answers[0].row, "good")
    plant.server().promote(plant.robot, who="anna", why="")
    line.pull()
    assert line.active == plant.sha("worse")
    shutil.move(plant.shelf.root, plant.folder / "cut off")
    answers = line.run(*names("bad", 20, 200))
    assert answers[0].state is State.GO, "these are the escapes of a canary stage"
    line.pull()
    assert line.active == plant.sha("old")
    (halted,) = actions(line, "release_halted")
    assert halted["live"] == 20
    assert line.judge("bad-1000-200")[0].state is State.NO_GO
    line.restart()
    line.pull()
    assert line.active == plant.sha("old"), "also after a restart"
    assert len(actions(line, "release_halted")) == 1
    (report,) = fleet_status([LedgerFile(path=line.settings.ledger)], now=NOW)
    assert "has left the roll-out by itself" in report.refused


def test_a_known_bad_part_that_the_candidate_passes_stops_at_once(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    plant.start("worse")
    line.pull()
    line.run("CHALLENGE-200")
    found = plant.server().judge()
    assert (found.evidence.challenges_passed, found.evidence.parts) == (1, 0)
    assert found.decision.verdict is Verdict.STOP


@pytest.mark.slow
def test_without_a_certificate_of_its_own_a_bundle_is_not_promoted(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    plant.start("uncertified")
    line.pull()
    for answer in line.run(*names("p", 14, 50))[:2]:
        line.settle(answer.row, "good")
    with pytest.raises(UnfitError, match="no certificate of its own"):
        plant.server().promote(plant.robot, who="anna", why="all agree")


# --- people


def test_a_part_counts_once_and_a_person_decides_once(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    plant.start("better", people=2)
    line.pull()
    one, again, *_ = line.run("soft-90", "soft-90", "p-50")
    reader = EvidenceReader((LedgerFile(path=line.settings.ledger),), plant.server().judge().release)
    found = reader.read()
    assert (found.parts, found.flips, found.unsettled) == (2, 1, 1), "one part, whatever the number of its pictures"
    for row in (one.row, again.row, one.row):
        line.settle(row, "good", who="bert")
    assert reader.read().unsettled == 1, "the same person again is no second person"
    line.settle(again.row, "good", who="carla")
    assert (reader.read().unsettled, reader.read().settled) == (0, 1)
    line.settle(one.row, "bad", who="bert")
    found = reader.read()
    assert (found.bad_flips, found.unsettled) == (1, 0), "one person who calls it bad is enough"
    line.settle(one.row, "none", who="bert")
    assert reader.read().bad_flips == 0
    fresh = EvidenceReader((LedgerFile(path=line.settings.ledger),), plant.server().judge().release)
    assert fresh.read() == reader.read(), "reading on is the same as reading anew"


# --- attacks on the way


def test_a_stale_release_that_is_put_back_is_refused_and_recorded(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    old = (plant.shelf.root / "chip" / "release.json").read_bytes()
    plant.start("third")
    plant.server().stop(plant.robot, who="anna", why="")
    line.pull()
    (plant.shelf.root / "chip" / "release.json").write_bytes(old)
    line.pull()
    line.pull()
    (refused,) = actions(line, "release_refused")
    assert "an old release was put back" in str(refused["reason"])
    line.restart()
    line.pull()
    assert line.agent.release is not None
    assert line.agent.release.sequence == 3
    shutil.rmtree(line.settings.state_dir / "fleet")
    line.restart()
    line.pull()
    assert line.agent.release is None, "its ledger remembers what its folder has forgotten"
    assert line.active == plant.sha("old")


def test_two_releases_with_one_number_are_noticed(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    twin = plant.server().judge().release.model_copy(update={"why": "the other server"})
    (plant.shelf.root / "chip" / "release.json").write_bytes(sign_release(twin, plant.robot))
    line.pull()
    (refused,) = actions(line, "release_refused")
    assert "two different releases" in str(refused["reason"])


def test_two_people_who_start_at_once_do_not_both_succeed(plant: Plant) -> None:
    plant.first()
    for name in ("better", "third"):
        plant.sign(name)
    ends: list[str] = []

    def start(name: str) -> None:
        try:
            plant.server().start(plant.bundles[name], plant.robot, canaries=("x",), terms=TERMS, who=name, why="")
            ends.append("started")
        except UnfitError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=start, args=(name,)) for name in ("better", "third")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each == "started" for each in ends) == [False, True]
    assert plant.server().judge().release.sequence == 2


def test_an_unsigned_or_changed_bundle_never_gets_on_the_shelf_nor_off_it(plant: Plant) -> None:
    plant.first()
    with pytest.raises(SignatureError, match="expected a signed bundle"):
        plant.server().start(plant.bundles["third"], plant.robot, canaries=("x",), terms=TERMS, who="a", why="")
    line = plant.add("other")
    line.pull()
    plant.start("better")
    manifest = bundle.read_bundle(plant.bundles["better"]).digests[bundle.MANIFEST]
    thing = plant.shelf.root / "objects" / manifest
    kept = thing.read_bytes()
    thing.write_bytes(kept.replace(b"part", b"trap"))
    line.pull()
    assert line.agent.release is not None
    assert line.agent.release.sequence == 1
    assert "other contents than its name says" in line.said[-1]
    thing.write_bytes(kept)
    swapped = plant.shelf.root / "signatures" / f"{plant.sha('better')}.json"
    genuine = swapped.read_bytes()
    swapped.write_bytes((plant.shelf.root / "signatures" / f"{plant.sha('old')}.json").read_bytes())
    line.pull()
    assert "another bundle's" in line.said[-1]
    swapped.write_bytes(genuine)
    line.pull()
    assert line.agent.release.sequence == 2


def test_a_key_revoked_in_use_and_a_lost_trust_store_leave_the_station_judging(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    good = line.active
    signing.revoke_key(plant.store, "anna", why="left", now=NOW)
    line.pull()
    assert (line.active, line.judge("p-50")[0].state) == (good, State.GO)
    assert line.station is not None
    assert "revoked" in line.station.slots[0].trouble
    line.restart()
    line.pull()
    assert line.active == good
    plant.store.unlink()
    line.pull()
    assert (line.active, line.judge("p-50")[0].state) == (good, State.GO)
    assert line.station is not None
    assert "expected the keys" in line.station.slots[0].trouble


@pytest.mark.slow
def test_a_station_that_was_offline_for_a_week_takes_the_latest_release_only(plant: Plant) -> None:
    plant.first()
    line, other = plant.add("canary-1"), plant.add("other")
    line.pull()
    plant.shelf.root.rename(plant.folder / "away")
    for _ in range(3):
        line.pull()
    assert sum("stays in force" in each for each in line.said) == 1, "said once"
    line.restart()
    line.pull()
    assert line.active == plant.sha("old")
    (plant.folder / "away").rename(plant.shelf.root)
    for _ in range(3):
        plant.start("third")
        plant.server().stop(plant.robot, who="anna", why="")
    plant.start("better")
    other.pull()
    line.pull()
    taken = [each["sequence"] for each in actions(line, "release_taken")]
    assert taken == [1, 8]


class Flaky:
    """A shelf whose connection breaks off after some files."""

    def __init__(self, root: Path) -> None:
        self.inner, self.left, self.opened = FolderSource(root), 10**9, list[str]()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        if self.left <= 0:
            raise UnreachableError("the network is gone")
        self.left -= 1
        self.opened.append(name)
        with self.inner.open(name) as file:
            yield file


def test_an_interrupted_pull_goes_on_where_it_broke_off(plant: Plant) -> None:
    plant.first()
    source = Flaky(plant.shelf.root)
    source.left = 4
    pull, policy = (
        Pull(source, plant.folder / "pulled"),
        signing.SignaturePolicy(required=True, trust_store=plant.store),
    )
    with pytest.raises(UnreachableError):
        pull.bundle(plant.sha("old"), policy)
    source.left = 10**9
    place = pull.bundle(plant.sha("old"), policy)
    objects = [name for name in source.opened if name.startswith("objects/") and not name.endswith(plant.sha("old"))]
    assert len(objects) == len(set(objects)) == len(bundle.read_bundle(place).digests)
    opened = len(source.opened)
    pull.bundle(plant.sha("old"), policy)
    assert len(source.opened) == opened, "what is here and whole is not fetched again"


def test_a_shelf_behind_a_web_server_is_pulled_the_same_way(plant: Plant) -> None:
    plant.first()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(plant.shelf.root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        source = HttpSource(f"http://127.0.0.1:{server.server_port}")
        line = plant.add("other", source=source)
        line.pull()
        assert line.active == plant.sha("old")
        with pytest.raises(UnreachableError, match="404"), source.open("nothing"):
            pass
    finally:
        server.shutdown()
        server.server_close()


def test_a_seal_with_a_name_outside_the_bundle_is_refused(plant: Plant) -> None:
    import hashlib

    seal = f"{A}  ../../outside\n".encode()
    sha256 = hashlib.sha256(seal).hexdigest()
    (plant.folder / "evil" / "objects").mkdir(parents=True)
    (plant.folder / "evil" / "objects" / sha256).write_bytes(seal)
    pull = Pull(FolderSource(plant.folder / "evil"), plant.folder / "pulled")
    with pytest.raises(bundle.BundleError, match="impossible line"):
        pull.bundle(sha256, signing.NOT_REQUIRED)


# --- the silent judge is no part of the line


CRASHES = (sys.executable, "-c", "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 11)")


def test_a_silent_judge_that_crashes_never_touches_the_line(plant: Plant) -> None:
    plant.first()
    line = plant.add("other", command=CRASHES)
    line.pull()
    plant.start("third")
    for _ in range(30):
        line.pull()
        assert line.judge("p-50")[0].state is State.GO
        if actions(line, "release_halted"):
            break
        child = line.agent.child
        if child is not None:
            child.wait()
    assert len(actions(line, "shadow_crashed")) == TERMS.max_crashes + 1
    assert line.active == plant.sha("old")
    found = plant.server().stop_if_needed(plant.robot)
    assert found.release.stage is Stage.STOPPED
    assert "crashed its process 3 times" in found.release.why
    for _ in range(3):
        line.pull()
    assert len(actions(line, "shadow_crashed")) == TERMS.max_crashes + 1, "it is not started again"


def test_parts_are_dropped_and_counted_when_the_silent_judge_is_behind(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    assert line.settings.fleet is not None
    line.settings = line.settings.model_copy(update={"fleet": line.settings.fleet.model_copy(update={"keep": 3})})
    line.restart()
    line.pull()
    plant.start("third")
    line.pull()
    line.judge_silently()
    line.judge(*names("p", 10, 50))
    line.judge_silently()
    found = plant.server().judge().evidence
    assert (found.parts, found.dropped) == (3, 7)


@pytest.mark.slow
def test_the_real_silent_judge_follows_the_ledger_in_a_process_of_its_own(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.command = (sys.executable, "-m", "gonogo.fleet", "shadow", str(line.folder / "station.toml"))
    line.restart()
    line.pull()
    plant.start("better")
    line.pull()
    child = line.agent.child
    assert child is not None
    done = threading.Event()
    for number in itertools.count():
        line.judge(f"soft{number}-90")
        if actions(line, "shadow"):
            break
        assert child.poll() is None
        done.wait(0.1)
    assert actions(line, "shadow")[0]["shadow"] == "go"
    line.agent.close()
    assert child.returncode is not None, "it ends with its agent"


@pytest.mark.slow
def test_the_agent_ends_when_the_station_is_killed(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.close()
    command = [sys.executable, "-m", "gonogo.fleet", "agent", str(line.folder / "station.toml")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stderr is not None
    assert "release 1 of channel chip" in child.stderr.readline()
    while not line.settings.bundle.exists():
        time.sleep(0.01)
    child.stdin.close()
    assert child.wait(60) == 0
    child.stderr.close()
    assert Path(line.settings.bundle.read_text().strip()).name == f"{plant.sha('old')}.inspector"


# --- all stations at a glance


def test_the_status_shows_every_station_and_what_is_due(plant: Plant) -> None:
    plant.first()
    line = plant.add("other")
    line.pull()
    line.judge("p-50", "q-200", "r-90")
    place = LedgerFile(path=line.settings.ledger)
    with Ledger.open(line.settings.ledger) as ledger:
        now = next(ledger.verdicts(newest_first=True)).at
    (report,) = fleet_status([place], now=now, shelf=plant.shelf)
    assert (report.parts, report.go, report.no_go, report.review) == (3, 1, 1, 1)
    assert report.yield_share == pytest.approx(1 / 3)
    assert (report.bundle_sha256, report.release, report.lag_s) == (plant.sha("old"), 1, 0.0)
    assert [each.trigger for each in report.due] == [Trigger.NEVER]
    with Ledger.open(line.settings.ledger) as ledger:
        declare_fit(ledger, line.settings, who="anna", note="report 7")
        fit = next(ledger.actions(newest_first=True)).at
    assert fleet_status([place], now=fit)[0].due == ()
    later = fleet_status([place], now=fit + timedelta(days=400), limits=Limits(parts=0))[0].due
    assert [each.trigger for each in later] == [Trigger.TIME]
    back = fleet_status([place], now=fit - timedelta(days=2))[0].due
    assert [each.trigger for each in back] == [Trigger.CLOCK]
    line.judge("s-50", "t-50")
    assert [each.trigger for each in fleet_status([place], now=fit, limits=Limits(parts=1))[0].due] == [Trigger.PARTS]
    plant.server().start(plant.sign("third"), plant.robot, canaries=("other",), terms=TERMS, who="a", why="")
    text = (line.folder / "station.toml").read_text().replace('pictures = "none"', 'pictures = "other"')
    line.settings = parse_settings(text, folder=line.folder)
    line.restart()
    line.pull()
    assert [each.trigger for each in fleet_status([place], now=fit)[0].due] == [Trigger.SETTINGS]


def test_a_station_that_does_not_answer_is_in_the_status_too(tmp_path: Path) -> None:
    silent = ask_station("http://127.0.0.1:9", timeout_s=0.2)
    never = ask_station(str(tmp_path))
    found = fleet_status([], health={each.station: each for each in (silent, never)})
    assert [each.health for each in found] == ["silent", "silent"]


@pytest.mark.slow
def test_the_commands_roll_out_and_back(plant: Plant) -> None:
    plant.sign("old")
    plant.sign("better")
    shelf, own, key = str(plant.shelf.root), str(plant.own), str(plant.folder / "robot.key")
    usual = ["--channel", "chip", "--ledger", own, "--store", str(plant.store)]
    move = [*usual, "--key", key, "--who", "anna", "--json"]

    def ran(*words: str, code: int = 0) -> kit.Ended:
        ended = kit.run_here(["fleet", *words])
        assert ended.code == code, (words, ended)
        return ended

    assert "--first" in ran("start", shelf, str(plant.bundles["old"]), *move, "--canary", "x", code=1).err
    ran("start", shelf, str(plant.bundles["old"]), *move, "--first")
    made = json.loads(ran("start", shelf, str(plant.bundles["better"]), *move, "--canary", "x").out)
    assert (made["stage"], made["rollout"]) == ("shadow", "chip-2")
    ran("promote", shelf, *move, code=1)
    assert json.loads(ran("flips", shelf, *usual, "--json").out) == []
    ran("watch", shelf, *usual, "--key", key)
    found = json.loads(ran("stop", shelf, *move, "--why", "changed my mind").out)
    assert found["release"]["stage"] == "stopped"
    assert "no earlier bundle" in ran("rollback", shelf, *move, code=1).err
    assert "expected the SHA-256" in ran("rollback", shelf, *move, "--to", "../x", code=1).err
    to = json.loads(ran("rollback", shelf, *move, "--to", plant.sha("better")).out)
    assert to["release"]["bundle_sha256"] == plant.sha("better")
    status = json.loads(ran("status", "--ledger", own, "--releases", shelf, "--store", str(plant.store), "--json").out)
    assert status["rollouts"][0]["release"]["sequence"] == 4
    assert "rolled_back" in ran("status", "--ledger", own, "--releases", shelf, "--store", str(plant.store)).out
