"""A picture that lost a piece is refused, and one that is whole comes out as it always did."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gonogo import images
from gonogo.capture import CaptureError, FolderCamera, Trouble
from gonogo.cli import app
from gonogo.config import PictureLimits, Recipe, Reduction
from gonogo.errors import ImageError, InputError
from gonogo.inspector import Inspector
from gonogo.schema import Frame, State
from tiny_bundle import make_bundle, make_parts

OPENCV = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
END = b"\xff\xd9"


@pytest.fixture
def picture(rng: np.random.Generator) -> Frame:
    return cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)


def jpeg(frame: Frame, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).convert(mode).save(buffer, "JPEG", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def scans(data: bytes) -> list[int]:
    return [found.start() for found in re.finditer(b"\xff\xda", data)]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97, 0.995])
@pytest.mark.parametrize("reduction", [1, 2, 8])
def test_a_jpeg_that_was_cut_and_given_an_end_again_is_refused(
    picture: Frame, progressive: bool, share: float, reduction: Reduction
) -> None:
    data = jpeg(picture, progressive=progressive)
    for end in (END, b""):
        with pytest.raises(ImageError, match=r"part-7\.jpg: the JPEG data are truncated or damaged"):
            images.decode(data[: int(len(data) * share)] + end, name="part-7.jpg", reduction=reduction)


def test_a_jpeg_without_its_end_marker_is_refused(picture: Frame) -> None:
    with pytest.raises(ImageError, match="truncated"):
        images.decode(jpeg(picture)[:-2])


def test_a_jpeg_with_a_hole_is_refused(picture: Frame) -> None:
    data = jpeg(picture)
    middle = len(data) // 2
    with pytest.raises(ImageError, match="damaged"):
        images.decode(data[:middle] + data[middle + 200 :])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_cut_between_two_scans_is_refused(picture: Frame, mode: str) -> None:
    data = jpeg(picture, mode, progressive=True)
    images.decode(data)
    for start in scans(data)[1:]:
        # Decoders show what came so far, and libjpeg has no warning for it.
        with pytest.raises(ImageError, match="scans are missing"):
            images.decode(data[:start] + END)


def test_a_picture_followed_by_other_bytes_is_read(picture: Frame) -> None:
    # Phones append videos and makers append tables; nothing of the picture is lost.
    data = jpeg(picture)
    assert np.array_equal(images.decode(data + b"appended" * 10), images.decode(data))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"keep_rgb": True}])
def test_a_whole_jpeg_has_the_pixels_that_opencv_gives(
    picture: Frame, mode: str, subsampling: str, more: dict[str, object]
) -> None:
    if "keep_rgb" in more and (mode, subsampling) != ("RGB", "4:4:4"):
        pytest.skip("Pillow keeps RGB only so")
    for height, width in ((240, 320), (77, 93), (1, 1)):
        data = jpeg(picture[:height, :width], mode, subsampling=subsampling, **more)
        for reduction, flags in OPENCV.items():
            expected = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            found = images.decode(data, reduction=reduction)  # type: ignore[arg-type]
            assert np.array_equal(found, expected), (height, width, reduction)


def test_a_jpeg_of_any_small_size_is_reduced_as_before(picture: Frame) -> None:
    for height in range(1, 20):
        for width in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33):
            data = jpeg(picture[:height, :width])
            for reduction, flags in OPENCV.items():
                expected = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
                assert np.array_equal(images.decode(data, reduction=reduction), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", [*range(10), 258])
def test_a_jpeg_is_turned_as_opencv_turns_it(picture: Frame, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(picture[:, :200], exif=exif)
    assert np.array_equal(images.decode(data), cv2.imdecode(np.frombuffer(data, np.uint8), OPENCV[1]))


def test_a_damaged_exif_block_does_not_stop_a_picture(picture: Frame) -> None:
    for body in (
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff" + bytes(20),
        b"II*\0\x08\0\0\0\x01\0",
    ):
        data = jpeg(picture, exif=b"Exif\0\0" + body)
        assert np.array_equal(images.decode(data), cv2.imdecode(np.frombuffer(data, np.uint8), OPENCV[1]))


def test_a_jpeg_with_a_thousand_scans_is_refused_before_it_is_unpacked(picture: Frame) -> None:
    data = jpeg(picture, progressive=True)
    last = data[scans(data)[-1] : -2]
    with pytest.raises(ImageError, match=r"repeats a scan.* Save it again"):
        images.decode(data[:-2] + last * 1000 + END)


def test_a_png_of_tiny_chunks_is_refused_before_it_is_unpacked(picture: Frame) -> None:
    data = images.encode_png(picture)
    empty = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    with pytest.raises(ImageError, match="chunks"):
        images.decode(data[:33] + empty * 800_000 + data[33:])


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "HEIF"])
def test_pictures_of_phones_and_pages_are_read(picture: Frame, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener(thumbnails=False)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    found = images.decode(buffer.getvalue())
    assert found.shape == picture.shape
    assert np.abs(found.astype(int) - picture).mean() < 12
    assert images.decode(buffer.getvalue(), reduction=4).shape == (60, 80, 3)
    with pytest.raises(ImageError, match=r"part\.x"):
        images.decode(buffer.getvalue()[:-400], name="part.x")


def test_a_heic_picture_without_its_extra_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"part\.heic: HEIC .*gonogo\[heif\]"):
        images.decode(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100), name="part.heic")


@pytest.mark.slow
def test_inspect_finds_pictures_of_phones_and_says_fault_of_what_it_cannot_read(
    picture: Frame, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "tiny.inspector", make_parts(tmp_path / "parts", rng)).root
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(jpeg(picture))
    (photos / "b.HEIC").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100))
    (photos / "c.cr2").write_bytes(b"raw")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    result = CliRunner().invoke(app, ["inspect", str(bundle), str(photos)])
    assert isinstance(result.exception, InputError)
    assert "1 of 2 pictures could not be read" in str(result.exception)
    assert "b.HEIC" in result.output
    assert "gonogo[heif]" in result.output
    assert images.others(photos) == "1 file was skipped because it is not a supported picture: 1 .cr2."


def test_what_decoding_needs_counts_the_file_s_samples_and_the_frame(picture: Frame) -> None:
    deep = np.zeros((100, 100, 3), np.uint16)
    tiff = bytes(cv2.imencode(".tiff", deep)[1])
    assert images.read_header(tiff).decoded_bytes == 100 * 100 * (6 + 3)
    with pytest.raises(ImageError, match="decoding needs 90,000 bytes, more than the 80,000 allowed"):
        images.decode(tiff, limits=PictureLimits(max_decoded_bytes=80_000))
    assert images.read_header(jpeg(picture)).decoded_bytes == 320 * 240 * 3
    smooth = images.read_header(jpeg(picture, progressive=True, subsampling="4:2:0"))
    assert smooth.decoded_bytes == 320 * 240 * (3 + 3)


def test_a_station_is_given_a_fault_for_a_damaged_picture(picture: Frame, tmp_path: Path) -> None:
    (tmp_path / "A17.jpg").write_bytes(jpeg(picture)[:-60] + END)
    camera = FolderCamera(tmp_path, stable_s=0.0)
    with pytest.raises(CaptureError, match="truncated or damaged") as caught:
        camera.acquire("A17", timeout_s=1.0).unpacked(Recipe())
    assert caught.value.trouble is Trouble.UNREADABLE
    camera.settle("A17", stored=False)
    assert (tmp_path / "failed" / "A17.jpg").exists()


def test_an_inspector_says_fault_of_a_damaged_picture(picture: Frame, tmp_path: Path, rng: np.random.Generator) -> None:
    dataset = make_parts(tmp_path / "parts", rng)
    judge = Inspector.load(make_bundle(tmp_path / "tiny.inspector", dataset).root)
    verdict = judge.inspect_encoded(jpeg(picture)[:-60] + END, name="A17.jpg")
    assert (verdict.state, verdict.score) == (State.FAULT, None)
    assert verdict.reason.startswith("A17.jpg: the JPEG data are truncated or damaged")


def test_an_animation_without_a_clock_is_refused_like_any_damage() -> None:
    """Pillow divides by the time scale of an AVIF animation, and mutated pictures found one of 0."""
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:], speed=10)
    data = bytearray(buffer.getvalue())
    at = data.index(b"mdhd") + 4
    for field in (at + 12, at + 20):  # of 32 or 64 bits
        broken = data[:field] + bytes(4) + data[field + 4 :]
        with contextlib.suppress(ImageError):
            images.decode(bytes(broken))


def test_a_large_palette_picture_is_decoded_in_strips() -> None:
    rng = np.random.default_rng(4)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (700, 40), np.uint8)).convert("P").save(buffer, "GIF")
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    assert np.array_equal(images.decode(buffer.getvalue()), expected)


def test_a_png_whose_chunk_is_longer_than_the_file_is_refused_before_memory_is_taken(picture: Frame) -> None:
    data = images.encode_png(picture)
    claim = struct.pack(">I", 400_000_000) + b"teXt" + bytes(40)
    with pytest.raises(ImageError, match="a chunk is longer than the file"):
        images.decode(data[:-12] + claim + data[-12:])
