"""Every command of the program, its parameters, and a way to run it in this process as a user would."""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, get_args, get_origin

from gonogo.cli import app, main
from gonogo.cli.edge import program

Parameter = Any
"""Typer brings its own copy of Click, whose classes have no public name."""

LONGEST_S = 120
OUTPUTS = frozenset(("out", "report", "heatmaps", "sheet", "show_augmentations", "tradeoff", "pdf", "to", "folder"))
"""Parameters that name what a command writes; all other paths are read."""


class Hung(BaseException):
    """A command that did not end in time."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def commands(node: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, groups left out."""
    node = program(app) if node is None else node
    for name, each in node.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))
        else:
            yield (*path, name), each


def groups(node: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The program and its groups of commands."""
    node = program(app) if node is None else node
    yield path, node
    for name, each in node.commands.items():
        if hasattr(each, "commands"):
            yield from groups(each, (*path, name))


def kind(parameter: Parameter) -> type[object]:
    """What a value of a parameter becomes: ``Path``, ``int``, ``str``..."""
    annotation = parameter.type_descriptor.annotation
    inner = get_args(annotation)[0] if get_origin(annotation) is list else annotation
    assert isinstance(inner, type)
    return inner


def is_argument(parameter: Parameter) -> bool:
    return bool(parameter.param_type_name == "argument")


def arguments(command: Any, given: dict[str, Sequence[str]], usual: dict[str, str]) -> list[str]:
    """The words after the command: what is given, and something usual for whatever else is required."""
    words: list[str] = []
    behind: list[str] = []
    for parameter in command.params:
        values = given.get(parameter.name)
        if values is None and parameter.required:
            values = [usual.get(parameter.name, usual_value(kind(parameter)))]
        for value in values or ():
            if is_argument(parameter):
                behind.append(value)
            else:
                words.append(f"{parameter.opts[0]}={value}")
    return [*words, "--", *behind]


def usual_value(kind: type[object]) -> str:
    """A value that an option of this kind accepts."""
    if issubclass(kind, StrEnum):
        return str(next(iter(kind)))
    return "x" if kind is str else "1"


def run_here(words: Sequence[str], *, longest_s: float = LONGEST_S) -> Ended:
    """Run ``gonogo WORDS`` through the program's own entry."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hung(f"gonogo {' '.join(words)[:300]} did not end within {longest_s:g} s")

    before, argv = signal.signal(signal.SIGALRM, ring), sys.argv
    signal.setitimer(signal.ITIMER_REAL, longest_s)
    sys.argv = ["gonogo", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.argv = argv
    said = [each.buffer.getvalue().decode("utf-8", "replace") for each in (out, err)]  # type: ignore[attr-defined]
    assert code is None or isinstance(code, int), code
    return Ended(code=code or 0, out=said[0], err=said[1])


def hostile_paths(folder: Path) -> dict[str, str]:
    """Paths that no command can read from or write to, by what is wrong with them."""
    (folder / "file").write_text("a file\n")
    os.mkfifo(folder / "pipe")
    return {
        "5,000 characters": "x" * 5000,
        "5,000 characters in pieces": "/".join(["x" * 100] * 50),
        "below a file": str(folder / "file" / "below" / "deeper"),
        "a FIFO": str(folder / "pipe"),
        "a device": str(_device(folder)),
        "a link to itself": str(_loop(folder)),
        "not UTF-8": os.fsdecode(os.fsencode(folder) + b"/file/\xff\xfe"),
    }


def hostile_contents(folder: Path) -> dict[str, str]:
    """Files and folders that exist and hold what no command expects."""
    nested = "[" * 100_000 + "]" * 100_000
    files = {
        "nested.json": nested,
        "nested.toml": f"a = {nested}\n",
        "nested.xml": "<a>" * 100_000 + "</a>" * 100_000,
        "nested.csv": "appraiser,trial,part,decision,reference\n" + nested + "\n",
        "empty.csv": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "noise.png").write_bytes(bytes(range(256)) * 8)
    (folder / "empty").mkdir()
    data = folder / "nested_dataset"
    data.mkdir()
    (data / "metadata.jsonl").write_text(nested + "\n")
    piped = folder / "piped"
    piped.mkdir()
    for name in ("metadata.jsonl", "inspector.json", "SHA256SUMS", "photo.png"):
        os.mkfifo(piped / name)
    return {name: str(folder / name) for name in (*files, "noise.png", "empty", "nested_dataset", "piped")}


def _device(folder: Path) -> Path:
    """A device of the test's own: as the superuser, a command at fault could replace the real one."""
    device = folder / "zero"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        os.mkfifo(device)
    return device


def _loop(folder: Path) -> Path:
    loop = folder / "loop"
    loop.symlink_to(loop)
    return loop


def help_of(words: Sequence[str]) -> str:
    """What ``--help`` prints, on a screen wide enough that nothing wraps."""
    width = os.environ.get("COLUMNS"), os.environ.get("TERMINAL_WIDTH")
    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "1000"
    try:
        return run_here([*words, "--help"]).out
    finally:
        for name, value in zip(("COLUMNS", "TERMINAL_WIDTH"), width, strict=True):
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
