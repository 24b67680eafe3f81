"""The documentation as tests: Python blocks run, shell blocks are checked against the program or run.

Every command of a fenced ``sh`` block is checked: a ``gonogo`` command must parse, and a ``make`` target, a script or
an extra must exist. A block that follows ``<!-- run -->`` is also executed. Each page has a folder of its own with:

- ``photos``: rendered close-ups of one chip in ``good/`` and ``bad/<kind>/``, masks beside the bad ones;
- ``new_photos``: three of them without labels, and ``photo.jpg``;
- ``parts``: the data set imported from ``photos``; ``parts.inspector``: an inspector trained on it. The README makes
  both itself and starts without them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
import typer
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from typer.main import get_command

ROOT = Path(__file__).resolve().parent
QUICK_SHARE = 10
"""A quick run of the storms takes one in this many of the commands, routes or values that one of them goes through."""
RUN = "<!-- run -->"
PARTS = 120
IMPORT = "gonogo dataset import photos --out parts --mask-suffix _mask.png --splits 30/10/40/20"
TRAIN = "gonogo train parts --out parts.inspector --size 96"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the examples of the documentation; with ``QUICK=1``, take the same few of each storm in every run."""
    for item in items:
        if item.path.suffix == ".md":
            item.add_marker("docs")
    if os.environ.get("QUICK", "") in ("", "0"):
        return
    left_out = [
        item
        for item in items
        if item.get_closest_marker("storm") and "[" in item.name and zlib.crc32(item.nodeid.encode()) % QUICK_SHARE
    ]
    config.hook.pytest_deselected(items=left_out)
    chosen = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in chosen]


class ShellBlockParser(CodeBlockParser):
    """Parses fenced blocks of shell commands."""

    language = "sh"

    def evaluate(self, example: Example) -> str | None:
        """Check every command of a block, and run the block where the page says so."""
        text = str(example.parsed)
        faults = [fault for words in commands(text) if (fault := fault_of(words))]
        if faults:
            return "\n".join(faults)
        if not example.document.text[: example.start].rstrip().endswith(RUN):
            return None
        return run_block(text, Path.cwd())


def commands(text: str) -> Iterator[list[str]]:
    """Split a block into the words of its commands, with the block's own variables replaced."""
    variables: dict[str, str] = {}
    end_of_heredoc = ""
    for raw in text.replace("\\\n", " ").splitlines():
        if end_of_heredoc:
            end_of_heredoc = "" if raw.strip() == end_of_heredoc else end_of_heredoc
            continue
        if heredoc := re.search(r"<<'(\w+)'", raw):
            end_of_heredoc = heredoc.group(1)
        line = re.sub(r"<<'\w+'", "", raw)
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line, comments=True)
        if len(words) == 1 and (assigned := re.fullmatch(r"([A-Z_]+)=(.*)", words[0], re.DOTALL)):
            variables[assigned.group(1)] = assigned.group(2)
            continue
        yield from _simple_commands(words)


def _simple_commands(words: list[str]) -> Iterator[list[str]]:
    """Split at pipes, redirections and ``&&``; drop variables set for one command."""
    command: list[str] = []
    for word in [*words, ";"]:
        if word in ("|", ">", ">>", "&&", ";", "&"):
            if command:
                yield command
            command = []
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):
            command.append(word)


def fault_of(words: list[str]) -> str | None:
    """Say what is wrong with a command; ``None`` where nothing is, or where it is not one of ours."""
    name, *rest = words
    if name == "gonogo":
        return _fault_of_gonogo(rest)
    if name == "make":
        return _fault_of_make(rest)
    if name == "python" and rest and rest[0].endswith(".py") and not (ROOT / rest[0]).is_file():
        return f"{rest[0]}: no such script"
    if words[:2] == ["pip", "install"]:
        return _fault_of_pip(rest)
    return None


def _fault_of_make(words: list[str]) -> str | None:
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    rules = [match.group(1) for line in lines if (match := re.match(r"(?:\.PHONY|MEASUREMENTS =)?:? ?([\w -]+)", line))]
    targets = {target for rule in rules for target in rule.split()}
    missing = [word for word in words if "=" not in word and word not in targets]
    return f"make: no target {missing}" if missing else None


def _fault_of_pip(words: list[str]) -> str | None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {extra for word in words for group in re.findall(r"\[([\w,]+)\]", word) for extra in group.split(",")}
    missing = sorted(named - set(extras))
    return f"pip: no extra {missing}" if missing else None


def _fault_of_gonogo(words: list[str]) -> str | None:
    """Parse a command line as the program does, without executing it."""
    from gonogo.cli import app
    from gonogo.config import settings
    from gonogo.errors import GonogoError

    command: Any = get_command(app)
    context = click.Context(command, info_name="gonogo")
    rest = words
    try:
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            name, *rest = rest
            if name not in command.commands:
                return f"gonogo {' '.join(words)}: no command {name!r}"
            command = command.commands[name]
            context = click.Context(command, info_name=name, parent=context)
        if not hasattr(command, "commands"):
            with mock.patch.dict(os.environ):  # --device and --require-signature set the settings of the process
                command.parse_args(context, rest)
    except (click.exceptions.Exit, typer.Exit):  # --help, --version and --example-config end the program
        return None
    except GonogoError:  # train --config reads its file while it parses, and the page may not have written it yet
        return None
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return f"gonogo {' '.join(words)}: {message()}"
    finally:
        settings.cache_clear()
    return None


def run_block(text: str, folder: Path) -> str | None:
    """Run a block in a shell; return its output if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return (
        None if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the photographs, the data set and the inspector, once for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "documentation"
    shared.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONOGO_CACHE_DIR", str(shared / "cache"))
        patch.setenv("GONOGO_KEY_FILE", str(shared / "cache.key"))
        with (shared / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / "made").is_dir():
                _prepare(shared / "being_made")
                (shared / "being_made").rename(shared / "made")
        yield shared / "made"


def _prepare(folder: Path) -> None:
    from gonogo.synthetic import write_close_ups

    write_close_ups(folder / "photos", PARTS)
    (folder / "new_photos").mkdir()
    pictures = [*sorted(folder.glob("photos/good/*.jpg"))[:2], next(folder.glob("photos/bad/crack/*.jpg"))]
    for file in pictures:
        shutil.copy(file, folder / "new_photos")
    shutil.copy(pictures[0], folder / "photo.jpg")
    fault = run_block(f"{IMPORT}\n{TRAIN}", folder)
    assert fault is None, fault


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each page whose examples have started."""
    return {}


@pytest.fixture
def in_folder_of_page(
    request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Run the examples of a page in its own folder; fill it only if the page executes something."""
    page = Path(request.node.path)
    with pytest.MonkeyPatch.context() as patch:
        if page.name not in folders:
            folders[page.name] = tmp_path_factory.mktemp(page.stem)
            text = page.read_text("utf-8")
            if RUN in text or "```python" in text:
                ignored = shutil.ignore_patterns("parts*") if page.name == "README.md" else None
                made = request.getfixturevalue("prepared")
                shutil.copytree(made, folders[page.name], dirs_exist_ok=True, ignore=ignored)
        patch.chdir(folders[page.name])
        yield


pytest_collect_file: Any = Sybil(
    parsers=[PythonCodeBlockParser(), ShellBlockParser()],
    patterns=["README.md", "docs/*.md"],
    fixtures=["in_folder_of_page"],
).pytest()
