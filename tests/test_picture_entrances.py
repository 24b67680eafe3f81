"""Pictures from outside are decoded in a process with limits, whatever way they come."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.capture.push import PushCamera
from gonogo.cli import app
from gonogo.config import Depth, PictureLimits, Recipe, settings, use_setting
from gonogo.dataset import Dataset
from gonogo.errors import ImageError
from gonogo.images import Photograph, confined
from gonogo.images.codec import decode_sized
from gonogo.inspector import Inspector
from gonogo.ledger.frames import FrameStore
from gonogo.schema import Frame, State
from gonogo.server.api.judges import decoded
from tiny_bundle import make_bundle, make_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_parts(tmp_path_factory.mktemp("parts") / "set", np.random.default_rng(1))


@pytest.fixture(scope="module")
def inspector(parts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    return Inspector.load(make_bundle(tmp_path_factory.mktemp("bundle") / "tiny.inspector", parts).root)


@pytest.fixture
def nothing_decodes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding fails in this process; the processes that decode are others."""

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("a picture was decoded in this process")

    for place in ("photograph.decode_sized", "loading.decode", "codec.decode_sized"):
        monkeypatch.setattr(f"gonogo.images.{place}", refuse)


@pytest.fixture
def everything_confined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GONOGO_CONFINE_DECODING", "false")  # put back at the end
    use_setting("confine_decoding", "true")
    yield
    monkeypatch.undo()
    settings.cache_clear()


def test_pixels_and_size_are_those_of_this_process_with_every_option(rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (45, 61, 3), np.uint8)
    for data in (images.encode_jpeg(noise), images.encode_png(noise)):
        for reduction in (1, 2, 4, 8):
            expected, size_wh = decode_sized(data, reduction=reduction)  # type: ignore[arg-type]
            photograph = Photograph(data, confined=True)
            recipe = Recipe(reduction=reduction, reduced_by="decoder")  # type: ignore[arg-type]
            assert np.array_equal(photograph.unpacked(recipe), expected)
            assert photograph.size_wh == size_wh == (61, 45)
    deep, depth = images.encode_png(rng.integers(0, 65_536, (9, 12)).astype(np.uint16)), Depth(black=5, white=60_000)
    assert np.array_equal(images.decode_confined(deep, depth=depth), images.decode(deep, depth=depth))


def test_the_limits_are_those_of_the_recipe(rng: np.random.Generator) -> None:
    data = images.encode_png(rng.integers(0, 256, (20, 30, 3), np.uint8))
    with pytest.raises(ImageError, match="600 pixels, more than the 500 allowed"):
        images.decode_confined(data, limits=PictureLimits(max_pixels=500))


@pytest.mark.slow
def test_frames_that_do_not_fit_into_shared_memory_come_through_the_pipe(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(confined, "_SHARED_BYTES", 4096)
    confined._renew()
    try:
        for size_hw in ((20, 30), (200, 300)):
            frame = rng.integers(0, 256, (*size_hw, 3), np.uint8)
            assert np.array_equal(images.decode_confined(images.encode_png(frame)), frame)
    finally:
        confined._pool.close()
        confined._renew()


def _by_push(data: bytes) -> Frame:
    camera = PushCamera().start()
    try:
        ticket = camera.matcher.reserve(len(data))
        assert ticket is not None
        camera._put("A", None, data, ticket)
        return camera.acquire("A", timeout_s=5).photograph.frame
    finally:
        camera.close()


@pytest.mark.usefixtures("nothing_decodes_here")
@pytest.mark.parametrize(
    "command",
    [
        ["station", "limits", "PHOTO"],
        ["roi", "morphology", "PHOTO", "--out", "OUT.png"],
    ],
    ids=lambda command: command[0],
)
def test_commands_that_read_one_photograph_decode_it_elsewhere(
    command: list[str], tmp_path: Path, rng: np.random.Generator
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(images.encode_png(rng.integers(0, 256, (60, 80, 3), np.uint8)))
    words = [word.replace("PHOTO", str(photo)).replace("OUT", str(tmp_path / "out")) for word in command]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.exception


@pytest.mark.usefixtures("nothing_decodes_here")
def test_a_pushed_picture_and_one_that_a_program_sends_are_decoded_elsewhere(
    inspector: Inspector, parts: Dataset
) -> None:
    data = parts.path(parts.samples[0]).read_bytes()
    assert _by_push(data).shape == (32, 32, 3)
    photograph = decoded(data, inspector)
    assert inspector.inspect(photograph).state is not State.FAULT


@pytest.mark.usefixtures("everything_confined", "nothing_decodes_here")
def test_a_machine_may_decode_its_own_files_elsewhere_too(inspector: Inspector, parts: Dataset, tmp_path: Path) -> None:
    sample = parts.samples[0]
    assert parts.load(sample).shape == (32, 32, 3)
    photograph, verdict = inspector.inspect_file(parts.path(sample))
    assert photograph is not None
    assert verdict.state is not State.FAULT
    store = FrameStore(tmp_path)
    digest = store.put(parts.path(sample).read_bytes())
    assert store.photograph(digest).frame.shape == (32, 32, 3)
    assert images.load_mask(parts.path(sample)).shape == (32, 32)


OPEN = """
import socket
from gonogo.images import confined
whole = confined.decode_sized
def decode(data, **more):
    tries = {b"file": lambda: open("/etc/hostname"), b"socket": socket.socket}
    try:
        tries.get(data, lambda: None)()
    except OSError as error:
        raise confined.ImageError(f"{more['name']}: {error.strerror}")
    return whole(data, **more)
confined.decode_sized = decode
confined.serve_decoder()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="limits on files are Unix's")
@pytest.mark.parametrize("what", [b"file", b"socket"])
def test_a_decoder_can_open_neither_files_nor_connections(what: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "_PROGRAM", OPEN)
    confined._renew()
    try:
        with pytest.raises(ImageError, match="Too many open files"):
            images.decode_confined(what)
    finally:
        confined._pool.close()
        confined._renew()


def test_memory_of_large_frames_is_given_back(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(confined, "_KEPT_BYTES", 10_000)
    for size_hw, kept in (((200, 300), False), ((20, 30), True)):
        frame = rng.integers(0, 256, (*size_hw, 3), np.uint8)
        assert np.array_equal(images.decode_confined(images.encode_png(frame)), frame)
        shared = confined._pool._idle[-1]._shared
        assert shared is None or bool(os.fstat(shared.file).st_blocks) == kept


def test_every_way_in_is_on_the_list_of_the_security_page() -> None:
    """A new use of the plain decoder needs a reason there."""
    source = Path(confined.__file__).parents[1]
    plain: Callable[[str], bool] = lambda text: "images.decode(" in text or "images.decode_raw(" in text  # noqa: E731
    found = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if plain(path.read_text())}
    found -= {path for path in found if path.startswith("images/")}
    assert found == {"centre/frames.py", "ledger/frames.py", "roi/timing.py", "synthetic/scene.py"}
