"""node-opcua, a client that shares no code with the OPC UA server, where ``make check-opcua`` has installed it."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytest.importorskip("asyncua")

from protocols import opcua_node

needs_node_opcua = pytest.mark.skipif(
    not (opcua_node.ENVIRONMENT / "ready").is_file(), reason="needs node-opcua: make check-opcua installs it"
)


@pytest.mark.slow
@needs_node_opcua
def test_another_client_finds_the_model_and_runs_jobs(tmp_path: Path) -> None:
    found = opcua_node.look(tmp_path, None)
    assert (found["wrong"], found["checks"] > 80) == ([], True)


@pytest.mark.slow
@needs_node_opcua
def test_another_client_needs_certificate_name_and_password(tmp_path: Path) -> None:
    assert opcua_node.access(tmp_path)["wrong"] == []


def test_without_node_the_campaign_says_why_it_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "npm" in opcua_node.campaign(triggers=5, seed=1, folder=tmp_path)["skipped"]


def test_a_failed_installation_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcua_node, "ENVIRONMENT", tmp_path / "env")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    failed = CompletedProcess([], 1, "", "no network")
    monkeypatch.setattr("protocols.opcua_node.subprocess.run", lambda *_, **__: failed)
    assert "no network" in opcua_node.absent()
    assert not (tmp_path / "env" / "ready").exists()
