"""Every command against values that nothing can use: one line and an exit code, no traceback, no waiting."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gonogo
from gonogo import files
from gonogo.cli import edge, extras
from gonogo.cli.help_text import RENAMED
from gonogo.cli.schema import commands_with_schema
from gonogo.errors import InputError, UnfitError
from tests import command_kit as kit

COMMANDS = [pytest.param(words, command, id=" ".join(words)) for words, command in kit.commands()]
NUMBERS = (str(2**63), str(-(2**63) - 1), "9" * 400, "1e400", "nan", "-inf")
EXTRA_OF = {
    "train": "train",
    "bundle learn": "train",
    "bundle quantize": "train",
    "bundle distill": "finetune",
    "experiment": "finetune",
    "demo": "train",
    "serve": "server",
    "station": "line",
    "ledger": "line",
    **{f"ledger {name}": "scale" for name in ("prepare", "migrate", "forward", "chains")},
}


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Heavy packages are imported before any time limit: an import that is cut short breaks the process."""
    for name in ("anatomy", "certification", "evaluate", "replay", "report", "station.checking", "workflow"):
        importlib.import_module(f"gonogo.{name}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words: list[str], *, codes: tuple[int, ...] = (2,)) -> kit.Ended:
    ended = kit.run_here(words)
    shown = " ".join(words)[:200]
    assert "Traceback" not in ended.err, f"{shown}\n{ended.err}"
    assert ended.code in codes, f"{shown}\nexit code {ended.code}\n{ended.out[-300:]}\n{ended.err[-300:]}"
    assert ended.err.strip(), shown
    assert len(ended.err) < 3000, f"{shown}: a message of {len(ended.err)} characters"
    return ended


def usual(command: object, folder: Path) -> dict[str, str]:
    parameters = command.params  # type: ignore[attr-defined]
    return {each.name: str(folder / "nowhere" / each.name) for each in parameters if kit.kind(each) is Path}


@pytest.mark.storm
@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_path_of_every_command_refuses_what_is_no_file_and_no_folder(
    words: tuple[str, ...], command: object, place: Path
) -> None:
    hostile = kit.hostile_paths(place)
    before = {path: path.lstat().st_mode for path in place.iterdir()}
    for parameter in command.params:  # type: ignore[attr-defined]
        if kit.kind(parameter) is Path:
            for value in hostile.values():
                refused([*words, *kit.arguments(command, {parameter.name: [value]}, usual(command, place))])
    assert {path: path.lstat().st_mode for path in place.iterdir()} == before


@pytest.mark.storm
@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_number_of_every_command_refuses_what_no_computer_counts_with(
    words: tuple[str, ...], command: object, place: Path
) -> None:
    for parameter in command.params:  # type: ignore[attr-defined]
        if kit.kind(parameter) in (int, float):
            for value in NUMBERS:
                ended = refused([*words, *kit.arguments(command, {parameter.name: [value]}, usual(command, place))])
                assert parameter.opts[0] in ended.err, ended.err


@pytest.mark.storm
def test_every_seed_refuses_a_negative_number_and_every_worker_count_ends_somewhere(place: Path) -> None:
    for words, command in kit.commands():
        for parameter in command.params:
            wrong = {"seed": "-1", "workers": "1000000", "port": "65536"}.get(parameter.name)
            if wrong is not None:
                refused([*words, *kit.arguments(command, {parameter.name: [wrong]}, usual(command, place))])


@pytest.mark.storm
@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_file_that_is_read_may_hold_anything(words: tuple[str, ...], command: object, place: Path) -> None:
    contents = kit.hostile_contents(place)
    for parameter in command.params:  # type: ignore[attr-defined]
        if kit.kind(parameter) is not Path or parameter.name in kit.OUTPUTS:
            continue
        for name, value in contents.items():
            if words == ("serve",) and Path(value).is_dir():
                continue  # a folder is what it takes: it would serve
            given = [*words, *kit.arguments(command, {parameter.name: [value]}, usual(command, place))]
            ended = kit.run_here(given)
            assert ended.code in (1, 2), f"{words} {parameter.name} {name}: {ended}"
            assert "Traceback" not in ended.err, f"{words} {parameter.name} {name}: {ended.err}"


@pytest.mark.storm
def test_text_options_refuse_what_is_not_utf_8_and_what_is_endless(place: Path) -> None:
    for words, command in kit.commands():
        for parameter in command.params:
            if kit.kind(parameter) is str:
                for value in ("\udcff", "x" * 5000):
                    refused(
                        [*words, *kit.arguments(command, {parameter.name: [value]}, usual(command, place))],
                        codes=(1, 2),
                    )


def test_an_error_of_the_surroundings_is_one_line_and_a_fault_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ended(error: BaseException, *words: str) -> tuple[object, str]:
        def broken(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(edge, "program", lambda _: broken)
        monkeypatch.setattr(sys, "argv", ["gonogo", *words, "inspect"])
        with pytest.raises(SystemExit) as end:
            gonogo.cli.main()
        return end.value.code, capfd.readouterr().err

    full = OSError(28, "No space left on device", "out.inspector")
    assert ended(full) == (2, "gonogo: out.inspector: No space left on device. Add --debug for the traceback.\n")
    for error in (RecursionError(), OverflowError("too large"), MemoryError(), "\ud800".encode):
        if callable(error):
            with pytest.raises(UnicodeEncodeError) as raised:
                error()
            error = raised.value
        code, told = ended(error)
        assert (code, told.count("\n")) == (2, 1), told
    assert ended(UnfitError("no"))[0] == 1
    code, told = ended(full, "--debug")
    assert code == 2
    assert "Traceback" in told
    code, told = ended(KeyError("ours"))
    assert code == 70
    assert "Traceback" in told
    assert "KeyError" in told
    assert "report it" in told
    monkeypatch.setenv("GONOGO_DEBUG", "1")
    assert "Traceback" in ended(full)[1]


def test_a_device_or_a_pipe_is_never_replaced_by_what_is_written(tmp_path: Path) -> None:
    paths = kit.hostile_paths(tmp_path)
    for name in ("a FIFO", "a device"):
        path = Path(paths[name])
        before = path.stat().st_mode
        with pytest.raises(InputError, match="regular file"):
            files.write_beside(path, b"data")
        assert path.stat().st_mode == before
    with pytest.raises(InputError, match="below"):
        files.write_beside(Path(paths["below a file"]), b"data")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "pipe", "zero", "loop"}


def test_reading_refuses_pipes_and_too_many_bytes_without_waiting(tmp_path: Path) -> None:
    paths = kit.hostile_paths(tmp_path)
    for name in ("a FIFO", "a device"):
        with pytest.raises(OSError, match="regular file"):
            files.read_regular(Path(paths[name]), most_bytes=10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="11 bytes"):
        files.read_regular(tmp_path / "large", most_bytes=10)
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json("[" * 100_000)
    with pytest.raises(tomllib.TOMLDecodeError, match="nested too deeply"):
        files.parse_toml(f"a = {'[' * 100_000}")


_WITHOUT_EXTRAS = """
import contextlib, io, json, sys

blocked, runs = json.load(sys.stdin)

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from gonogo.cli import main
ends = []
for words in runs:
    sys.argv = ["gonogo", *words]
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        ends.append((end.code, err.getvalue()))
json.dump(ends, sys.stdout)
"""


def without_extras(runs: list[list[str]]) -> list[tuple[int, str]]:
    """Exit code and message of each command line in a process in which no extra is installed."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRAS],
        input=json.dumps((sorted(extras.MODULES), runs)),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(gonogo.__file__).parents[1]), "GONOGO_CHECK_ARRAYS": ""},
    )
    assert done.returncode == 0, done.stderr
    return [(code, told) for code, told in json.loads(done.stdout)]


@pytest.mark.slow
def test_on_the_base_install_every_command_works_or_names_its_extra_in_one_line(place: Path) -> None:
    computing = {
        ("dataset", "synth"),
        ("devices",),
        ("schema",),
        ("station", "example"),
        ("zones", "example"),
    }  # the base suffices
    chosen = [(words, command) for words, command in kit.commands() if words not in computing]
    runs = [[*words, *kit.arguments(command, {}, usual(command, place))] for words, command in chosen]
    for (words, _), (code, told) in zip(chosen, without_extras(runs), strict=True):
        assert code == 2, (words, told)
        extra = (
            None
            if words in (("station", "limits"), ("station", "msa"))
            else EXTRA_OF.get(" ".join(words), EXTRA_OF.get(words[0]))
        )
        assert (f"pip install 'gonogo[{extra}]'" in told) == (extra is not None), (words, told)
        assert len(told.splitlines()) == 1, (words, told)


@pytest.mark.slow
def test_on_the_base_install_schemas_of_its_commands_are_printed_and_others_name_their_extra() -> None:
    names = commands_with_schema()
    extra = ("fleet", "ledger", "serve-key", "station check", "station status", "workspace")
    for name, (code, told) in zip(names, without_extras([["schema", *name.split()] for name in names]), strict=True):
        needed = name.startswith(extra)
        assert (code, "pip install 'gonogo[" in told) == ((2, True) if needed else (0, False)), (name, told)


def third_party_imports() -> Iterator[tuple[str, str]]:
    root = Path(gonogo.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                yield name.partition(".")[0], str(path.relative_to(root))


@pytest.mark.slow
def test_every_import_is_of_the_base_install_or_has_its_extra_in_the_table() -> None:
    base = {"cv2", "jinja2", "markupsafe", "numpy", "openvino", "PIL", "pydantic", "rich", "scipy"}
    base |= {"portalocker", "simplejpeg", "tomli_w", "typer", "typing_extensions", "gonogo", *sys.stdlib_module_names}
    base |= {"keras", "onnxruntime", "tensorflow"}  # gonogo.imported uses them where they are installed
    unknown = {(name, where) for name, where in third_party_imports() if name not in base | set(extras.MODULES)}
    assert not unknown


@pytest.mark.parametrize("words", [words for words, _ in [*kit.groups(), *kit.commands()]], ids=" ".join)
def test_no_bracket_of_a_help_text_is_lost(words: tuple[str, ...]) -> None:
    node = dict([*kit.groups(), *kit.commands()])[words]
    shown = "".join(kit.help_of(words).split())
    texts = [node.help or "", *(each.help or "" for each in node.params if hasattr(each, "help"))]
    for text in texts:
        assert "".join(text.split()) in shown


def test_the_exit_codes_and_the_json_of_inspect_are_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    for code in edge.Exit:
        assert f"| {code.value} |" in text


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_command_says_its_new_name_and_the_new_one_exists(old: str, new: str) -> None:
    ended = kit.run_here([old, "x"])
    assert ended.code == 2
    assert f"'gonogo {new}'" in ended.err
    assert tuple(new.split()) in {path for path, _ in kit.commands()}
