"""Results reach every destination in order, at least once, and once by their id, whatever dies in between."""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gonogo.errors import InputError, LedgerError
from gonogo.ledger import REVIEW, Action, Ledger, retain
from gonogo.ledger.cursors import cursor_path, expect_publishing, read_cursor
from gonogo.ledger.retention import Policy
from gonogo.results.delivery import Delivery, DeliveryError
from gonogo.results.document import read_document
from gonogo.results.lanes import LaneState, run_lane, run_lanes
from gonogo.results.opening import open_destination
from gonogo.results.outbox import LedgerReplacedError, Outbox
from gonogo.results.settings import (
    FolderResults,
    MqttResults,
    ObjectStoreResults,
    ResultSettings,
    SqlResults,
    WebhookResults,
)
from gonogo.schema import Label, State
from gonogo.testing.postgres import missing, server
from gonogo.testing.receivers import FakeWebhook
from gonogo.testing.station import patiently
from results_kit import STATION, broker, grow, pictured, private

SECRET = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0"


@dataclass
class Kept:
    """A destination in memory, which fails on demand."""

    ids: list[str]
    fail: list[DeliveryError | None]

    def deliver(self, batch: Sequence[Delivery]) -> None:
        error = self.fail.pop(0) if self.fail else None
        self.ids += [each.document.result_id for each in batch[: None if error is None else error.delivered]]
        if error is not None:
            raise error

    def close(self) -> None:
        pass


def kept(*fail: DeliveryError | None) -> Kept:
    return Kept([], list(fail))


def folder_settings(folder: Path, **changes: Any) -> FolderResults:
    return FolderResults(kind="folder", name="files", folder=folder, **changes)


def outbox(ledger: Path, settings: ResultSettings, destination: Any = None, **changes: Any) -> Outbox:
    return Outbox(ledger, STATION, settings, destination or open_destination(settings, STATION), **changes)


def drain(lane: Outbox) -> None:
    while lane.step():
        pass


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "line.ledger"


def test_only_what_the_settings_include_is_delivered_and_in_order(ledger: Path, tmp_path: Path) -> None:
    grow(ledger, "other", station="line-2")
    ids = grow(ledger, "a", "b")
    fault = grow(ledger, "c", state=State.FAULT)
    with Ledger.open(ledger) as opened:
        about = int(ids[0].rpartition("-")[2])
        opened.append_action(Action(action=REVIEW, who="Ana", about=about, label=Label.GOOD))
        opened.append_action(Action(action=REVIEW, who="Ana", about=2, label=Label.GOOD))
        opened.append_action(Action(action="login", who="Ana"))
    decision = f"{ids[0].partition('-')[0]}-6"
    for changes, expected in (
        ({}, [*ids, *fault, decision]),
        ({"decisions": False}, [*ids, *fault]),
        ({"include": (State.FAULT,)}, fault),
        ({"first_row": 5}, [*fault, decision]),
    ):
        found = kept()
        lane = outbox(ledger, folder_settings(tmp_path, **changes), found, rows_per_batch=2)
        drain(lane)
        lane.finish()
        assert found.ids == expected
        assert lane.state().lag_rows == 0
        lane.cursor_path.unlink()


def test_a_death_between_delivery_and_cursor_delivers_again_under_the_same_id(ledger: Path, tmp_path: Path) -> None:
    ids, found = grow(ledger, "a", "b"), kept()
    drain(outbox(ledger, folder_settings(tmp_path), found))
    path = cursor_path(ledger, STATION, "files")
    after = path.read_bytes()
    more = grow(ledger, "c")
    drain(outbox(ledger, folder_settings(tmp_path), found))
    path.write_bytes(after)  # as if this process had died before it wrote the cursor
    drain(outbox(ledger, folder_settings(tmp_path), found))
    assert found.ids == [*ids, *more, *more]
    path.unlink()
    drain(outbox(ledger, folder_settings(tmp_path), found))
    assert found.ids[4:] == [*ids, *more]
    path.write_text("half a fi")
    with pytest.raises(LedgerError, match="Delete the file"):
        outbox(ledger, folder_settings(tmp_path), found).step()


def test_what_was_acknowledged_before_a_failure_counts(ledger: Path, tmp_path: Path) -> None:
    ids, found = grow(ledger, "a", "b", "c"), kept(DeliveryError("gone", delivered=2))
    lane = outbox(ledger, folder_settings(tmp_path), found)
    with pytest.raises(DeliveryError):
        lane.step()
    lane.close()
    drain(lane)
    assert found.ids == ids
    assert lane.delivered == 3


def test_a_destination_that_is_down_holds_back_only_itself(ledger: Path, tmp_path: Path) -> None:
    ids, stop = grow(ledger, "a", "b"), threading.Event()
    down, up = kept(*[DeliveryError("down") for _ in range(2)]), kept()
    lanes = [
        (outbox(ledger, folder_settings(tmp_path).model_copy(update={"name": name}), kind), 0.01)
        for name, kind in (("down", down), ("up", up))
    ]
    said: list[LaneState] = []
    thread = threading.Thread(target=run_lanes, args=(lanes, stop, tmp_path / "results.json", said.append))
    thread.start()
    patiently(lambda: up.ids == ids and down.ids == ids, "not delivered")
    more = grow(ledger, "c")
    patiently(lambda: up.ids == [*ids, *more] and down.ids == [*ids, *more], "not delivered")
    stop.set()
    thread.join()
    states = json.loads((tmp_path / "results.json").read_bytes())
    assert (states["up"]["lag_rows"], states["down"]["delivered"]) == (0, 3)


def test_a_lane_survives_a_defect_of_its_destination(ledger: Path, tmp_path: Path) -> None:
    class Broken(Kept):
        def deliver(self, batch: Sequence[Delivery]) -> None:
            if not self.ids:
                self.ids.append("")
                raise ZeroDivisionError("a defect")
            super().deliver(batch)

    ids, said, stop = grow(ledger, "a"), [], threading.Event()
    broken = Broken([], [])

    def say(state: LaneState) -> None:
        said.append(state.trouble)
        if len(broken.ids) > 1:
            stop.set()

    run_lane(outbox(ledger, folder_settings(tmp_path), broken), stop, say, every_s=0.01)
    assert said[0] == "ZeroDivisionError: a defect"
    assert broken.ids == ["", *ids]


def test_another_ledger_in_its_place_is_not_mixed_in(ledger: Path, tmp_path: Path) -> None:
    grow(ledger, "a", "b")
    found = kept()
    lane = outbox(ledger, folder_settings(tmp_path), found)
    drain(lane)
    copy = ledger.read_bytes()
    grow(ledger, "c")
    drain(lane)
    lane.finish()
    for suffix in ("-wal", "-shm"):
        ledger.with_name(ledger.name + suffix).unlink(missing_ok=True)
    ledger.write_bytes(copy)  # set back to before the row that was delivered, and goes on with another one
    grow(ledger, "d")
    with pytest.raises(LedgerReplacedError, match="set back or changed"):
        outbox(ledger, folder_settings(tmp_path), found).step()
    ledger.unlink()
    for suffix in ("-wal", "-shm"):
        ledger.with_name(ledger.name + suffix).unlink(missing_ok=True)
    new = grow(ledger, "x", "y", "z", "zz")
    lane = outbox(ledger, folder_settings(tmp_path), found)
    with pytest.raises(LedgerReplacedError, match="found another one"):
        lane.step()
    assert len(found.ids) == 3
    lane.cursor_path.rename(tmp_path / "away")
    drain(lane)
    assert found.ids[3:] == new
    ledger.unlink()
    with pytest.raises(LedgerError, match="cannot be read"):
        lane.step()


def test_a_folder_holds_one_file_for_each_result_and_its_pictures(ledger: Path, tmp_path: Path) -> None:
    with Ledger.open(ledger) as opened:
        bad = opened.append_verdict(pictured(opened, "../../odd", b"BM picture"))
        good = opened.append_verdict(pictured(opened, "b", b"\x89PNG picture", State.GO))
        gone = opened.append_verdict(pictured(opened, "c", b"\xff\xd8 picture"))
        assert gone.record.views[0].frame_sha256
        opened.frames.path(gone.record.views[0].frame_sha256).unlink()  # type: ignore[attr-defined]
    place = tmp_path / "out"
    lane = outbox(ledger, folder_settings(place, pictures="not_go"))
    drain(lane)
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    document = read_document(next(place.rglob("*-2.json")).read_bytes())
    start = f"{bad.at:%Y-%m-%d}/{document.ledger}"
    assert found == sorted([f"{start}-2.json", f"{start}-2.1.bmp", f"{start}-3.json", f"{start}-4.json"])
    assert (place / f"{start}-2.1.bmp").read_bytes() == b"BM picture"
    assert lane.state().pictures_missing == 1
    assert good.seq == 3


def test_a_full_disk_holds_the_folder_back_and_leaves_nothing_half(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "out"
    lane = outbox(ledger, folder_settings(place))
    with Ledger.open(ledger):
        lane.step()  # writes its first cursor
    ids = grow(ledger, "a")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("gonogo.files.os.fsync", full)
        with pytest.raises(DeliveryError, match="Free some space"):
            lane.step()
    assert not [path for path in place.rglob("*") if path.is_file()]
    lane.close()
    drain(lane)
    assert [path.stem for path in place.rglob("*.json")] == ids


def test_retention_keeps_the_frames_that_a_destination_with_pictures_needs(ledger: Path, tmp_path: Path) -> None:
    settings = folder_settings(tmp_path / "out", pictures="all")
    expect_publishing(ledger, STATION, {"files": True})
    later = datetime.now(UTC) + timedelta(days=40)
    with Ledger.open(ledger) as opened:
        opened.append_verdict(pictured(opened, "a", b"BM picture", State.GO))
        kept_back = retain(opened, Policy(keep_days=30), who="test", now=later)
        assert (kept_back.deleted, kept_back.unforwarded) == (0, 1)
        lane = outbox(ledger, settings)
        drain(lane)
        lane.finish()
        assert retain(opened, Policy(keep_days=30), who="test", now=later).deleted == 1
        opened.append_verdict(pictured(opened, "b", b"BM other", State.GO))
        assert retain(opened, Policy(keep_days=30), who="test", now=later).unforwarded == 1
        expect_publishing(ledger, STATION, {})  # the destination was removed from the settings
        assert retain(opened, Policy(keep_days=30), who="test", now=later).deleted == 1
    found = read_cursor(lane.cursor_path)
    assert found is not None
    assert not found.pictures


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[FakeWebhook]:
    private(tmp_path / "secret", SECRET)
    with FakeWebhook(SECRET) as receiver:
        yield receiver


def webhook_settings(folder: Path, port: int, **changes: Any) -> WebhookResults:
    url = f"http://127.0.0.1:{port}/hook?token=hidden"
    facts = {"name": "mes", "url": url, "secret_file": folder / "secret", "timeout_s": 5.0}
    return WebhookResults(kind="webhook", **facts | changes)


def test_a_webhook_is_signed_and_one_without_an_answer_is_sent_again_under_its_key(
    ledger: Path, tmp_path: Path, hook: FakeWebhook
) -> None:
    ids = grow(ledger, "a", "b")
    lane = outbox(ledger, webhook_settings(tmp_path, hook.port))
    hook.silent = True
    with pytest.raises(DeliveryError, match="no answer") as told:
        lane.step()
    assert "hidden" not in str(told.value)
    assert set(hook.keys) == {ids[0]}
    hook.silent = False
    before = len(hook.keys)
    lane.close()
    drain(lane)
    assert hook.keys[before:] == ids
    assert read_document(hook.received[-1].body).result_id == ids[1]


@pytest.mark.parametrize("status", [301, 302, 400, 403, 404, 410])
def test_a_refusal_holds_the_webhook_back_and_needs_a_person(
    ledger: Path, tmp_path: Path, hook: FakeWebhook, status: int
) -> None:
    ids = grow(ledger, "a", "b")
    hook.statuses = [204, status]
    lane = outbox(ledger, webhook_settings(tmp_path, hook.port))
    with pytest.raises(DeliveryError, match=f"found {status}") as told:
        lane.step()
    assert told.value.refused
    assert hook.keys == ids[:1]
    lane.close()
    drain(lane)
    assert hook.keys == ids


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_busy_webhook_is_tried_again(ledger: Path, tmp_path: Path, hook: FakeWebhook, status: int) -> None:
    grow(ledger, "a")
    hook.statuses = [status]
    with pytest.raises(DeliveryError) as told:
        outbox(ledger, webhook_settings(tmp_path, hook.port, skip_refused=True)).step()
    assert not told.value.refused


def test_skipped_results_are_recorded_but_a_wrong_password_never_skips(
    ledger: Path, tmp_path: Path, hook: FakeWebhook
) -> None:
    ids = grow(ledger, "a", "b", "c")
    hook.statuses = [204, 422]
    lane = outbox(ledger, webhook_settings(tmp_path, hook.port, skip_refused=True))
    drain(lane)
    assert hook.keys == [ids[0], ids[2]]
    skipped = [json.loads(line) for line in lane.cursor_path.with_suffix(".skipped").read_text().splitlines()]
    assert [each["result_id"] for each in skipped] == [ids[1]]
    assert lane.state().skipped == 1
    private(tmp_path / "secret", "another secret")
    grow(ledger, "d")
    lane.close()
    with pytest.raises(DeliveryError, match="401") as told:
        lane.step()
    assert told.value.refused
    assert "another secret" not in str(told.value)


def test_a_secret_that_others_may_read_is_refused(ledger: Path, tmp_path: Path, hook: FakeWebhook) -> None:
    grow(ledger, "a")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        outbox(ledger, webhook_settings(tmp_path, hook.port)).step()
    assert not hook.received


def test_a_webhook_with_an_unknown_certificate_is_refused(ledger: Path, tmp_path: Path) -> None:
    import ssl

    certificate = own_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ids = grow(ledger, "a")
    private(tmp_path / "secret", SECRET)
    with FakeWebhook(SECRET, tls=context) as receiver:
        url = f"https://localhost:{receiver.port}/hook"
        with pytest.raises(DeliveryError, match="certificate") as told:
            outbox(ledger, webhook_settings(tmp_path, 1, url=url)).step()
        assert told.value.refused
        drain(outbox(ledger, webhook_settings(tmp_path, 1, url=url, ca_file=certificate)))
        assert receiver.keys == ids


def own_certificate(folder: Path) -> Path:
    """Write a certificate for localhost, signed by itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    path.chmod(0o600)
    return path


def sql_settings(folder: Path, url: str) -> SqlResults:
    return SqlResults(kind="sql", name="table", url_file=private(folder / "url", url))


def test_a_table_drops_doubles_and_keeps_the_whole_document(ledger: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    ids = grow(ledger, "a", "b", part="P'); DROP TABLE x; --")
    lane = outbox(ledger, sql_settings(tmp_path, f"sqlite:///{database}"))
    drain(lane)
    lane.finish()
    lane.cursor_path.unlink()  # everything comes again
    ids += grow(ledger, "c")
    drain(outbox(ledger, lane.settings))
    with sqlite3.connect(database) as connection:
        rows = connection.execute('SELECT result_id, state, document FROM gonogo_results ORDER BY "row"').fetchall()
    assert [row[0] for row in rows] == ids
    assert {row[1] for row in rows} == {"review"}
    assert [read_document(row[2]).result_id for row in rows] == ids


def test_a_database_that_is_away_is_tried_again(ledger: Path, tmp_path: Path) -> None:
    ids = grow(ledger, "a")
    place = tmp_path / "share"
    lane = outbox(ledger, sql_settings(tmp_path, f"sqlite:///{place}/results.db"))
    with pytest.raises(DeliveryError, match="cannot be written"):
        lane.step()
    lane.close()
    place.mkdir()
    drain(lane)
    with sqlite3.connect(place / "results.db") as connection:
        assert connection.execute("SELECT result_id FROM gonogo_results").fetchall() == [(ids[0],)]
    for wrong in ("mysql://user:secret@host/db", "sqlite:///relative.db", "sqlite://", "nonsense"):
        with pytest.raises(InputError, match="expected") as told:
            outbox(ledger, sql_settings(tmp_path, wrong)).step() or (
                grow(ledger, wrong) and outbox(ledger, sql_settings(tmp_path, wrong)).step()
            )
        assert "secret" not in str(told.value)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_postgresql_takes_results_once_and_a_wrong_password_is_a_refusal(ledger: Path, tmp_path: Path) -> None:
    ids = grow(ledger, "a", "b")
    with server() as running:
        lane = outbox(ledger, sql_settings(tmp_path, running.url()))
        drain(lane)
        running.stop()
        ids += grow(ledger, "c")
        with pytest.raises(DeliveryError):
            lane.step()
        lane.close()
        running.start()
        lane.cursor_path.unlink()
        drain(lane)
        rows = running.sql('SELECT result_id FROM public.gonogo_results ORDER BY "row"', database="postgres")
        assert [row[0] for row in rows] == ids


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="needs moto and flask")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.mark.slow
def test_an_s3_store_gets_the_same_files(ledger: Path, tmp_path: Path, store: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    with Ledger.open(ledger) as opened:
        opened.append_verdict(pictured(opened, "a", b"BM picture"))
    ids = grow(ledger, "b")
    options = private(tmp_path / "s3.toml", f'key = "k"\nsecret = "geheim"\nendpoint_url = "{store}"\n')
    settings = ObjectStoreResults(
        kind="object_store", name="s3", url="s3://line-results/parts", options_file=options, pictures="all"
    )
    lane = outbox(ledger, settings)
    with pytest.raises(DeliveryError, match="line-results") as told:  # no such bucket yet
        lane.step()
    assert "geheim" not in str(told.value)
    system = fsspec.filesystem("s3", key="k", secret="geheim", endpoint_url=store, skip_instance_cache=True)
    system.mkdir("line-results")
    lane.close()
    drain(lane)
    names = [name.rpartition("/")[2] for name in system.find("line-results/parts")]
    first = ids[0].replace("-3", "-2")
    assert sorted(names) == sorted([f"{first}.1.bmp", f"{first}.json", f"{ids[0]}.json"])


def test_a_broker_that_dies_gets_what_it_has_not_acknowledged(ledger: Path, tmp_path: Path) -> None:
    ids = grow(ledger, "a", "b")
    with broker(tmp_path / "broker") as running:
        password = private(tmp_path / "password", "writing")
        settings = MqttResults(
            kind="mqtt",
            name="bus",
            host="127.0.0.1",
            port=running.port,
            user="writer",
            password_file=password,
            timeout_s=5.0,
        )
        lane = outbox(ledger, settings)
        drain(lane)
        patiently(lambda: len(running.received) == 2, "not received")
        topic, payload, properties = running.received[1]
        assert (topic, properties) == ("gonogo/line-1/results", {"result_id": ids[1]})
        assert read_document(payload).result_id == ids[1]
        running.kill()
        ids += grow(ledger, "c")
        with pytest.raises(DeliveryError):
            lane.step()
        lane.close()
        running.start()
        drain(lane)
        patiently(lambda: len(running.received) == 3, "not received")
        lane.finish()
        private(password, "wrong password")
        grow(ledger, "d")
        with pytest.raises(DeliveryError, match="does not accept") as told:
            lane.step()
        assert told.value.refused
        assert "wrong password" not in str(told.value)
        private(password, "writing")
        for qos in (1, 2):  # a topic that the broker's rules do not allow: acknowledged with a reason, not delivered
            foreign = settings.model_copy(update={"topic": "elsewhere", "name": f"foreign-{qos}", "qos": qos})
            elsewhere = outbox(ledger, foreign)
            with pytest.raises(DeliveryError, match="not acknowledged") as told:
                elsewhere.step()
            assert told.value.refused
            elsewhere.close()


def test_settings_that_do_not_fit_are_refused() -> None:
    facts: dict[str, Any] = {"name": "x"}
    wrong: list[Callable[[], object]] = [
        lambda: WebhookResults(kind="webhook", url="ftp://x", secret_file=Path("s"), **facts),
        lambda: WebhookResults(kind="webhook", url="https://u:p@x", secret_file=Path("s"), **facts),
        lambda: WebhookResults(kind="webhook", url="https://x:port", secret_file=Path("s"), **facts),
        lambda: ObjectStoreResults(kind="object_store", url="s3://key:secret@plant", **facts),
        lambda: MqttResults(kind="mqtt", host="h", topic="gonogo/#", **facts),
        lambda: MqttResults(kind="mqtt", host="h", password_file=Path("p"), **facts),
        lambda: MqttResults(kind="mqtt", host="h", ca_file=Path("p"), **facts),
        lambda: SqlResults(kind="sql", url_file=Path("u"), table="x; DROP", **facts),
        lambda: FolderResults(kind="folder", folder=Path("f"), name="../x"),
        lambda: FolderResults(kind="folder", folder=Path("f"), include=(), **facts),
    ]
    for each in wrong:
        with pytest.raises(ValueError, match="validation error"):
            each()
    assert os.sep not in FolderResults(kind="folder", folder=Path("f"), **facts).name
