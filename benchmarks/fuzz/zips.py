"""Hostile ZIP archives, as uploads bring them."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping

import numpy as np

from fuzz import seeds

Maker = Callable[[np.random.Generator], bytes]
_NAMES = (
    "../{}.png", "../../../../../../tmp/{}.png", "/tmp/{}.png", "..\\..\\{}.png", "C:\\{}.png",
    "\\\\host\\share\\{}.png", "good/../../{}.png", "./../{}.png", "//{}.png", "a/b/c/../../../../{}.png",
)  # fmt: skip
_ODD = (
    "CON.png", "nul.png", "a" * 9000 + ".png", "bad/\u202egnp.exe.png", "x\n=cmd.png", "=HYPERLINK(1).png", "-rf.png",
    "..png", "...", " .png", "good/", "bad/<img src=x>/a.png", "$(id).png", "a\\b\\c.png", "%2e%2e%2fa.png",
)  # fmt: skip


def zips() -> Mapping[str, Maker]:
    """Ways to make an archive, by what it tries."""
    return {
        "slip": _slip,
        "link": _link,
        "odd_names": _odd_names,
        "bomb": _bomb,
        "false_size": _false_size,
        "many_members": lambda rng: _many(int(rng.integers(25_000, 60_000))),
        "huge_directory": _huge_directory,
        "nested": lambda rng: _packed([("a.zip", _slip(rng)), ("b.png", _slip(rng))]),
        "other_methods": _other_methods,
        "damaged": _damaged,
    }  # fmt: skip


def _packed(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method, 1)
    return buffer.getvalue()


def _png(rng: np.random.Generator) -> bytes:
    return seeds.saved(seeds.picture(rng, size_wh=(32, 24)), "PNG")


def _slip(rng: np.random.Generator) -> bytes:
    names = [name.format(f"evil-{int(rng.integers(1 << 30))}") for name in rng.permutation(_NAMES)[:5]]
    return _packed([(str(name), _png(rng)) for name in names] + [("good/fine.png", _png(rng))])


def _link(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, target in (("a", "/etc"), ("a/passwd.png", "/etc/passwd"), ("b.png", "../../secret")):
            link = zipfile.ZipInfo(name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
        archive.writestr("a/x.png", _png(rng))
        device = zipfile.ZipInfo("c.png")
        device.external_attr = (stat.S_IFIFO | 0o777) << 16
        archive.writestr(device, _png(rng))
    return buffer.getvalue()


def _bomb(rng: np.random.Generator) -> bytes:
    return _packed([(f"{n}.png", b"\x89PNG" + bytes(30_000_000)) for n in range(int(rng.integers(1, 4)))])


def _odd_names(rng: np.random.Generator) -> bytes:
    return _packed([(str(name), _png(rng)) for name in rng.permutation(_ODD)[:8]])


def _false_size(rng: np.random.Generator) -> bytes:
    """The directory claims another size than the member has."""
    data = bytearray(_packed([("a.png", b"\x89PNG" + bytes(int(rng.integers(1, 20)) * 1_000_000))]))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", int(rng.integers(0, 2**32)))
    return bytes(data)


def _many(count: int) -> bytes:
    """Empty members that share one header."""
    data = _packed([("0.png", b"")], zipfile.ZIP_STORED)
    at, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    directory = data[at:end] * count
    return data[:at] + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), at, 0)


def _huge_directory(rng: np.random.Generator) -> bytes:
    """One entry of the directory, hundreds of thousands of times."""
    data = _packed([("a.png", _png(rng))])
    at, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    directory = data[at:end] * int(rng.integers(200_000, 400_000))
    return data[:at] + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(directory), at, 0)


def _other_methods(rng: np.random.Generator) -> bytes:
    method = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[int(rng.integers(2))]
    data = bytearray(_packed([("a.png", bytes(50_000_000))], method))
    if rng.random() < 0.5:  # marked as encrypted
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _damaged(rng: np.random.Generator) -> bytes:
    data = bytearray(_packed([(f"{number}.png", _png(rng)) for number in range(3)]))
    for _ in range(int(rng.integers(1, 12))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data[: int(rng.integers(len(data) // 2, len(data) + 1))])
