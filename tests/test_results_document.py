"""The documents that other systems receive: complete, the same at every delivery, and described by a schema."""

from __future__ import annotations

import importlib.util
import re
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from gonogo.ledger import REVIEW, Action, Ledger, VerdictRecord
from gonogo.results.document import Result, content_of, decision_of, document_of, read_document
from gonogo.results.signatures import signature
from gonogo.schema import Label, State
from gonogo.station.example import EXAMPLE
from gonogo.station.settings import parse_settings

DOCS = Path(__file__).parents[1] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_schemas", DOCS / "make_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(trigger: str, **changes: object) -> VerdictRecord:
    facts = {"state": State.REVIEW, "score": None, "reason": "no thresholds", "triggered_at": datetime.now(UTC)}
    return VerdictRecord(station="line-1", trigger_id=trigger, **{**facts, **changes})


def test_the_schema_in_the_repository_is_the_generated_one() -> None:
    for name, text in generator().schemas().items():
        assert (DOCS / "schemas" / name).read_text("utf-8") == text, "run: python docs/make_schemas.py"


def test_a_document_holds_the_row_and_comes_back_unchanged(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = generator().json_schema()
    with Ledger.open(tmp_path / "line.ledger") as ledger:
        verdict = ledger.append_verdict(record("t1", part="PÄRT/../1", lot="L", serial="S", codes=("C",)))
        review = ledger.append_action(
            Action(action=REVIEW, who="Ana", about=verdict.seq, label=Label.BAD, defect="dent")
        )
    found = document_of(verdict, "ab12")
    assert (found.result_id, found.row, found.row_sha256) == ("ab12-2", 2, verdict.sha256)
    assert (found.part, found.lot, found.serial, found.codes) == ("PÄRT/../1", "L", "S", ("C",))
    assert found.recorded_at == verdict.at
    decided = decision_of(review, verdict, "ab12")
    assert (decided.about, decided.label, decided.defect, decided.who) == ("ab12-2", "bad", "dent", "Ana")
    for document in (found, decided):
        content = content_of(document)
        assert read_document(content) == document
        assert content_of(read_document(content)) == content
        jsonschema.validate(document.model_dump(mode="json"), schema)


def test_every_field_of_a_record_is_published_but_those_of_this_machine() -> None:
    assert set(VerdictRecord.model_fields) - set(Result.model_fields) == {"bundle", "selected_by"}


def test_an_id_that_could_lead_out_of_a_folder_is_refused(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "line.ledger") as ledger:
        verdict = ledger.append_verdict(record("t1"))
    with pytest.raises(ValueError, match="result_id"):
        document_of(verdict, "../../etc")


def test_the_page_s_settings_are_valid_and_its_signature_is_ours(tmp_path: Path) -> None:
    page = (DOCS / "results-out.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = parse_settings(
        EXAMPLE + "\n".join(blocks).replace('name = "mes"\nurl ', 'name = "hook"\nurl '), folder=tmp_path
    )
    assert [each.kind for each in found.results] == ["folder", "object_store", "sql", "webhook", "mqtt", "email"]
    told = re.search(r'"webhook-signature": "(.*?)"', page)
    assert told is not None
    body, secret = b'{"type": "verdict"}', "whsec_c2VjcmV0LW9mLXRoZS1wbGFudA=="
    assert signature(secret, "6d1c0f4e-4711", 1767593553, body) == told[1]
