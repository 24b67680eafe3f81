"""Hostile label files and folders, as an import brings them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import seeds

Maker = Callable[[Path, np.random.Generator], Path | None]
"""Writes hostile files into a folder of pictures; returns the label file, if it is named to the import."""
_URLS = ("http://127.0.0.1:9/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.1/share/x", "php://filter")
_PATHS = ("../../../../etc/passwd", "/etc/passwd", "..\\..\\secret.png", "../secret.png", "a.png/../../secret.png")


def folders() -> Mapping[str, Maker]:
    """Ways to attack an import, by what they try."""
    return {
        "xml_entity": _xml_entity,
        "xml_growth": _xml_growth,
        "xml_include": _xml_include,
        "xml_depth": lambda root, rng: _put(root / "l.xml", "<annotations>" + _often(rng, "<a>")),
        "json_depth": lambda root, rng: _put(root / "l.json", _often(rng, "[")),
        "paths": _paths,
        "addresses": _addresses,
        "sizes": _sizes,
        "numbers": _numbers,
        "links": _links,
    }  # fmt: skip


def _often(rng: np.random.Generator, text: str) -> str:
    return text * int(rng.integers(2_000, 200_000))


def _put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _any(rng: np.random.Generator, of: tuple[str, ...]) -> str:
    return of[int(rng.integers(len(of)))]


def _tool(rng: np.random.Generator, inner: str, *, head: str = "") -> str:
    """A file of CVAT or of Pascal VOC with something in it."""
    if rng.random() < 0.5:
        return f'{head}<annotations><image name="a.png" width="32" height="24">{inner}</image></annotations>'
    return f"{head}<annotation><filename>a.png</filename>{inner}</annotation>"


def _xml_entity(root: Path, rng: np.random.Generator) -> Path | None:
    kind = _any(rng, ("<!ENTITY x SYSTEM '{}'>", "<!ENTITY % x SYSTEM '{}'> %x;", "<!ENTITY x PUBLIC 'p' '{}'>"))
    head = f"<!DOCTYPE a [{kind.format(_any(rng, _URLS))}]>"
    text = _tool(rng, "<tag label='&x;'/><name>&x;</name>", head=head)
    if rng.random() < 0.3:  # beside its picture, where it is found by itself
        _put(root / "a.xml", text)
        return None
    encoding = _any(rng, ("utf-8", "utf-16"))
    return _put(root / "l.xml", text.encode(encoding))


def _xml_growth(root: Path, rng: np.random.Generator) -> Path:
    depth = int(rng.integers(8, 30))
    entities = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'x' * 10}'>" for n in range(depth))
    return _put(root / "l.xml", _tool(rng, f"<tag label='&e{depth - 1};'/>", head=f"<!DOCTYPE a [{entities}]>"))


def _xml_include(root: Path, rng: np.random.Generator) -> Path:
    include = f'<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{_any(rng, _URLS)}" parse="text"/>'
    head = f'<?xml-stylesheet href="{_any(rng, _URLS)}"?>'
    return _put(root / "l.xml", _tool(rng, include, head=head))


def _paths(root: Path, rng: np.random.Generator) -> Path:
    name = _any(rng, _PATHS)
    way = int(rng.integers(4))
    if way == 0:
        return _put(root / "l.json", json.dumps(_coco(name, [0, 0, 5, 5])))
    if way == 1:
        items = [{"id": name, "image": {"path": name}, "annotations": []}]
        return _put(root / "l.json", json.dumps({"categories": {}, "items": items}))
    if way == 2:
        record = {"file_name": name, "mask_file_name": _any(rng, _PATHS), "label": "bad", "split": "train"}
        _put(root / "metadata.jsonl", json.dumps(record) + "\n")
        return root / "metadata.jsonl"
    return _put(root / "l.xml", f'<annotations><image name="{name}" width="9" height="9"/></annotations>')


def _coco(name: str, box: list[Any], code: Any = None) -> dict[str, Any]:
    shape = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": code or []}
    return {
        "images": [{"id": 1, "file_name": name, "coco_url": _URLS[0], "width": 32, "height": 24}],
        "annotations": [shape],
        "categories": [{"id": 1, "name": "x"}],
    }


def _addresses(root: Path, rng: np.random.Generator) -> Path:
    address = _any(rng, (*_URLS, "/data/local-files/?d=" + _any(rng, _PATHS), "s3://bucket/a.png"))
    if rng.random() < 0.5:
        return _put(root / "l.json", json.dumps([{"data": {"image": address}, "annotations": []}]))
    _put(root / "labelled" / "data.yaml", f"path: {address}\ntrain: {address}\nnames: [x]\ndownload: {_URLS[0]}\n")
    _put(root / "labelled" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    return root / "labelled"


def _sizes(root: Path, rng: np.random.Generator) -> Path:
    huge = int(rng.integers(10**5, 10**9))
    if rng.random() < 0.5:
        mask = f'<mask label="x" rle="{huge}" left="0" top="0" width="{huge}" height="{huge}"/>'
        return _put(root / "l.xml", f'<annotations><image name="a.png" width="{huge}">{mask}</image></annotations>')
    return _put(root / "l.json", json.dumps(_coco("a.png", [0, 0, huge, huge], {"size": [huge, huge], "counts": "0"})))


def _numbers(root: Path, rng: np.random.Generator) -> Path:
    number: Any = (float("nan"), float("inf"), -1e308, 10**400, "1e9999", None, [[]])[int(rng.integers(7))]
    if rng.random() < 0.5:
        return _put(root / "l.json", json.dumps(_coco("a.png", [number, 0, 9, number])))
    return _put(root / "l.xml", _tool(rng, f'<box label="x" xtl="{number}" ytl="0" xbr="9" ybr="{number}"/>'))


def _links(root: Path, rng: np.random.Generator) -> None:
    """Links and pipes with the names of pictures and of their label files."""
    for name in ("b.png", "b.xml", "metadata.jsonl", "c"):
        target = _any(rng, ("/etc/passwd", "/dev/zero", "/etc", "../../secret.png", "b.png", "/proc/self/mem"))
        if rng.random() < 0.8 and not (root / name).exists():
            (root / name).symlink_to(target)
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.png")


def write_pictures(root: Path, rng: np.random.Generator) -> None:
    """The pictures that every hostile folder has."""
    root.mkdir(parents=True)
    for name in ("a.png", "z.png"):
        (root / name).write_bytes(seeds.saved(seeds.picture(rng, size_wh=(32, 24)), "PNG"))
