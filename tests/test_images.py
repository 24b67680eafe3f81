from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gonogo import images
from gonogo.config import PictureLimits, Reduction
from gonogo.errors import ImageError
from gonogo.images.regions import averaged
from gonogo.schema import Box, Frame


def encoded(frame: Frame, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_exactly(frame: Frame, kind: str) -> None:
    assert np.array_equal(images.decode(encoded(frame, kind)), frame)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_closely(frame: Frame, kind: str) -> None:
    decoded = images.decode(encoded(frame, kind, quality=95))
    assert decoded.shape == frame.shape
    assert np.abs(decoded.astype(int) - frame).mean() < 8


def test_sixteen_bits_keep_their_upper_byte(rng: np.random.Generator) -> None:
    deep = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    decoded = images.decode(buffer.getvalue())
    assert np.abs(decoded[..., 0].astype(int) - (deep >> 8)).max() <= 1
    assert np.array_equal(decoded[..., 0], decoded[..., 2])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_grey_palette_and_alpha_become_rgb(frame: Frame, mode: str) -> None:
    picture = Image.fromarray(frame).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(images.decode(buffer.getvalue()), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(frame: Frame, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(frame, "JPEG", exif=exif, quality=95)
    from PIL import ImageOps

    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded = images.decode(data)
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_truncated_picture_is_refused_by_name(frame: Frame, kind: str, share: float) -> None:
    data = encoded(frame, kind)
    with pytest.raises(ImageError, match=r"part-7\.jpg"):
        images.decode(data[: int(len(data) * share)], name="part-7.jpg")


def test_text_named_as_a_picture_is_refused_with_what_it_is() -> None:
    with pytest.raises(ImageError, match="text starting with 'not a picture"):
        images.decode(b"not a picture at all", name="a.jpg")


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ImageError, match="empty"):
        images.decode(b"", name="a.jpg")


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match="400000000 pixels"):
        images.decode(bomb(20_000, 20_000))
    with pytest.raises(ImageError, match="100,000,000 pixels, more than the 64,000,000 allowed"):
        images.decode(bomb(10_000, 10_000))


def test_limits_on_memory_and_file_size_hold(frame: Frame, tmp_path: Path) -> None:
    data = encoded(frame, "PNG")
    with pytest.raises(ImageError, match="decoding needs"):
        images.decode(data, limits=PictureLimits(max_decoded_bytes=1000))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="more than the 100 allowed"):
        images.load_picture(path, limits=PictureLimits(max_file_bytes=100))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        images.load_picture(tmp_path / "gone.png")


def test_cropping_to_the_same_size_copies_the_pixels(frame: Frame) -> None:
    assert np.array_equal(images.crop_resize(frame, Box(x1=10, y1=20, x2=90, y2=70), (80, 50)), frame[20:70, 10:90])


def test_a_box_is_rounded_outwards_and_clipped(frame: Frame) -> None:
    assert images.pixel_window(frame, Box(x1=-5.0, y1=2.3, x2=40.2, y2=500.0)) == (0, 2, 41, 120)


def test_a_box_outside_the_frame_is_refused(frame: Frame) -> None:
    with pytest.raises(ImageError, match="outside"):
        images.crop_resize(frame, Box(x1=500, y1=0, x2=600, y2=50), (10, 10))


def test_reduction_keeps_the_mean_and_the_place_of_things() -> None:
    big = np.zeros((480, 640, 3), np.uint8)
    big[240:360, 160:320] = 200
    small = images.crop_resize(big, Box.whole(big), (64, 48))
    assert abs(float(small.mean()) - float(big.mean())) < 1
    assert small[30, 24, 0] > 180
    assert small[12, 24, 0] < 20


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(images.encode_png(np.zeros((10, 12), np.uint8)))
    with pytest.raises(ImageError, match="12 x 10"):
        images.load_mask(path, shape_hw=(12, 12))


def test_a_folder_gives_its_pictures_in_order_without_hidden_ones(frame: Frame, tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", ".hidden.png", "notes.txt", "sub/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(frame, "PNG"))
    assert [path.name for path in images.find(tmp_path)] == ["a.PNG", "b.png", "c.jpg"]


@pytest.mark.parametrize(("kind", "off"), [(".jpg", 6.0), (".png", 0.0)])  # JPEG thins out the colours
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_picture_decoded_at_a_fraction_shows_the_same(
    frame: Frame, kind: str, off: float, reduction: Reduction
) -> None:
    picture = cv2.GaussianBlur(frame, (0, 0), 4)[:117, :155]
    data = bytes(cv2.imencode(kind, picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    found, full_size_wh = images.decode_sized(data, reduction=reduction)
    assert found.shape == (-(-117 // reduction), -(-155 // reduction), 3)
    assert np.abs(found.astype(int) - images.reduce(picture, reduction).astype(int)).mean() <= off
    assert full_size_wh == (155, 117)


def test_a_reduced_picture_that_stands_on_its_side_knows_its_full_size(frame: Frame) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(frame[:90]).save(buffer, "JPEG", exif=exif)
    found, full_size_wh = images.decode_sized(buffer.getvalue(), reduction=2)
    assert found.shape == (80, 45, 3)
    assert full_size_wh == (90, 160)


@pytest.mark.parametrize(("step_x", "step_y"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 2), (8, 8), (12, 4)])
def test_an_average_is_that_of_its_block(rng: np.random.Generator, step_x: int, step_y: int) -> None:
    picture = rng.integers(0, 256, (50, 75, 3), np.uint8)
    rows, columns = 50 // step_y, 75 // step_x
    blocks = picture[: rows * step_y, : columns * step_x].reshape(rows, step_y, columns, step_x, 3)
    found = averaged(picture, step_x, step_y)
    assert found.shape == (rows, columns, 3)
    assert np.abs(found - blocks.mean(axis=(1, 3))).max() <= 1.5
