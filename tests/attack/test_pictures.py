"""Mutated pictures and decoding bombs: nothing but a frame or a refusal, in bounded time and memory."""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from gonogo import images
from gonogo.errors import ImageError
from gonogo.images import confined
from gonogo.server.datasets.uploads import SkippedFile, unpacked

pytestmark = pytest.mark.attack

SIDE_WH = (160, 120)
HEADER = {"JPEG": 640, "PNG": 64, "BMP": 64, "TIFF": 16, "WEBP": 40}
"""Bytes at the start within which a mutation counts as one of the header."""
DAMAGES = ("cut", "cut and ended", "hole", "zeros", "noise", "bit")


def picture(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (24, 32, 3), np.uint8)
    return cv2.resize(coarse, SIDE_WH, interpolation=cv2.INTER_CUBIC)


def encoded(frame: np.ndarray, kind: str, rng: np.random.Generator) -> bytes:
    options: dict[str, object] = {}
    if kind == "JPEG":
        options = {"progressive": bool(rng.integers(2)), "subsampling": int(rng.integers(3)), "quality": 85}
    if kind == "TIFF":
        options = {"compression": ("raw", "tiff_lzw", "tiff_adobe_deflate")[int(rng.integers(3))]}
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def damaged(data: bytes, start: int, how: str, rng: np.random.Generator) -> bytes:
    """One damage somewhere from a byte on."""
    at = int(rng.integers(start, len(data) - 2))
    size = int(rng.integers(1, 400))
    if how == "cut":
        return data[:at]
    if how == "cut and ended":
        return data[:at] + data[-2:]
    if how == "hole":
        return data[:at] + data[at + size :]
    if how == "zeros":
        return data[:at] + bytes(min(size, len(data) - at)) + data[at + size :]
    if how == "noise":
        return data[:at] + rng.bytes(min(size, len(data) - at)) + data[at + size :]
    return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


def test_mutated_pictures_give_a_frame_or_a_refusal(
    attempts: Callable[[int], int], record: Callable[..., None]
) -> None:
    rng = np.random.default_rng(20)
    count, differ = attempts(6000), 0
    seen: Counter[str] = Counter()
    for number in range(count):
        kind = list(HEADER)[number % len(HEADER)]
        data = encoded(picture(rng), kind, rng)
        start = 2 if number % 2 else min(HEADER[kind], len(data) // 2)
        where = "header" if number % 2 else "body"
        how = DAMAGES[(number // 10) % len(DAMAGES)]
        mutant = damaged(data, start, how, rng)
        while mutant == data:
            mutant = damaged(data, start, how, rng)
        seen[f"{kind} {where}"] += 1
        try:
            frame = images.decode(mutant, name="mutant")
        except ImageError as error:
            seen["unnamed"] += "mutant" not in str(error)
            seen[f"{kind} {where} refused"] += 1
            if kind == "JPEG" and where == "body":
                seen[f"JPEG {how} refused"] += 1
        else:
            assert frame.dtype == np.uint8
            assert frame.ndim == 3
            if kind == "JPEG":
                expected = cv2.imdecode(np.frombuffer(mutant, np.uint8), cv2.IMREAD_COLOR_RGB)
                differ += not np.array_equal(frame, expected)
        if kind == "JPEG" and where == "body":
            seen[f"JPEG {how}"] += 1
    figures = {key.lower().replace(" ", "_"): number for key, number in sorted(seen.items())}
    record("mutated_pictures", tried=count, unexpected=0, pixels_differ=differ, **figures)
    assert not differ
    assert not seen["unnamed"]
    for how in ("cut", "cut and ended"):
        assert seen[f"JPEG {how} refused"] == seen[f"JPEG {how}"]


def test_every_jpeg_cut_anywhere_is_refused(attempts: Callable[[int], int], record: Callable[..., None]) -> None:
    rng = np.random.default_rng(21)
    count, passed = attempts(3000), 0
    for number in range(count):
        data = encoded(picture(rng), "JPEG", rng)
        at = int(rng.integers(700, len(data) - 8))
        try:
            images.decode(data[:at] + b"\xff\xd9", reduction=(1, 2, 4, 8)[number % 4])  # type: ignore[arg-type]
        except ImageError:
            continue
        passed += 1
    record("cut_jpegs", tried=count, judged=passed)
    assert not passed


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(side: int, depth: int, colour: int, interlaced: int, rows: bytes, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlaced)
    body = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + body + chunk(b"IEND", b"")


def adam7(side: int, pixel: int) -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return bytes(sum((-(-(side - x) // dx) * pixel + 1) * -(-(side - y) // dy) for x, y, dx, dy in passes))


def saved(side: int, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (20, 40, 60)).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def bombs(side: int) -> Iterator[tuple[str, bytes]]:
    """Small files that cost, or cost before, far more than their size says."""
    smooth = saved(side, "JPEG", progressive=True, subsampling=2)
    last = smooth[smooth.rindex(b"\xff\xda") : -2]
    yield "jpeg_500_scans", smooth[:-2] + last * 500 + b"\xff\xd9"
    yield "jpeg_32_scans", smooth[:-2] + last * (32 - smooth.count(b"\xff\xda")) + b"\xff\xd9"
    yield "jpeg_4_million_segments", b"\xff\xd8" + b"\xff\xe5\x00\x02" * 4_000_000 + smooth[2:]
    yield "png_800000_chunks", png(100, 8, 2, 0, bytes(100 * 301), chunk(b"teXt", b"") * 800_000)
    yield (
        "png_texts",
        png(100, 8, 2, 0, bytes(100 * 301), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 << 20))) * 50),
    )
    yield "png_interlaced", png(side, 8, 2, 1, adam7(side, 3))
    yield "png_16_bits_rgba", png(side, 16, 6, 0, bytes((side * 8 + 1) * side))
    yield "png_16_bits_interlaced", png(side * 3 // 4, 16, 6, 1, adam7(side * 3 // 4, 8))
    yield "png_60000", png(60_000, 8, 2, 0, bytes(1000))
    yield "tiff_16_bits", bytes(cv2.imencode(".tiff", np.zeros((side, side, 3), np.uint16))[1])
    yield "tiff_16_bits_grey", bytes(cv2.imencode(".tiff", np.zeros((side, side), np.uint16))[1])
    yield "tiff_deflate", saved(side, "TIFF", compression="tiff_adobe_deflate")
    yield "webp", saved(side, "WEBP", lossless=True)
    yield "gif", saved(side, "GIF")
    yield "avif", saved(side // 2, "AVIF", speed=10)


def test_decoding_bombs_cost_bounded_time_and_memory(
    attempts: Callable[[int], int], record: Callable[..., None]
) -> None:
    confined._pool.close()
    images.decode_confined(images.encode_png(np.zeros((9, 9, 3), np.uint8)))
    figures: dict[str, float | int | str] = {}
    longest = most = 0.0
    for name, data in bombs(8000 if attempts(20) == 20 else 3000):  # to make them takes most of the time
        (worker,) = confined._pool._idle
        process = psutil.Process(worker.process.pid)
        before, began = process.cpu_times(), time.monotonic()
        try:
            images.decode_confined(data, name=name)
            outcome = "read"
        except ImageError:
            outcome = "refused"
        assert worker in confined._pool._idle, f"{name} cost a process"
        after, memory = process.cpu_times(), high_water(process.pid)
        cpu_s = after.user + after.system - before.user - before.system
        longest, most = max(longest, cpu_s), max(most, memory)
        figures[name] = f"{outcome}, {len(data) / 1e6:.2f} MB, {cpu_s:.2f} s"
        assert cpu_s < confined.CPU_S
        assert time.monotonic() - began < confined.WALL_S
    record("decoding_bombs", tried=len(figures), longest_cpu_s=round(longest, 2), most_mb=round(most / 1e6), **figures)
    assert most < confined.MEMORY_BYTES + 300e6


def high_water(pid: int) -> float:
    """The most memory that a process held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_bombs_cost_bounded_time(method: int, record: Callable[..., None]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for number in range(2):
            archive.writestr(f"{number}.png", bytes(100_000_000))
    before = time.process_time()
    items = list(unpacked("bomb.zip", buffer))
    cpu_s = time.process_time() - before
    name = {zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}[method]
    record("archive_bombs", **{f"{name}_kb": round(len(buffer.getvalue()) / 1e3, 1), f"{name}_cpu_s": round(cpu_s, 3)})
    assert cpu_s < 2
    assert all(isinstance(item, SkippedFile) or len(item[1]) < 100 for item in items)
