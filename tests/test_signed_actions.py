"""Personal signatures in a ledger: made, verified, and what a forger may try."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

import command_kit as kit
from gonogo.ledger import Action, Flaw, Ledger, Record, Row, verify
from gonogo.signed_actions import KEY_MADE, KEY_REVOKED, MEANING, REASON, SIGNED, SignatureCheck, sign_action
from gonogo.signing import SigningKey

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ANNA, BERT = SigningKey.new(), SigningKey.new()


def make_key(ledger: Ledger, who: str, key: SigningKey) -> Row[Action]:
    made = Action(action=KEY_MADE, who=who, details={"key_id": key.key_id, "public_key": key.public})
    return ledger.append_action(sign_action(made, key, ledger=ledger, now=NOW))


def signed(ledger: Ledger, who: str, key: SigningKey, **details: JsonValue) -> Action:
    said: dict[str, JsonValue] = {**details, MEANING: "approved", REASON: "complaint 17"}
    return sign_action(Action(action="deploy", who=who, details=said), key, ledger=ledger, now=NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two people with a key, and a signed deployment by Anna in row 4, after which a station wrote."""
    with Ledger.open(tmp_path / "line.ledger") as ledger:
        make_key(ledger, "anna", ANNA)
        make_key(ledger, "bert", BERT)
        ledger.append_action(signed(ledger, "anna", ANNA, bundle="a.inspector", bundle_sha256="a" * 64, share=0.01))
        ledger.append_action(Action(action="started", who="line-1"))
    return tmp_path / "line.ledger"


def rows(path: Path) -> list[Row[Any]]:
    with Ledger.open(path, read_only=True) as ledger:
        return [row for seq in range(1, ledger.head().seq + 1) if (row := ledger.row(seq)) is not None]


def findings(rows: Iterable[tuple[int, str, Record]]) -> list[str]:
    check = SignatureCheck()
    return [what for seq, sha256, record in rows for what in check(seq, sha256, record)]


def as_found(path: Path) -> list[tuple[int, str, Record]]:
    return [(row.seq, row.sha256, row.record) for row in rows(path)]


def appended(path: Path, action: Action) -> list[str]:
    """What the verification of the whole ledger finds after one more row."""
    with Ledger.open(path) as ledger:
        ledger.append_action(action)
    found = verify(path, also=SignatureCheck())
    assert {each.flaw for each in found} <= {Flaw.SIGNATURE}
    return [each.what for each in found]


def test_signatures_are_verified_with_the_ledger(path: Path) -> None:
    check = SignatureCheck()
    assert verify(path, also=check) == []
    assert check.verified == 3
    ended = kit.run_here(["ledger", "verify", str(path)])
    assert ended.code == 0
    assert "personal signatures: 3, all right" in ended.out


def test_a_copied_row_is_found_though_the_chain_holds(path: Path) -> None:
    (found,) = appended(path, rows(path)[3].record)
    assert found == "row 6: the signature was copied from row 4"
    ended = kit.run_here(["ledger", "verify", str(path)])
    assert ended.code == 1
    assert "copied from row 4" in ended.out


@pytest.mark.parametrize(
    "change",
    [
        {"details": {"bundle_sha256": "b" * 64}},
        {"details": {"share": 0.02}},
        {"details": {REASON: "routine"}},
        {"details": {"more": 1}},
        {"action": "operating_point"},
        {"station": "line-1"},
        {"about": 1},
    ],
    ids=str,
)
def test_a_signature_does_not_fit_another_record(path: Path, change: dict[str, Any]) -> None:
    record = rows(path)[3].record
    more = {**change, "details": {**record.details, **change.get("details", {})}}
    (found,) = appended(path, record.model_copy(update=more))
    assert "the signature is of another record" in found


def test_an_edited_record_is_found_even_if_the_whole_chain_is_computed_anew(path: Path) -> None:
    seen = as_found(path)
    seq, sha256, record = seen[3]
    assert isinstance(record, Action)
    edited = record.model_copy(update={"details": {**record.details, "bundle_sha256": "b" * 64}})
    assert "another record" in findings([*seen[:3], (seq, sha256, edited), *seen[4:]])[0]


def test_rows_before_a_signature_cannot_be_written_anew(path: Path) -> None:
    seen = as_found(path)
    (found,) = findings([*seen[:2], (3, "0" * 64, seen[2][2]), *seen[3:]])
    assert "was signed after another row 3 than the present one" in found


def test_a_signed_row_of_another_ledger_does_not_count(path: Path, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "other.ledger") as other:
        make_key(other, "anna", ANNA)
        action = signed(other, "anna", ANNA, bundle="a.inspector")
    (found,) = appended(path, action)
    assert "of a row of another ledger" in found


def test_nobody_signs_in_another_name(path: Path) -> None:
    with Ledger.open(path) as ledger:
        forged = signed(ledger, "anna", BERT, bundle="b.inspector")
        unknown = signed(ledger, "anna", SigningKey.new(), bundle="b.inspector")
        early = Action(action=KEY_MADE, who="anna", details={"key_id": "0" * 16, "public_key": BERT.public})
        unproven = SigningKey.new()
    assert appended(path, forged) == ["row 6: signed with the key of bert, recorded for anna"]
    assert "which no row before has made" in appended(path, unknown)[-1]
    assert "another name than its public key" in appended(path, early)[-1]
    again = Action(action=KEY_MADE, who="carl", details={"key_id": ANNA.key_id, "public_key": ANNA.public})
    assert "was already made in row 2" in appended(path, again)[-1]
    bare = Action(action=KEY_MADE, who="carl", details={"key_id": unproven.key_id, "public_key": unproven.public})
    assert "without its signature" in appended(path, bare)[-1]


def test_what_was_signed_before_a_key_was_revoked_stays_valid_and_nothing_after(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.append_action(Action(action=KEY_REVOKED, who="admin", details={"key_id": ANNA.key_id, "user": "anna"}))
        late = signed(ledger, "anna", ANNA, bundle="a.inspector")
    assert verify(path, also=SignatureCheck()) == []
    assert appended(path, late) == [f"row 7: signed with key {ANNA.key_id} of anna, which row 6 had revoked"]
    unknown = Action(action=KEY_REVOKED, who="admin", details={"key_id": "f" * 16})
    assert "which no row before has made" in appended(path, unknown)[-1]


@pytest.mark.parametrize("stored", ["", 1, [], {}, {"statement": "{}", "key_id": "0" * 16, "signature": "0" * 128}])
def test_a_malformed_signature_is_a_finding_and_no_crash(path: Path, stored: JsonValue) -> None:
    (found,) = appended(path, Action(action="deploy", who="anna", details={SIGNED: stored}))
    assert "cannot be read" in found
