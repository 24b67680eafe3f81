"""What a start of the program imports and builds: no more than the first verdict needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gonogo.cli import app, edge
from gonogo.config import Settings, settings
from gonogo.errors import InputError
from gonogo.images import encode_png
from gonogo.testing import fake_frame, write_fake_bundle

LAB = {"torch", "sklearn", "nncf", "matplotlib", "scipy", "rich", "portalocker", "pydantic_settings"}
"""Neither judging nor its command line needs them; scipy alone takes as long to import as all that they do."""
INSPECT = """
import json, sys
from gonogo.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
json.dump(sorted(sys.modules), sys.stderr)
"""


@pytest.mark.slow
def test_the_first_verdict_imports_neither_the_lab_nor_what_only_other_commands_need(tmp_path: Path) -> None:
    bundle = write_fake_bundle(tmp_path / "red.inspector")
    (tmp_path / "part.png").write_bytes(encode_png(fake_frame(1)))
    done = subprocess.run(
        [sys.executable, "-c", INSPECT, "inspect", str(bundle.root), str(tmp_path / "part.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("go ")
    imported = {name.partition(".")[0] for name in json.loads(done.stderr)}
    assert imported & LAB == set()
    assert "openvino.tools.ovc" not in json.loads(done.stderr)


def test_only_the_command_that_is_asked_for_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*words: str) -> set[str]:
        monkeypatch.setattr(sys, "argv", ["gonogo", *words])
        return set(edge.program(edge._asked_for(app)).commands)

    everything = built()
    assert {"inspect", "train", "bundle", "station"} <= everything
    assert built("inspect", "a", "b") == {"inspect"}
    assert built("bundle", "show") == {"bundle"}
    for words in (("--help",), ("--debug", "inspect"), ("--help", "inspect"), ("inspekt",), ("graph",), ("",)):
        assert built(*words) == everything, words


@pytest.mark.slow
def test_every_command_is_the_same_alone_as_in_the_whole_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in edge.program(app).commands:
        monkeypatch.setattr(sys, "argv", ["gonogo", word])
        alone = edge._asked_for(app)
        assert CliRunner().invoke(alone, [word, "--help"]).output == CliRunner().invoke(app, [word, "--help"]).output


def test_settings_that_are_not_given_come_from_the_environment_in_any_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GONOGO_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("gonogo_require_signature", "true")
    found = Settings(threads=1)
    assert (found.threads, found.cache_dir, found.require_signature) == (1, tmp_path, True)
    assert found.on_cpu().cache_dir == tmp_path
    monkeypatch.setenv("GONOGO_THREADS", "two")
    settings.cache_clear()
    try:
        with pytest.raises(InputError, match=r"GONOGO_THREADS.*found 'two'"):
            settings()
    finally:
        settings.cache_clear()
