"""Pictures of strangers cost so much memory and time and no more, whatever is in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from gonogo import images
from gonogo.errors import ImageError
from gonogo.images import confined
from gonogo.images.confined import CostlyImageError
from gonogo.schema import Frame

MISCHIEF = """
import os
from gonogo.images import confined
whole = confined.decode_sized
def decode(data, **more):
    while data == b"loop":
        pass
    if data == b"memory":
        bytearray(2 * confined.MEMORY_BYTES)
    if data == b"crash":
        os.abort()
    if data == b"write":
        with open("written", "wb") as file:
            file.write(b"x")
    return whole(data, **more)
confined.decode_sized, confined.CPU_S = decode, 1
confined.serve_decoder()
"""


@pytest.fixture
def mischief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoders that misbehave when told to."""
    monkeypatch.setattr(confined, "_PROGRAM", MISCHIEF)
    monkeypatch.setattr(confined, "CPU_S", 1)
    confined._renew()
    yield
    confined._pool.close()
    confined._renew()


def test_a_picture_decoded_by_itself_is_the_same(frame: Frame) -> None:
    for data in (images.encode_png(frame), images.encode_jpeg(frame)):
        assert np.array_equal(images.decode_confined(data), images.decode(data))
    with pytest.raises(ImageError, match=r"a\.jpg: expected a JPEG"):
        images.decode_confined(b"no picture", name="a.jpg")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "told"),
    [(b"loop", "more than 1 s of processor time"), (b"memory", "bytes of memory"), (b"crash", "exited unexpectedly")],
)
@pytest.mark.usefixtures("mischief")
def test_a_decoder_that_misbehaves_costs_one_picture(frame: Frame, data: bytes, told: str) -> None:
    with pytest.raises(CostlyImageError, match=rf"a\.jpg: .*{told}"):
        images.decode_confined(data, name="a.jpg")
    assert images.decode_confined(images.encode_png(frame)).shape == frame.shape


@pytest.mark.slow
@pytest.mark.usefixtures("mischief")
def test_a_decoder_may_not_write_files(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    with pytest.raises(CostlyImageError):
        images.decode_confined(b"write")
    assert not os.path.exists("written") or os.path.getsize("written") == 0  # noqa: PTH110, PTH202


@pytest.mark.usefixtures("mischief")
def test_a_decoder_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "WALL_S", 0.05)
    with pytest.raises(CostlyImageError, match="did not finish within"):
        images.decode_confined(b"loop")


def test_many_threads_get_each_their_own_picture(rng: np.random.Generator) -> None:
    frames = [rng.integers(0, 256, (20 + number, 30, 3), np.uint8) for number in range(12)]
    found: dict[int, Frame] = {}

    def decode(number: int) -> None:
        for _ in range(5):
            found[number] = images.decode_confined(images.encode_png(frames[number]))

    threads = [threading.Thread(target=decode, args=(number,)) for number in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[number], frame) for number, frame in enumerate(frames))
    assert len(confined._pool._idle) <= confined.MOST_PROCESSES
