"""Where signatures are required, no unsigned bundle is deployed, shown as in use, asked by programs, or judges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fuzz.bundles import edit_bundles
from gonogo import bundle, images, signing
from gonogo.config import settings
from gonogo.server import Workspace
from gonogo.signing import SigningKey, Use
from gonogo.station import parse_settings
from gonogo.station.worker import build_station
from gonogo.testing import fake_frame, write_fake_bundle
from server_kit import SIGNATURE, Browser, give_key, make_app
from test_http_api import PNG, client_of
from test_products import report_of
from test_server_training import engineer as signed_in
from tests import command_kit as kit

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOOD = images.encode_png(fake_frame(1))


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningKey]:
    """A machine that requires signatures, and a key that it trusts."""
    key, public = signing.make_key_pair(tmp_path / "anna.key", "anna")
    signing.add_key(tmp_path / "trust.json", signing.read_public_key(public), (Use.BUNDLE,), now=NOW)
    monkeypatch.setenv("GONOGO_REQUIRE_SIGNATURE", "true")
    monkeypatch.setenv("GONOGO_TRUST_STORE", str(tmp_path / "trust.json"))
    settings.cache_clear()
    yield key
    monkeypatch.undo()
    settings.cache_clear()


def sign(root: Path, key: SigningKey) -> None:
    signing.sign_bundle(bundle.read_bundle(root), key, now=NOW)


def trust(browser: Browser, key_id: str) -> None:
    """Add a person's key to the machine's trust store, as its owner gave it away."""
    store = settings().trust_store
    public = store.with_name("person.pub")
    public.write_text(browser.get(f"/signing-key/{key_id}.pub").text)
    signing.add_key(store, signing.read_public_key(public), (Use.BUNDLE,), now=NOW)


def test_a_command_that_judges_can_require_a_signature(tmp_path: Path, strict: SigningKey) -> None:
    store = settings().trust_store
    write_fake_bundle(tmp_path / "red.inspector")
    (tmp_path / "good.png").write_bytes(GOOD)
    words = ["inspect", str(tmp_path / "red.inspector"), str(tmp_path / "good.png")]
    with pytest.MonkeyPatch.context() as relaxed:
        relaxed.setenv("GONOGO_REQUIRE_SIGNATURE", "false")
        settings.cache_clear()
        assert kit.run_here(words).code == 0
        ended = kit.run_here([*words, "--require-signature", "--trust-store", str(store)])
        assert ended.code == 2
        assert "expected a signed bundle, found no signature.json" in ended.err
        assert "gonogo bundle sign" in ended.err
        sign(tmp_path / "red.inspector", strict)
        assert kit.run_here([*words, "--require-signature", "--trust-store", str(store)]).code == 0
        assert kit.run_here([*words, "--require-signature", "--trust-store", str(tmp_path / "none.json")]).code == 2


def test_the_pages_and_programs_use_no_bundle_that_is_not_signed(tmp_path: Path, strict: SigningKey) -> None:
    space = Workspace.open(tmp_path / "space")
    root = space.bundles / "red.inspector"
    write_fake_bundle(root)
    space.activate(root.name)
    app = make_app(space.root)
    browser, program = signed_in(app), client_of(app)
    trust(browser, give_key(browser))
    with program:
        assert "expected a signed bundle" in browser.get("/").text
        assert app.state.components.inspectors.in_use() is None
        answer = program.post("/api/inspect", content=GOOD, headers=PNG)
        assert answer.status_code == 409
        assert "expected a signed bundle" in answer.text
        sign(root, strict)
        assert app.state.components.inspectors.in_use() is not None
        assert "expected a signed bundle" not in browser.get("/").text
        assert program.post("/api/inspect", content=GOOD, headers=PNG).status_code == 200
        (space.root / "active").unlink()
        assert browser.post("/deploy", inspector=root.name, **SIGNATURE).status_code == 303
        assert bundle.read_bundle(root).signature is not None
        signing.revoke_key(settings().trust_store, "anna", why="laptop stolen", now=NOW)
        assert app.state.components.inspectors.in_use() is not None, "a revocation does not stop what is in use"
        (space.root / "active").unlink()
        assert "revoked" in browser.post("/deploy", inspector=root.name, **SIGNATURE).text


def test_a_workspace_is_as_strict_as_its_station(tmp_path: Path) -> None:
    assert not Workspace.open(tmp_path / "plain").signatures.required
    (tmp_path / "station.toml").write_text(station_toml("require_signature = true"))
    space = Workspace.open(tmp_path)
    assert space.signatures.required
    assert space.signatures.trust_store == tmp_path / "trust.json"


def station_toml(more: str, *, bundles: str = 'bundle = "red.inspector"') -> str:
    return f"""
station = "s1"
{bundles if bundles.startswith("bundle") else ""}
{more}
trust_store = "trust.json"
ledger = "s1.ledger"
state_dir = "state"
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
{"" if bundles.startswith("bundle") else bundles}
"""


def test_no_changeover_to_a_product_whose_bundle_is_not_signed(tmp_path: Path, strict: SigningKey) -> None:
    for name in ("chip", "pill"):
        write_fake_bundle(tmp_path / name, name=name)
    sign(tmp_path / "chip", strict)
    text = station_toml("require_signature = true", bundles='[products]\nchip = "chip"\npill = "pill"')
    station = build_station(parse_settings(text, folder=tmp_path))
    refused = {swap.refused for swap in station.changeover.start(within_s=60)}
    assert {found.product for found in report_of(station).bundles if found.name} == {"chip"}
    assert any("expected a signed bundle" in each for each in refused)


@pytest.mark.slow
def test_one_bit_changed_and_sealed_again_is_refused_and_the_good_bundle_stays() -> None:
    found = edit_bundles(28, seed=1)
    assert found["refused"] == found["edits"] == 28
    assert found["sealed_again_and_whole"] > 0, "only the signature shows the change"
    assert found["other_bundle_judged"] == 0
