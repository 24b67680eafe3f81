"""Blocks on a Ray cluster: bit-equal to one process, each job once with workers killed, resumed after a kill."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest

from gonogo import bundle as bundles
from gonogo.batch import BatchJob, judge_job
from gonogo.cli import extras
from gonogo.cluster import (
    Block,
    Cluster,
    DoneBlock,
    Journal,
    Row,
    Used,
    connected,
    inspect_on,
    replay_on,
    run_blocks,
    running,
)
from gonogo.cluster import machine as machines
from gonogo.cluster.blocks import block_size, cut
from gonogo.cluster.shipping import PackedBundle, pack, unpack
from gonogo.config import settings
from gonogo.errors import BundleError, InputError, MissingExtraError, SignatureError
from gonogo.images import encode_jpeg, encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, VerdictRecord, View
from gonogo.replay import Gap, Rejudged, Skipped, replay_ledger
from gonogo.schema import State
from gonogo.testing import fake_frame, write_fake_bundle
from tests import command_kit as kit

BEGIN = {"block_size": 2}
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
RUN = {"kind of work": "test", "bundle": "ab"}


def require_ray() -> None:
    """Skip without Ray; importing it here would let it start with other settings than the program's."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra ray")


def done(number: int, value: float = 0.5) -> DoneBlock:
    return DoneBlock(number=number, rows=({"score": value},), node="here", processor="p")


# --- the journal


def test_a_journal_gives_back_what_was_added_to_the_last_bit(tmp_path: Path) -> None:
    path, odd = tmp_path / "run.journal", float(np.nextafter(0.1, 1.0))
    with Journal(path, RUN, begin=BEGIN) as journal:
        journal.add(done(3, odd))
        journal.add(done(0))
    with Journal(path, RUN, begin={"block_size": 64}) as again:
        assert again.begun == BEGIN, "the run keeps the blocks that it began with"
        assert (3 in again, 0 in again, 1 in again, len(again)) == (True, True, False, 2)
        assert again.read(3) == done(3, odd)


@pytest.mark.parametrize("torn", [b'{"number": 1, "rows": [{"sc', b'{"num', b"\xff\xfe"])
def test_a_line_that_a_killed_process_left_behind_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "run.journal"
    with Journal(path, RUN, begin=BEGIN) as journal:
        journal.add(done(0))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Journal(path, RUN, begin=BEGIN) as again:
        assert len(again) == 1
        again.add(done(1))
    with Journal(path, RUN, begin=BEGIN) as again:
        assert [again.read(number).number for number in (0, 1)] == [0, 1]


def test_a_journal_of_another_run_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    Journal(path, RUN, begin=BEGIN).__exit__()
    with pytest.raises(InputError, match="holds another run, with another bundle"):
        Journal(path, RUN | {"bundle": "cd"}, begin=BEGIN)
    with pytest.raises(InputError, match="holds another run"):
        Journal(path, {"kind of work": "else"}, begin=BEGIN)


@pytest.mark.parametrize(
    "content", [b"", b"notes\n", b"{}\n", b"[1]\n", b'{"gonogo_journal": 9, "run": {}, "begun": {}}\n']
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected a journal"):
        Journal(path, RUN, begin=BEGIN)
    assert path.read_bytes() == content


def test_a_damaged_block_and_a_second_writer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with Journal(path, RUN, begin=BEGIN) as journal:
        journal.add(done(0))
        with pytest.raises(InputError, match="another process writes to it"):
            Journal(path, RUN, begin=BEGIN)
    path.write_bytes(path.read_bytes().replace(b"score", b'sc"re'))
    with Journal(path, RUN, begin=BEGIN) as again, pytest.raises(InputError, match="block 0 is damaged"):
        again.read(0)
    path.write_bytes(path.read_bytes() + b"something else\n")
    with pytest.raises(InputError, match="not the start of a block"):
        Journal(path, RUN, begin=BEGIN)


# --- blocks and bundles


def test_jobs_are_cut_into_blocks_and_every_slot_gets_some() -> None:
    blocks = list(cut(range(5), 2, bundle_sha256="ab"))
    assert [(each.number, each.jobs, each.bundles) for each in blocks] == [
        (0, (0, 1), ("ab", "ab")),
        (1, (2, 3), ("ab", "ab")),
        (2, (4,), ("ab",)),
    ]
    assert [block_size(jobs, 4) for jobs in (1, 16, 160, 100_000)] == [1, 1, 10, 64]


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_bundle(tmp_path_factory.mktemp("bundles") / "red.inspector").root


def test_a_bundle_arrives_with_its_seal_or_not_at_all(red: Path) -> None:
    packed = pack(red)
    folder = unpack(packed)
    assert bundles.read_bundle(folder).sha256 == packed.sha256 == bundles.read_bundle(red).sha256
    assert unpack(packed) == folder, "unpacked once"
    changed = PackedBundle(sha256="f" * 64, files=packed.files)
    with pytest.raises(BundleError, match="expected bundle ffffffffffff, found"):
        unpack(changed)
    torn = PackedBundle(sha256="e" * 64, files=packed.files | {"classifier.bin": b"other"})
    with pytest.raises(BundleError, match="was changed"):
        unpack(torn)
    (folder / "MODEL_CARD.md").write_text("changed in the cache")
    with pytest.raises(BundleError, match="was changed"):
        unpack(packed)
    shutil.rmtree(folder)


def test_a_machine_that_asks_for_signatures_gives_out_no_unsigned_bundle(
    red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = settings().model_copy(update={"require_signature": True, "trust_store": tmp_path / "trust.json"})
    monkeypatch.setattr("gonogo.cluster.shipping.settings", lambda: strict)
    with pytest.raises(SignatureError):
        pack(red)


def test_other_processors_are_counted_and_other_packages_named() -> None:
    used = Used()
    used.add(replace(done(0), processor=machines.processor(1)))
    used.add(replace(done(1), processor="Other CPU", node="there"))
    assert used.on_other_processors(1) == {"Other CPU": 1}
    assert used.nodes == 2
    assert machines.differing(machines.software()) == ""
    assert "numpy 0.1, as on the machine" in machines.differing({"numpy": "0.1"})


# --- addresses and options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--journal", "run.journal"], "--journal run.journal: expected --engine ray with it"),
        (["--ray-address", "auto"], "--ray-address auto: expected --engine ray with it"),
        (["--engine", "ray", "--ray-address", "somewhere"], "expected HOST:PORT of a cluster's head"),
        (["--engine", "ray", "--ray-address", "ray://10.0.0.1:10001"], "ray job submit"),
        (["--engine", "ray", "--ray-address", "10.0.0.1:99999"], "expected HOST:PORT"),
    ],
)
def test_options_that_cannot_work_are_refused(
    red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(encode_png(fake_frame(1)))
    ended = kit.run_here(["inspect", str(red), "a.png", *words])
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not (tmp_path / "run.journal").exists()


def test_a_cluster_that_does_not_answer_is_said_at_once() -> None:
    require_ray()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = unused.getsockname()[1]
        with pytest.raises(InputError, match="cannot be reached"), connected(f"127.0.0.1:{port}"):
            pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    from gonogo.cluster.connecting import ray_module

    with pytest.raises(MissingExtraError, match=r"gonogo\[ray\]"):
        ray_module()
    with pytest.raises(MissingExtraError, match=r"gonogo\[ray\]"):
        extras.require("ray", "ray")


# --- a real cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require_ray()
    with connected(cpus=2) as found:
        yield found


@dataclass(frozen=True, kw_only=True)
class Marking:
    """Counts how often each job ran; a job whose name begins with ``kill`` ends its worker the first time."""

    folder: str
    takes_s: float = 0.0

    def open(self, bundle: Path | None) -> Callable[[str], Row]:
        def do(name: str) -> Row:
            ran = Path(self.folder) / name
            again = ran.exists()
            with ran.open("a") as file:
                file.write("x")
            time.sleep(self.takes_s)
            if name.startswith("kill") and not again:
                os.kill(os.getpid(), signal.SIGKILL)
            if name.startswith("always"):
                os.kill(os.getpid(), signal.SIGKILL)
            if name.startswith("bug"):
                raise ZeroDivisionError("a bug")
            return {"name": name}

        return do


def names(blocks: list[DoneBlock]) -> list[str]:
    return [row["name"] for each in blocks for row in each.rows]


@pytest.mark.slow
def test_jobs_come_back_once_and_in_order_while_workers_are_killed(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [f"{'kill' if number in (3, 17) else 'job'}-{number}" for number in range(32)]
    path = tmp_path / "run.journal"
    ran = tmp_path / "ran"
    ran.mkdir()
    work = Marking(folder=str(ran))
    with Journal(path, RUN, begin=BEGIN) as journal:
        found = list(run_blocks(cluster, work, cut(jobs, 2), journal=journal))
    assert names(found) == jobs
    assert [each.number for each in found] == list(range(16))
    lines = [json.loads(line)["number"] for line in path.read_text().splitlines()[1:]]
    assert sorted(lines) == list(range(16)), "each block once"
    before = {each.name: each.read_text() for each in ran.iterdir()}
    with Journal(path, RUN, begin=BEGIN) as journal:
        assert names(list(run_blocks(cluster, work, cut(jobs, 2), journal=journal))) == jobs
    assert {each.name: each.read_text() for each in ran.iterdir()} == before, "nothing runs again"


def test_a_run_that_is_dropped_in_the_middle_goes_on_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [f"job-{number}" for number in range(40)]
    path, work = tmp_path / "run.journal", Marking(folder=str(tmp_path))
    with Journal(path, RUN, begin=BEGIN) as journal:
        found_so_far = run_blocks(cluster, replace(work, takes_s=0.3), cut(jobs, 2), journal=journal)
        first = [next(found_so_far) for _ in range(5)]
        found_so_far.close()
    kept = len(path.read_text().splitlines()) - 1
    assert 5 <= kept < 20
    with Journal(path, RUN, begin=BEGIN) as journal:
        found = list(run_blocks(cluster, work, cut(jobs, 2), journal=journal))
    assert names(found) == jobs
    assert found[:5] == first
    unordered = list(run_blocks(cluster, work, cut(jobs, 8), ordered=False))
    assert sorted(names(unordered)) == sorted(jobs)


def test_a_job_that_kills_every_worker_and_a_bug_end_the_run(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Marking(folder=str(tmp_path))
    monkeypatch.setattr(running, "MOST_DEATHS", 1)
    with pytest.raises(InputError, match="2 workers died over block 0, which begins with always-1"):
        list(run_blocks(cluster, work, cut(["always-1"], 1)))
    assert (tmp_path / "always-1").read_text() == "xx"
    with pytest.raises(ZeroDivisionError):
        list(run_blocks(cluster, work, cut(["bug-1"], 1)))


def test_a_machine_with_other_packages_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "software", lambda: {"opencv-python-headless": "0.1"})
    with pytest.raises(InputError, match=r"machine .*: expected opencv-python-headless 0\.1"):
        list(run_blocks(cluster, Marking(folder=str(tmp_path)), [Block(number=0, jobs=("a",), bundles=("",))]))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(24):
        (folder / f"{number:02d}.jpg").write_bytes(encode_jpeg(fake_frame(number, bad=number % 5 == 0)))
    (folder / "07.jpg").write_text("no picture")
    return sorted(folder.iterdir())


def bare(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "timings_ms"}


def test_pictures_are_judged_as_in_one_process_to_the_last_bit(
    cluster: Cluster, red: Path, pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [BatchJob(file=each, heatmap=tmp_path / "maps" / each.name) for each in pictures]
    inspector = Inspector.load(red, machine=settings().model_copy(update={"threads": 1}))
    alone = [bare(one.as_row() | {"readable": one.readable}) for one in (judge_job(inspector, job) for job in jobs)]
    maps = {each.name: each.read_bytes() for each in (tmp_path / "maps").iterdir()}
    shutil.rmtree(tmp_path / "maps")
    used, path = Used(), tmp_path / "run.journal"
    for _ in range(2):
        found = [bare(row) for row in inspect_on(cluster, red, jobs, journal=path, used=used)]
        assert found == alone
    assert {each.name: each.read_bytes() for each in (tmp_path / "maps").iterdir()} == maps
    assert {State(row["state"]) for row in found} == {State.GO, State.NO_GO, State.FAULT}
    assert used.on_other_processors(1) == {}
    with pytest.raises(InputError, match="holds another run, with another pictures"):
        next(inspect_on(cluster, red, jobs[1:], journal=path))


def test_the_command_prints_what_it_prints_without_ray(
    cluster: Cluster, red: Path, pictures: list[Path], tmp_path: Path
) -> None:
    words = ["inspect", str(red), str(pictures[0].parent), "--json"]
    alone = kit.run_here(words)
    found = kit.run_here([*words, "--engine", "ray", "--journal", str(tmp_path / "run.journal")])
    assert (found.code, alone.code) == (2, 2), found.err
    assert "Ray on the cluster of this process: 2 processors, 1 machine." in " ".join(found.err.split())
    rows, expected = ([bare(json.loads(line)) for line in each.out.splitlines()] for each in (found, alone))
    assert rows[-1].pop("other_processors") == {}
    assert rows == expected


def test_a_machine_that_sees_another_picture_or_another_golden_score_is_named(
    cluster: Cluster, red: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gonogo.cluster import inspecting

    plain = inspecting._sized
    monkeypatch.setattr(inspecting, "_sized", lambda job: replace(plain(job), size_bytes=1))
    with pytest.raises(InputError, match=r"machine .*: .*00\.jpg: expected 1 bytes, as on the machine"):
        list(inspect_on(cluster, red, [BatchJob(file=pictures[0])]))
    monkeypatch.undo()
    wrong = Path(shutil.copytree(red, tmp_path / "wrong.inspector"))
    manifest = bundles.read_bundle(wrong).manifest
    golden = tuple(each.model_copy(update={"score": each.score + 1.0}) for each in manifest.golden)
    bundles.write_manifest(wrong, manifest.model_copy(update={"golden": golden}))
    with pytest.raises(InputError, match=r"machine .*does not reproduce the bundle"):
        list(inspect_on(cluster, wrong, [BatchJob(file=pictures[0])]))


@pytest.fixture
def ledger(red: Path, tmp_path: Path) -> Path:
    """Six parts with one frame each, one of them lost, and one part without a picture."""
    path, inspector = tmp_path / "line.ledger", Inspector.load(red)
    with Ledger.open(path) as opened:
        for number in range(6):
            digest = opened.frames.put(encode_jpeg(fake_frame(number, bad=number == 2)))
            verdict = inspector.inspect(opened.frames.photograph(digest))
            facts = {"station": "left", "trigger_id": str(number), "reason": verdict.reason}
            opened.append_verdict(
                VerdictRecord(
                    **facts,
                    state=verdict.state,
                    score=verdict.score,
                    bundle_sha256=inspector.bundle_sha256,
                    bundle=str(red),
                    views=(View.of(verdict, frame_sha256=digest),),
                    triggered_at=MOMENT,
                )
            )
        opened.frames.remove(digest)
        opened.append_verdict(
            VerdictRecord(
                station="left",
                trigger_id="dark",
                state=State.FAULT,
                score=None,
                reason="no picture came",
                cause="camera_lost",
                triggered_at=MOMENT,
            )
        )
    return path


def told(each: Rejudged | Skipped) -> tuple[object, ...]:
    if isinstance(each, Skipped):
        return each.row.seq, each.gap, each.why
    return each.row.seq, each.state_after, each.score_after, each.same_bundle, each.equal, each.changed


def test_a_ledger_is_replayed_as_in_one_process_to_the_last_bit(
    cluster: Cluster, red: Path, ledger: Path, tmp_path: Path
) -> None:
    strict = write_fake_bundle(tmp_path / "other.inspector", name="other").root
    with Ledger.open(ledger, read_only=True) as opened:
        for chosen in (None, strict):
            inspector = None if chosen is None else Inspector.load(chosen)
            alone = [told(each) for each in replay_ledger(opened, inspector)]
            path = tmp_path / f"{chosen is None}.journal"
            for _ in range(2):
                assert [told(each) for each in replay_on(cluster, opened, chosen, journal=path)] == alone
        assert [each[1] for each in alone[-2:]] == [Gap.LOST, Gap.NOT_JUDGED]
    summary = json.loads(kit.run_here(["ledger", "replay", str(ledger), "--json"]).out.splitlines()[-1])
    on_ray = kit.run_here(["ledger", "replay", str(ledger), "--engine", "ray", "--json"])
    found = json.loads(on_ray.out.splitlines()[-1])
    assert found.pop("other_processors") == {}
    assert found == summary


def test_rows_that_come_while_a_replay_is_resumed_wait_for_the_next_one(
    cluster: Cluster, ledger: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.journal"
    with Ledger.open(ledger) as opened:
        before = [each.row.seq for each in replay_on(cluster, opened, journal=path)]
        first = next(iter(opened.verdicts())).record
        opened.append_verdict(first.model_copy(update={"trigger_id": "later"}))
        assert [each.row.seq for each in replay_on(cluster, opened, journal=path)] == before
        assert len(list(replay_on(cluster, opened))) == len(before) + 1


# --- kills of the whole program


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_behind_and_the_same_command_resumes(tmp_path: Path) -> None:
    require_ray()
    jobs = [f"job-{number}" for number in range(400)]
    child = multiprocessing.get_context("spawn").Process(target=_run_all, args=(tmp_path, jobs))
    child.start()
    path = tmp_path / "run.journal"
    while not path.exists() or path.read_bytes().count(b"\n") < 20:
        assert child.is_alive()
    family = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.join()
    _, left = psutil.wait_procs(family, timeout=120)
    assert left == []
    again = multiprocessing.get_context("spawn").Process(target=_run_all, args=(tmp_path, jobs))
    again.start()
    again.join()
    assert json.loads((tmp_path / "out.json").read_text()) == jobs


def _run_all(folder: Path, jobs: list[str]) -> None:
    (folder / "ran").mkdir(exist_ok=True)
    with connected(cpus=2) as cluster, Journal(folder / "run.journal", RUN, begin=BEGIN) as journal:
        found = list(run_blocks(cluster, Marking(folder=str(folder / "ran")), cut(jobs, 2), journal=journal))
    (folder / "out.json").write_text(json.dumps(names(found)))


@pytest.mark.slow
def test_a_cluster_accepts_its_own_token_and_no_other(tmp_path: Path) -> None:
    require_ray()
    folder = tempfile.mkdtemp(prefix="gonogo-test-", dir="/tmp")  # short: it holds sockets
    port = random.randrange(21_000, 29_000)
    code = (
        "import sys\nfrom gonogo.cluster import connected\nfrom gonogo.errors import InputError\ntry:\n"
        "    with connected('auto' if len(sys.argv) < 2 else sys.argv[1]) as found: print('cpus', found.cpus)\n"
        "except InputError as error: print('refused', error)\n"
    )

    def run(*words: str, token: str) -> str:
        environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token * 40}
        environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=False).stdout

    ray = str(Path(sys.executable).with_name("ray"))
    options = (f"--port={port}", "--num-cpus=1", "--include-dashboard=false", f"--temp-dir={folder}/r")
    try:
        said = run(ray, "start", "--head", *options, token="a")
        address = next(word for word in said.replace("'", " ").split() if word.endswith(f":{port}"))
        assert run(sys.executable, "-c", code, address, token="a").strip() == "cpus 1"
        wrong = run(sys.executable, "-c", code, address, token="b")
        assert "does not accept this machine" in wrong
        assert "RAY_AUTH_TOKEN" in wrong
    finally:
        for each in psutil.process_iter(["cmdline"]):
            if any(folder in word for word in each.info["cmdline"] or ()):
                each.kill()
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_file_for_bare_machines_is_one_that_ray_accepts_and_asks_for_a_token() -> None:
    require_ray()
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = json.loads((Path(found.origin).parent / "autoscaler/ray-schema.json").read_text())
    deploy = Path(__file__).parents[1] / "deploy/ray"
    given = yaml.safe_load((deploy / "bare-machines.yaml").read_text())
    jsonschema.validate(given, schema)
    starts = [given["head_start_ray_commands"][-1], given["worker_start_ray_commands"][-1]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--include-dashboard=false" in starts[0]
    job = yaml.safe_load((deploy / "kuberay.yaml").read_text())
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
