"""Bundles that are no bundles: refused by name wherever they turn up, and the last good one judges on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gonogo import bundle, drift
from gonogo.cli import main
from gonogo.errors import BundleError
from gonogo.manifest import Golden
from gonogo.server import Workspace
from gonogo.station import LoadedBundle, ModelSlot
from gonogo.testing import fake_model, write_fake_bundle
from server_kit import Browser, make_app

Spoil = Callable[[Path], None]


def link(target: str) -> Spoil:
    return lambda root: (root / "odd").symlink_to(target)


def latin_1(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/odd\xe4")).write_bytes(b"x")


def a_socket(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(root):  # its path may have 107 bytes
        server.bind("odd")


def two_lines(root: Path) -> None:
    (root / "odd\nname").write_bytes(b"x")


def a_terabyte(root: Path) -> None:
    with (root / "odd").open("wb") as file:
        file.truncate(1 << 40)


def seal_is_a_folder(root: Path) -> None:
    (root / "SHA256SUMS").unlink()
    (root / "SHA256SUMS").mkdir()


def manifest_is_a_fifo(root: Path) -> None:
    (root / "inspector.json").unlink()
    os.mkfifo(root / "inspector.json")


ODD: dict[str, Spoil] = {
    "a FIFO": lambda root: os.mkfifo(root / "odd"),
    "a socket": a_socket,
    "a dangling link": link("nowhere"),
    "a link to itself": link("odd"),
    "a link to a device": link("/dev/zero"),
    "a link to a folder": link("golden"),
    "a name in Latin-1": latin_1,
    "a name of two lines": two_lines,
    "a sparse file of a terabyte": a_terabyte,
    "a seal that is a folder": seal_is_a_folder,
    "a manifest that is a FIFO": manifest_is_a_fifo,
}


def huge_array(root: Path) -> None:
    """A sealed bundle whose array says that it has more rows than any memory."""
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f2", "fortran_order": False, "shape": (1 << 44, 512)})
    (root / drift.DRIFT).write_text('{"guard": null, "watches": [], "bad_share": 0.5, "parts": 10}')
    (root / drift.TAUGHT).write_bytes(data.getvalue())
    seal = {line.partition("  ")[2]: line for line in (root / "SHA256SUMS").read_text().splitlines()}
    for name in (drift.DRIFT, drift.TAUGHT):
        seal[name] = f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}"
    (root / "SHA256SUMS").write_text("".join(f"{seal[name]}\n" for name in sorted(seal)))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good") / "good.inspector"
    write_fake_bundle(root)
    return root


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        target.mkdir(parents=True)
        for path in good.rglob("*"):
            place = target / path.relative_to(good)
            place.mkdir(parents=True, exist_ok=True) if path.is_dir() else (
                place.parent.mkdir(parents=True, exist_ok=True),
                place.write_bytes(path.read_bytes()),
            )
        return target

    return make


@pytest.mark.parametrize("what", ODD)
def test_an_odd_bundle_is_refused_by_name(what: str, copy: Callable[[Path], Path], tmp_path: Path) -> None:
    root = copy(tmp_path / "b.inspector")
    ODD[what](root)
    with pytest.raises(BundleError, match=r"b\.inspector") as caught:
        bundle.read_bundle(root)
    assert "odd" in str(caught.value) or what.startswith("a seal") or "inspector.json" in str(caught.value)
    assert str(caught.value).encode()


@pytest.mark.parametrize("file", ["../secret.png", "/dev/zero", "golden/../../x.png", "golden/none.png"])
def test_a_golden_frame_lies_in_its_bundle(file: str, good: Path) -> None:
    opened = bundle.read_bundle(good)
    golden = (Golden(file=file, score=0.0),)
    odd = replace(opened, manifest=opened.manifest.model_copy(update={"golden": golden}))
    with pytest.raises(BundleError, match=f"{re.escape(file)} is missing"):
        odd.golden()


def test_an_array_that_claims_more_rows_than_it_has_is_refused(copy: Callable[[Path], Path], tmp_path: Path) -> None:
    root = copy(tmp_path / "b.inspector")
    huge_array(root)
    bundle.read_bundle(root)
    with pytest.raises(BundleError, match=r"malformed \((?!.*validation)"):
        drift.read_reference(root)


@pytest.mark.parametrize("what", ["a FIFO", "a dangling link", "a name in Latin-1", "a huge array"])
def test_the_command_line_refuses_it_in_one_line(
    what: str,
    good: Path,
    copy: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = copy(tmp_path / "b.inspector")
    (ODD.get(what) or huge_array)(root)
    monkeypatch.setattr("sys.argv", ["gonogo", "inspect", str(root), str(good / "golden" / "good.png")])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n")) == (2, 1)
    assert "b.inspector" in told


@pytest.mark.parametrize("what", ["a FIFO", "a dangling link", "a name in Latin-1", "a link to a device"])
def test_the_station_names_what_is_odd_and_the_last_good_bundle_judges_on(
    what: str, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    place = copy(tmp_path / "bundle")
    slot = ModelSlot(place, tmp_path / "copies", loader=fake_model)
    before = slot.start().after
    ODD[what](place)
    (place / "SHA256SUMS").write_text("changed")
    again = ModelSlot(place, tmp_path / "copies", loader=fake_model)
    swap = again.start()
    assert (swap.after, again.model is not None) == (before, True)
    assert "odd" in again.trouble


def exit_code_of_worker(work: Callable[[], object]) -> int:
    """Run the work in a process of its own, which may die of it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_bundle_that_ends_the_worker_is_not_tried_by_the_next_one(tmp_path: Path) -> None:
    tried = tmp_path / "tried"

    def load(path: Path) -> LoadedBundle:
        seal = (path / "SHA256SUMS").read_text()
        with tried.open("a") as lines:
            lines.write(f"{seal}\n")
        if seal == "deadly":
            os._exit(139)  # as a crash would: nothing after it runs
        return fake_model(path)

    place = tmp_path / "bundle"
    place.mkdir()

    def put(seal: str) -> None:
        (place / "SHA256SUMS").write_text(seal)

    put("good")
    assert ModelSlot(place, tmp_path / "copies", loader=load).start().refused == ""
    put("deadly")
    assert exit_code_of_worker(lambda: ModelSlot(place, tmp_path / "copies", loader=load).start()) == 139
    for _ in range(3):
        slot = ModelSlot(place, tmp_path / "copies", loader=load)
        slot.start()
        assert slot.model is not None
        assert "crashed the worker" in slot.trouble
    assert tried.read_text().split() == ["good", "deadly", "good", "good", "good"]
    put("better")
    assert ModelSlot(place, tmp_path / "copies", loader=load).start().refused == ""


def test_a_proven_bundle_is_tried_again_after_a_worker_was_killed_while_loading_it(tmp_path: Path) -> None:
    deadly = [False]

    def load(path: Path) -> LoadedBundle:
        if deadly[0]:
            os._exit(137)
        return fake_model(path)

    place = tmp_path / "bundle"
    place.mkdir()
    for seal in ("old", "new"):
        (place / "SHA256SUMS").write_text(seal)
        newest = ModelSlot(place, tmp_path / "copies", loader=load).start().after
    deadly[0] = True
    assert exit_code_of_worker(lambda: ModelSlot(place, tmp_path / "copies", loader=load).start()) == 137
    deadly[0] = False
    assert ModelSlot(place, tmp_path / "copies", loader=load).start().after == newest


def test_the_pages_name_odd_bundles_and_go_on(copy: Callable[[Path], Path], tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "workspace")
    for number, spoil in enumerate(ODD.values()):
        spoil(copy(space.bundles / f"b{number}.inspector"))
    huge_array(copy(space.bundles / "huge.inspector"))
    Path(os.fsdecode(os.fsencode(space.bundles) + b"/name\xe4.inspector")).mkdir()
    (space.bundles / "gone.inspector").symlink_to("nowhere")
    (space.root / "active").write_bytes(b"bundles/\xff.inspector\n")
    browser = Browser(make_app(tmp_path / "workspace"))
    browser.login("engineer")
    page = browser.get("/")
    assert page.status_code == 200
    for name in ("b0", "b10", "name\\udce4", "gone"):
        assert name in page.text
    for path in ("/training", "/understand", "/station"):
        assert browser.get(path).status_code == 200
