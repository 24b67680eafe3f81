"""Signed bundles: what is signed, whom a machine trusts, and what a station does with anything else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from gonogo import Inspector, bundle, signing
from gonogo.cli import extras
from gonogo.config import Settings
from gonogo.errors import BundleError, InputError, SignatureError
from gonogo.ledger import Ledger, Where
from gonogo.signing import NOT_REQUIRED, SignaturePolicy, SigningKey, Use
from gonogo.signing.signatures import BundleStatement
from gonogo.station import ModelSlot, parse_settings
from gonogo.station.models import load_model
from gonogo.station.worker import build_station
from gonogo.testing import write_fake_bundle
from tests import command_kit as kit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class House:
    """A trust store with one person in it, and her key."""

    store: Path
    anna: SigningKey
    folder: Path

    @property
    def policy(self) -> SignaturePolicy:
        return SignaturePolicy(required=True, trust_store=self.store)

    def key(self, name: str, *uses: Use) -> SigningKey:
        """A new key, trusted for some uses or not at all."""
        made, public = signing.make_key_pair(self.folder / f"{name}.key", name)
        if uses:
            signing.add_key(self.store, signing.read_public_key(public), uses, now=NOW)
        return made

    def revoke(self, name: str = "anna") -> None:
        signing.revoke_key(self.store, name, why="laptop stolen", now=NOW)


@pytest.fixture
def house(tmp_path: Path) -> House:
    made, public = signing.make_key_pair(tmp_path / "anna.key", "anna")
    signing.add_key(tmp_path / "trust.json", signing.read_public_key(public), (Use.BUNDLE,), now=NOW)
    return House(store=tmp_path / "trust.json", anna=made, folder=tmp_path)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("originals")
    for name in ("one", "two"):
        write_fake_bundle(root / name, name=name)
    return root / "one", root / "two"


@pytest.fixture
def plain(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[0], tmp_path / "one.inspector"))


@pytest.fixture
def signed(plain: Path, house: House) -> Path:
    signing.sign_bundle(bundle.read_bundle(plain), house.anna, now=NOW)
    return plain


def test_signing_changes_neither_the_files_nor_the_identity(plain: Path, house: House) -> None:
    before = bundle.read_bundle(plain)
    signing.sign_bundle(before, house.anna, now=NOW)
    after = bundle.read_bundle(plain)
    assert (after.sha256, after.digests) == (before.sha256, before.digests)
    found = Inspector.load(plain, policy=house.policy).signature
    assert found is not None
    assert (found.signer, found.key_id, found.signed, found.revoked) == ("anna", house.anna.key_id, NOW, False)
    assert (house.folder / "anna.key").stat().st_mode & 0o777 == 0o600


def deleted(root: Path) -> None:
    (root / bundle.SIGNATURE).unlink()


def sealed_anew(root: Path) -> None:
    manifest = bundle.read_bundle(root).manifest
    kept = (root / bundle.SIGNATURE).read_bytes()
    bundle.write_manifest(root, manifest.model_copy(update={"score_tolerance": 9.0}))
    (root / bundle.SIGNATURE).write_bytes(kept)


def one_digit(root: Path) -> None:
    envelope = json.loads((root / bundle.SIGNATURE).read_bytes())
    digit = envelope["signature"][0]
    envelope["signature"] = ("0" if digit != "0" else "1") + envelope["signature"][1:]
    (root / bundle.SIGNATURE).write_text(json.dumps(envelope))


def other_time(root: Path) -> None:
    text = (root / bundle.SIGNATURE).read_text()
    (root / bundle.SIGNATURE).write_text(text.replace("2026-03-01", "2025-03-01"))


def no_json(root: Path) -> None:
    (root / bundle.SIGNATURE).write_bytes(b"\xff")


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (deleted, "expected a signed bundle"),
        (sealed_anew, "changed after it was signed"),
        (one_digit, "changed after signing"),
        (other_time, "changed after signing"),
        (no_json, "not a signature"),
    ],
)
def test_a_changed_bundle_or_signature_is_refused(
    attack: Callable[[Path], None], reason: str, signed: Path, house: House
) -> None:
    attack(signed)
    with pytest.raises(SignatureError, match=reason):
        Inspector.load(signed, policy=house.policy)
    assert Inspector.load(signed, policy=NOT_REQUIRED).signature is None


def test_odd_signature_files_are_refused_as_part_of_the_bundle(signed: Path, house: House) -> None:
    (signed / bundle.SIGNATURE).write_bytes(b" " * 200_000)
    with pytest.raises(BundleError, match="200,000 bytes"):
        Inspector.load(signed, policy=house.policy)
    (signed / bundle.SIGNATURE).unlink()
    os.mkfifo(signed / bundle.SIGNATURE)
    with pytest.raises(BundleError, match="FIFO"):
        Inspector.load(signed, policy=house.policy)


def test_a_signature_of_another_bundle_does_not_count(
    signed: Path, originals: tuple[Path, Path], tmp_path: Path, house: House
) -> None:
    other = Path(shutil.copytree(originals[1], tmp_path / "two.inspector"))
    shutil.copy(signed / bundle.SIGNATURE, other / bundle.SIGNATURE)
    with pytest.raises(SignatureError, match=r"signs bundle \w+ \(one\).*another bundle's"):
        Inspector.load(other, policy=house.policy)


def test_keys_that_are_unknown_revoked_or_for_something_else_are_refused(plain: Path, house: House) -> None:
    stranger, releaser = house.key("stranger"), house.key("robot", Use.RELEASE)
    for key, reason in ((stranger, "does not know"), (releaser, "may sign only release, not bundle")):
        signing.sign_bundle(bundle.read_bundle(plain), key, now=NOW)
        with pytest.raises(SignatureError, match=reason):
            Inspector.load(plain, policy=house.policy)
    signing.sign_bundle(bundle.read_bundle(plain), house.anna, now=NOW)
    house.revoke()
    with pytest.raises(SignatureError, match="revoked on 2026-03-01: laptop stolen"):
        Inspector.load(plain, policy=house.policy)


def test_a_revoked_key_is_accepted_only_where_it_is_said_and_then_told_of(signed: Path, house: House) -> None:
    signing.revoke_key(house.store, "anna", why="", now=NOW)
    found = signing.verify_bundle(bundle.read_bundle(signed), replace(house.policy, accept_revoked=True))
    assert found is not None
    assert (found.signer, found.revoked) == ("anna", True)
    data, store = (signed / bundle.SIGNATURE).read_bytes(), signing.read_trust_store(house.store)
    with pytest.raises(SignatureError, match=r"revoked on 2026-03-01\. Use another key"):
        signing.open_envelope(data, BundleStatement, store, Use.BUNDLE, name="signature.json")


def test_a_revoked_key_stays_revoked_and_names_are_told_apart(house: House) -> None:
    public = signing.read_public_key(house.folder / "anna.key.pub")
    with pytest.raises(InputError, match="already trusted"):
        signing.add_key(house.store, public, (Use.BUNDLE,), now=NOW)
    house.revoke()
    with pytest.raises(InputError, match="already revoked"):
        signing.add_key(house.store, public, (Use.BUNDLE,), now=NOW)
    (house.folder / "anna.key").unlink()
    (house.folder / "anna.key.pub").unlink()
    second = house.key("anna", Use.BUNDLE)
    assert [each.revoked is None for each in signing.read_trust_store(house.store).keys] == [False, True]
    with pytest.raises(InputError, match=rf"expected one of the trusted keys, {second.key_id} \(anna\); found"):
        signing.revoke_key(house.store, house.anna.key_id, why="", now=NOW)
    assert signing.revoke_key(house.store, second.key_id, why="", now=NOW).name == "anna"
    with pytest.raises(InputError, match="expected one of the trusted keys, none; found"):
        house.revoke()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "found no such file"),
        ("{}", "found none"),
        ('{"format":1,"keys":[]}', "found none"),
        ("no json", r"\(the file: Invalid JSON"),
        ('{"format":2}', r"\(format: "),
    ],
)
def test_without_a_usable_trust_store_nothing_is_trusted(
    content: str | None, reason: str, signed: Path, house: House
) -> None:
    house.store.unlink()
    if content is not None:
        house.store.write_text(content)
    with pytest.raises(SignatureError, match=rf"trust\.json: .*{reason}"):
        Inspector.load(signed, policy=house.policy)


def test_revoking_in_a_trust_store_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="found no such file"):
        signing.revoke_key(tmp_path / "absent" / "trust.json", "anna", why="", now=NOW)
    assert not (tmp_path / "absent").exists()


def test_a_private_key_that_others_may_read_is_not_used(house: House) -> None:
    path = house.folder / "anna.key"
    path.chmod(0o640)
    with pytest.raises(InputError, match="mode 0600"):
        signing.open_signing_key(path)
    hidden, _ = signing.make_key_pair(house.folder / "hidden.key", "hidden", passphrase="correct horse")
    with pytest.raises(InputError, match="GONOGO_KEY_PASSPHRASE"):
        signing.open_signing_key(house.folder / "hidden.key")
    with pytest.raises(InputError, match="another passphrase"):
        signing.open_signing_key(house.folder / "hidden.key", passphrase="wrong")
    assert signing.open_signing_key(house.folder / "hidden.key", passphrase="correct horse").public == hidden.public


def test_a_new_operating_point_removes_the_signature(signed: Path) -> None:
    before = bundle.read_bundle(signed)
    assert before.manifest.operating_point is not None
    after = bundle.replace_operating_point(before, before.manifest.operating_point, now=NOW.isoformat())
    assert after.signature is None
    assert "was removed" in signing.without_signature(before, after)
    assert not (signed / bundle.SIGNATURE).exists()


def test_the_machine_can_require_signatures_for_every_load(signed: Path, house: House) -> None:
    machine = Settings(require_signature=True, trust_store=house.store)
    assert Inspector.load(signed, machine=machine).signature is not None
    (signed / bundle.SIGNATURE).unlink()
    with pytest.raises(SignatureError):
        Inspector.load(signed, machine=machine)


# --- the station


def slot_of(source: Path, folder: Path, house: House) -> ModelSlot:
    return ModelSlot(
        source,
        folder / "copies",
        loader=partial(load_model, policy=house.policy),
        fallback=partial(load_model, policy=replace(house.policy, accept_revoked=True)),
        trust_store=house.store,
    )


def settled(slot: ModelSlot) -> None:
    while slot.unsettled:
        slot.poll()


def test_deleting_or_swapping_the_signature_never_changes_what_judges(
    signed: Path, originals: tuple[Path, Path], house: House, tmp_path: Path
) -> None:
    slot = slot_of(signed, tmp_path, house)
    swap = slot.start()
    assert swap.signature is not None
    assert (swap.signature.signer, swap.refused) == ("anna", "")
    good = swap.after
    shutil.rmtree(signed)
    shutil.copytree(originals[1], signed)
    settled(slot)
    assert "expected a signed bundle" in slot.trouble
    assert slot.model is not None
    assert slot.model.sha256 == good
    again = slot_of(signed, tmp_path, house)  # a restart
    assert again.start().after == good
    assert "expected a signed bundle" in again.trouble


def test_a_key_revoked_in_use_leaves_its_bundle_judging_with_an_alarm_and_brings_in_no_other(
    signed: Path, originals: tuple[Path, Path], house: House, tmp_path: Path
) -> None:
    slot = slot_of(signed, tmp_path, house)
    good = slot.start().after
    house.revoke()
    settled(slot)
    assert slot.model is not None
    assert slot.model.sha256 == good
    assert "revoked" in slot.trouble
    again = slot_of(signed, tmp_path, house)  # a restart
    swap = again.start()
    assert (swap.after, swap.signature is not None and swap.signature.revoked) == (good, True)
    assert "revoked" in again.trouble
    fresh = slot_of(signed, tmp_path / "other", house)  # a station that never used it
    assert fresh.start().after is None
    shutil.rmtree(signed)
    shutil.copytree(originals[1], signed)
    house.key("berta", Use.BUNDLE)
    berta = signing.open_signing_key(house.folder / "berta.key")
    signing.sign_bundle(bundle.read_bundle(signed), berta, now=NOW)
    settled(again)
    assert again.trouble == ""
    assert again.model is not None
    assert again.model.sha256 != good


def test_a_trust_store_that_disappears_is_an_alarm_and_the_bundle_judges_on(
    signed: Path, house: House, tmp_path: Path
) -> None:
    slot = slot_of(signed, tmp_path, house)
    slot.start()
    kept = house.store.read_bytes()
    house.store.unlink()
    settled(slot)
    assert slot.model is not None
    assert "expected the keys that this machine trusts, found no such file" in slot.trouble
    house.store.write_bytes(kept)
    settled(slot)
    assert slot.trouble == ""


def test_a_station_records_who_signed_the_bundle_that_it_uses(signed: Path, house: House, tmp_path: Path) -> None:
    text = f"""
station = "s1"
bundle = "{signed}"
require_signature = true
trust_store = "trust.json"
ledger = "s1.ledger"
state_dir = "state"
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
"""
    settings = parse_settings(text, folder=tmp_path)
    station = build_station(settings)
    station.start()
    station.close()
    with Ledger.open(settings.ledger, create=False) as ledger:
        (row,) = ledger.actions(Where(action="started"))
    details = row.record.details
    assert (details["signed_by"], details["key_id"]) == ("anna", house.anna.key_id)
    assert str(details["signed"]).startswith("2026-03-01T12:00")


# --- the command line


def test_the_commands_make_trust_sign_and_revoke(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GONOGO_KEY_PASSPHRASE", "correct horse")
    key, store = str(tmp_path / "anna.key"), str(tmp_path / "trust.json")

    def ran(*words: str) -> str:
        ended = kit.run_here(["bundle", *words])
        assert ended.code == 0, ended.err
        return ended.out

    ran("keys", "make", "anna", "--out", key)
    ran("keys", "add", f"{key}.pub", "--store", store)
    made = json.loads(ran("sign", str(plain), "--key", key, "--json"))
    assert made["bundle_sha256"] == bundle.read_bundle(plain).sha256
    policy = SignaturePolicy(required=True, trust_store=Path(store))
    assert Inspector.load(plain, policy=policy).signature is not None
    assert made["key_id"] in ran("keys", "list", "--store", store)
    ran("keys", "revoke", "anna", "--why", "left", "--store", store)
    assert "revoked" in ran("keys", "list", "--store", store)
    monkeypatch.delenv("GONOGO_KEY_PASSPHRASE")
    ended = kit.run_here(["bundle", "sign", str(plain), "--key", key])
    assert (ended.code, "passphrase" in ended.err) == (2, True)
    assert kit.run_here(["bundle", "keys", "make", "x", "--out", str(tmp_path / "x")]).code == 2
    assert extras.extra_of("cryptography", "bundle") == "line"


# --- the bundle that is signed


def test_what_was_changed_after_opening_is_not_used(plain: Path) -> None:
    opened = bundle.read_bundle(plain)
    structure, weights = (plain / "classifier.xml").read_bytes(), (plain / "classifier.bin").read_bytes()
    assert opened.graph("classifier.xml") == (structure, weights)
    ((file, _, score),) = opened.golden()
    assert (file, score) == ("golden/good.png", opened.manifest.golden[0].score)
    (plain / "classifier.bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(BundleError, match="was changed while the bundle was being opened"):
        opened.graph("classifier.xml")
    (plain / "classifier.bin").unlink()
    with pytest.raises(BundleError, match=r"classifier\.bin: cannot be read"):
        opened.data("classifier.bin")
    with pytest.raises(BundleError, match=r"other\.xml is missing"):
        opened.data("other.xml")


def test_a_seal_longer_than_any_is_not_read(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    length = (plain / bundle.SEAL).stat().st_size
    monkeypatch.setattr(bundle, "_LONGEST_SEAL", length)
    assert bundle.read_bundle(plain).sha256
    monkeypatch.setattr(bundle, "_LONGEST_SEAL", length - 1)
    with pytest.raises(BundleError, match="expected at most 8 GB"):
        bundle.read_bundle(plain)
    monkeypatch.setattr(bundle, "_LONGEST_SEAL", length)
    whole = sum(path.stat().st_size for path in plain.rglob("*") if path.is_file())
    monkeypatch.setattr(bundle, "_MOST_BYTES", whole)
    assert bundle.read_bundle(plain).sha256
    monkeypatch.setattr(bundle, "_MOST_BYTES", whole - 1)
    with pytest.raises(BundleError, match="the largest file is"):
        bundle.read_bundle(plain)


def test_a_draft_is_a_bundle_of_what_lies_in_the_folder(plain: Path) -> None:
    whole = bundle.read_bundle(plain)
    draft = bundle.draft(plain, whole.manifest)
    assert (draft.sha256, draft.digests, draft.manifest) == (whole.sha256, whole.digests, whole.manifest)
    (plain / "more").write_bytes(b"x")
    assert bundle.draft(plain, whole.manifest).sha256 != whole.sha256


def test_a_new_operating_point_keeps_the_old_one_with_the_files_that_belonged_to_it(plain: Path) -> None:
    manifest = bundle.read_bundle(plain).manifest
    (plain / "evidence.json").write_bytes(b"old evidence")
    first = bundle.write_manifest(plain, manifest)
    assert first == bundle.read_bundle(plain)
    point, golden, picture = first.manifest.operating_point, first.manifest.golden, first.data("golden/good.png")
    assert point is not None
    files = {"evidence.json": b"new", "golden/good.png": None, "golden/other.png": picture, "drift.json": b"{}"}
    other = (golden[0].model_copy(update={"file": "golden/other.png"}),)
    second = bundle.replace_operating_point(
        first, replace(point, go_below=-60.0), now="2026-03-01", files=files, golden=other, proven_on={"cpu": "new"}
    )
    assert second.manifest.operating_point == replace(point, go_below=-60.0)
    assert (second.manifest.golden, second.manifest.proven_on) == (other, {"cpu": "new"})
    assert (second.data("evidence.json"), second.data("drift.json")) == (b"new", b"{}")
    assert "golden/good.png" not in second.digests
    (revision,) = second.manifest.revisions
    assert (revision.replaced, revision.bundle_sha256) == ("2026-03-01", first.sha256)
    assert (revision.golden, revision.proven_on) == (golden, first.manifest.proven_on)
    assert revision.files.keys() == {"evidence.json", "golden/good.png"}
    kept = {name: second.data(place) for name, place in revision.files.items()}
    assert kept == {"evidence.json": b"old evidence", "golden/good.png": picture}
    assert revision.files["golden/good.png"] == f"revisions/{first.digests['golden/good.png']}.png"

    third = bundle.replace_operating_point(second, point, now="2026-03-02", files={"evidence.json": b"old evidence"})
    assert (third.manifest.golden, third.manifest.proven_on) == (other, {"cpu": "new"})
    assert [each.golden for each in third.manifest.revisions] == [golden, None]
    assert third.manifest.revisions[1].proven_on is None
    fourth = bundle.replace_operating_point(
        third, point, now="2026-03-03", files={"evidence.json": None}, golden=golden
    )
    assert fourth.manifest.proven_on == {"cpu": "new"}, "not given: as before"
    assert fourth.manifest.revisions[2].files["evidence.json"] == revision.files["evidence.json"]
    assert "evidence.json" not in fourth.digests


def test_a_new_recipe_keeps_the_operating_point_only_where_it_is_said(signed: Path) -> None:
    first = bundle.read_bundle(signed)
    recipe = first.manifest.recipe.model_copy(update={"size_wh": (64, 64)})
    kept = bundle.replace_recipe(first, recipe, now="2026-03-01", keep_point=True)
    assert (kept.manifest.recipe, kept.manifest.operating_point) == (recipe, first.manifest.operating_point)
    assert (kept.manifest.revisions, kept.signature) == ((), None)
    moved = bundle.replace_recipe(kept, first.manifest.recipe, now="2026-03-02", keep_point=False)
    assert (moved.manifest.recipe, moved.manifest.operating_point) == (first.manifest.recipe, None)
    (revision,) = moved.manifest.revisions
    assert (revision.replaced, revision.bundle_sha256, revision.golden) == ("2026-03-02", kept.sha256, None)
    again = bundle.replace_recipe(moved, recipe, now="2026-03-03", keep_point=False)
    assert again.manifest.revisions == (revision,), "no point, no revision"


def test_people_hear_of_a_signature_only_where_one_was_lost(signed: Path, plain: Path, tmp_path: Path) -> None:
    before = bundle.read_bundle(signed)
    after = replace(before, signature=None)
    assert signing.without_signature(before, before) == signing.without_signature(after, after) == ""
    assert signing.without_signature(before, replace(after, root=tmp_path)).startswith(
        "The signature of the old bundle"
    )
    assert signing.without_signature(before, after).startswith("The signature was removed")


def test_half_a_key_pair_is_not_left_behind_and_no_file_is_replaced(house: House, tmp_path: Path) -> None:
    (tmp_path / "berta.key.pub").write_text("something else")
    with pytest.raises(InputError, match="Choose another name"):
        signing.make_key_pair(tmp_path / "berta.key", "berta")
    assert not (tmp_path / "berta.key").exists()
    assert (tmp_path / "berta.key.pub").read_text() == "something else"
    kept = (tmp_path / "anna.key").read_bytes()
    with pytest.raises(InputError, match="Choose another name"):
        signing.make_key_pair(tmp_path / "anna.key", "anna")
    assert (tmp_path / "anna.key").read_bytes() == kept
    with pytest.raises(InputError, match="name of the key"):
        signing.make_key_pair(tmp_path / "x.key", "two\nlines")
    signing.make_key_pair(tmp_path / "new" / "one" / "deep.key", "deep")
    signing.make_key_pair(tmp_path / "new" / "one" / "second.key", "second")
    assert (tmp_path / "new" / "one" / "deep.key.pub").stat().st_mode & 0o777 == 0o644
    with pytest.raises(InputError, match="has no passphrase"):
        signing.open_signing_key(house.folder / "anna.key", passphrase="one")


def test_both_keys_of_a_pair_are_on_the_disk_when_they_have_been_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_size))
    signing.make_key_pair(tmp_path / "anna.key", "anna")
    assert flushed == [(tmp_path / name).stat().st_size for name in ("anna.key", "anna.key.pub")]


def test_a_public_key_is_one_line_of_ours(house: House, tmp_path: Path) -> None:
    line = (house.folder / "anna.key.pub").read_text()
    read = signing.read_public_key(house.folder / "anna.key.pub")
    assert (read.key, read.name, read.key_id) == (house.anna.public, "anna", house.anna.key_id)
    assert len(read.key_id) == 16
    for wrong in ("", line + line, line.replace("gonogo", "ssh"), line.replace(" anna", ""), line[:30]):
        (tmp_path / "wrong.pub").write_text(wrong)
        with pytest.raises(InputError, match="expected a public key"):
            signing.read_public_key(tmp_path / "wrong.pub")
    (tmp_path / "long.pub").write_text(line + " " * 1_000_000)
    with pytest.raises(InputError, match="more than the 1,000,000 allowed"):
        signing.read_public_key(tmp_path / "long.pub")
    with pytest.raises(InputError, match="cannot be read"):
        signing.read_public_key(tmp_path / "none.pub")
    with pytest.raises(InputError, match="cannot be used"):
        signing.open_signing_key(tmp_path / "none.key")


def test_two_people_of_one_name_are_not_trusted_at_once_and_only_one_key_is_revoked(house: House) -> None:
    (house.folder / "second").mkdir()
    _, public = signing.make_key_pair(house.folder / "second" / "anna.key", "anna")
    with pytest.raises(InputError, match="already has a key"):
        signing.add_key(house.store, signing.read_public_key(public), (Use.BUNDLE,), now=NOW)
    house.key("berta", Use.BUNDLE, Use.RELEASE)
    house.revoke("anna")
    anna, berta = signing.read_trust_store(house.store).keys
    assert (anna.revoked, anna.why, anna.uses) == (NOW, "laptop stolen", (Use.BUNDLE,))
    assert (berta.revoked, berta.why, berta.uses, berta.added) == (None, "", (Use.BUNDLE, Use.RELEASE), NOW)
