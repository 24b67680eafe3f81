"""One picture, one score: through a file, bytes, an array, a station and the server, to the last bit."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from gonogo import bundle, images
from gonogo.certification import recertify
from gonogo.config import Recipe, ReducedBy, Reduction
from gonogo.dataset import Dataset, Split
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, Where
from gonogo.line.messages import Answer, Cause, Trigger
from gonogo.operating_point import Promise
from gonogo.replay import Rejudged, replay_ledger
from gonogo.schema import Box, Frame, Label, Located, State
from gonogo.server.workspace import Workspace
from gonogo.station.judging import Station
from gonogo.station.settings import parse_settings
from gonogo.station.worker import build_station
from label_kit import upload
from server_kit import Browser, make_app
from tiny_bundle import SIDE, make_bundle, make_parts

SIZES_WH = ((128, 96), (101, 77), (97, 64))
FULL = Recipe(size_wh=(SIDE, SIDE))
RECIPES = {
    "whole": FULL,
    "decoder": FULL.model_copy(update={"reduction": 2}),
    "mean": FULL.model_copy(update={"reduction": 2, "reduced_by": "mean"}),
}


def photograph(size_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
    coarse = rng.integers(0, 256, (size_wh[1] // 6, size_wh[0] // 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photographs() -> dict[str, bytes]:
    """JPEG and PNG, of even and odd sizes."""
    rng = np.random.default_rng(21)
    frames = [photograph(size_wh, rng) for size_wh in SIZES_WH]
    found = {f"p{number}.jpg": images.encode_jpeg(frame) for number, frame in enumerate(frames)}
    return found | {f"q{number}.png": images.encode_png(frame) for number, frame in enumerate(frames)}


class Plant:
    """A workspace whose server got the photographs by HTTP, and whose station gets them one by one."""

    def __init__(self, root: Path, photographs: dict[str, bytes], recipe: Recipe) -> None:
        self.app = make_app(root)
        self.space: Workspace = self.app.state.components.workspace
        self.photographs = photographs
        browser = Browser(self.app)
        browser.login("engineer")
        browser.post("/datasets", name="part")
        names = list(photographs)
        labelled = {f"{'good' if n % 2 else 'bad'}/{name}": photographs[name] for n, name in enumerate(names)}
        assert upload(browser, labelled, by_folder=True).json()["added"] == len(photographs)
        dataset = Dataset.read(self.space.datasets / "part")
        splits = (Split.TRAIN, Split.VAL, Split.CALIBRATE)
        samples = tuple(each.model_copy(update={"split": splits[n % 3]}) for n, each in enumerate(dataset.samples))
        self.dataset = Dataset(root=dataset.root, samples=samples)
        self.dataset.write()
        assert {each.label for each in samples} == set(Label)
        make_bundle(self.space.bundles / "tiny.inspector", self.dataset, recipe=recipe)
        self.space.activate("tiny.inspector")
        self.inspector = Inspector.load(self.space.bundles / "tiny.inspector")

    def station(self, camera: str) -> Station:
        """The station as its worker builds it from its settings, with this camera."""
        text = f"""
station = "s1"
bundle = "bundles/tiny.inspector"
ledger = "{self.space.ledger}"
state_dir = "state"
window_s = 20.0
camera_timeout_s = 5.0
min_free_mb = 1
[[cameras]]
name = "main"
camera = {camera}
[cameras.health]
darkest = 0
saturated = 1
sharpness = 0
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[watchdog]
stall_s = 60.0
"""
        station = build_station(parse_settings(text, folder=self.space.root))
        station.start()
        return station

    def in_server(self) -> dict[str, float | None]:
        """The scores that the understand page works with, by the names of the photographs."""
        components = self.app.state.components
        components.inspectors.refresh()
        while components.worker.busy():
            time.sleep(0.02)
        known = components.inspectors.pictures()
        name_of = {data: name for name, data in self.photographs.items()}
        return {name_of[(known.root / each.file).read_bytes()]: each.score for each in known.pictures}


@pytest.fixture(params=list(RECIPES))
def plant(request: pytest.FixtureRequest, tmp_path: Path, photographs: dict[str, bytes]) -> Iterator[Plant]:
    made = Plant(tmp_path / "plant", photographs, RECIPES[request.param])
    yield made
    made.app.state.components.worker.close()


def judge(station: Station, trigger_id: str) -> Answer:
    return station.judge(Trigger(id=trigger_id, at=datetime.now(UTC), due_s=time.monotonic() + 20.0))


@pytest.mark.slow
def test_every_encoded_entrance_gives_the_same_score(plant: Plant, tmp_path: Path) -> None:
    inspector, photographs = plant.inspector, plant.photographs
    expected = {name: inspector.inspect_encoded(data).score for name, data in photographs.items()}
    assert None not in expected.values()
    assert len(set(expected.values())) == len(photographs)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in photographs.items():
        (folder / name).write_bytes(data)
    assert {name: inspector.inspect_file(folder / name)[1].score for name in photographs} == expected
    assert plant.in_server() == expected
    station = plant.station(f'{{ kind = "folder", folder = "{folder}", stable_s = 0.0 }}')
    assert {name: judge(station, name).score for name in photographs} == expected
    station.close()
    pictures = plant.app.state.components.pictures
    with Ledger.open(plant.space.ledger, create=False) as ledger:
        rows = list(ledger.verdicts(Where(station="s1")))
        assert {row.record.trigger_id: row.record.score for row in rows} == expected
        assert {row.record.trigger_id: pictures.judged(row.record).score for row in rows} == expected
        again = [each for each in replay_ledger(ledger, inspector) if isinstance(each, Rejudged)]
        assert {each.row.record.trigger_id: each.after[0].score for each in again} == expected


@pytest.mark.slow
def test_pictures_sent_to_a_station_by_http_score_the_same(plant: Plant) -> None:
    port = _free_port()
    station = plant.station(f'{{ kind = "push", port = {port}, allow_without_token = true }}')
    found = {}
    for name, data in plant.photographs.items():
        connection = _connected(port)
        connection.request("POST", f"/frames/{name}", body=data)
        assert connection.getresponse().status == 202
        connection.close()
        found[name] = judge(station, name).score
    station.close()
    assert found == {name: plant.inspector.inspect_encoded(data).score for name, data in plant.photographs.items()}


def test_a_raw_frame_scores_as_its_encoded_picture_or_is_refused(plant: Plant) -> None:
    for name, data in plant.photographs.items():
        encoded, raw = plant.inspector.inspect_encoded(data), plant.inspector.inspect(images.decode(data))
        if not plant.inspector.recipe.encoded_only:
            assert raw.score == encoded.score, name
            continue
        assert raw.state is State.FAULT
        assert raw.score is None
        assert "expected an encoded picture" in raw.reason


@pytest.mark.slow
def test_a_station_with_a_camera_of_raw_frames_answers_alike_or_with_a_fault(plant: Plant, tmp_path: Path) -> None:
    frames = [images.decode(data) for data in plant.photographs.values()]
    video = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"FFV1"), 10, (128, 96))
    for frame in frames[:1] * 3:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    station = plant.station(f'{{ kind = "video_file", file = "{video}" }}')
    answer = judge(station, "raw")
    station.close()
    if plant.inspector.recipe.encoded_only:
        assert (answer.state, answer.cause, answer.score) == (State.FAULT, Cause.INSPECTOR, None)
        assert "raw frame" in answer.reason
    else:
        assert answer.score is not None


def test_a_region_that_somebody_knows_is_the_same_place_in_every_entrance(plant: Plant) -> None:
    located = Located(present=True, box=Box(x1=16, y1=8, x2=80, y2=64))
    data = plant.photographs["p0.jpg"]
    photo = Photograph(data)
    verdicts = [plant.inspector.inspect(each, located=located) for each in (Photograph(data), photo, photo)]
    assert len({verdict.score for verdict in verdicts}) == 1
    assert {verdict.region for verdict in verdicts} == {located.box}


@pytest.mark.parametrize(("reduction", "reduced_by"), [(1, "decoder"), (2, "decoder"), (4, "decoder"), (2, "mean")])
def test_a_picture_is_unpacked_once_and_whole_only_for_somebody_who_looks(
    reduction: Reduction, reduced_by: ReducedBy, photographs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gonogo.images import photograph as module

    unpacked: list[int] = []
    decode = module.decode_sized

    def noted(data: bytes, *, reduction: Reduction, **more: object) -> tuple[Frame, tuple[int, int]]:
        unpacked.append(reduction)
        return decode(data, reduction=reduction, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "decode_sized", noted)
    recipe = FULL.model_copy(update={"reduction": reduction, "reduced_by": reduced_by})
    photo = Photograph(photographs["p1.jpg"])
    for _ in range(2):
        photo.judged(recipe)
    assert photo.size_wh == SIZES_WH[1]
    assert unpacked == [reduction if reduced_by == "decoder" else 1]
    assert photo.frame.shape == (77, 101, 3)
    assert unpacked == ([1] if recipe.encoded_only is False else [reduction, 1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(RECIPES))
def test_golden_frames_go_the_way_of_the_pictures_that_a_bundle_is_proven_for(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    parts = make_parts(tmp_path / "parts", rng)
    samples = []
    for number, each in enumerate(parts.samples):
        name = each.file_name
        if number % 4 < 2:
            name = name.replace(".png", ".jpg")
            (parts.root / name).write_bytes(images.encode_jpeg(parts.load(each)))
        samples.append(each.model_copy(update={"file_name": name}))
    dataset = Dataset(root=parts.root, samples=tuple(samples))
    dataset.write()
    made = make_bundle(tmp_path / "tiny.inspector", dataset, recipe=RECIPES[kind])
    certified = recertify(Inspector.load(made.root), dataset, Promise(max_escape=0.2, max_overkill=0.2)).bundle
    inspector = Inspector.load(certified.root)  # every golden frame is replayed
    originals = {dataset.path(each).read_bytes() for each in dataset.samples}
    kept = {each.file: certified.data(each.file) for each in certified.manifest.golden}
    own_files = kind == "decoder"
    assert all((data in originals) is own_files or not own_files for data in kept.values())
    assert {Path(file).suffix for file in kept} == ({".jpg", ".png"} if own_files else {".png"})
    for each in certified.manifest.golden:
        assert inspector.inspect_encoded(kept[each.file]).score == each.score
    card = (certified.root / bundle.MODEL_CARD).read_text()
    assert ("raw frames are refused" in card) is own_files
    assert ("encoded pictures and raw frames" in card) is not own_files
    recipe = json.loads((certified.root / bundle.MANIFEST).read_text())["recipe"]
    assert recipe["reduced_by"] == RECIPES[kind].reduced_by


def test_a_bundle_of_before_that_reduces_pictures_is_proven_for_encoded_ones() -> None:
    assert Recipe.model_validate_json('{"size_wh": [32, 32], "reduction": 2}').encoded_only
    assert not Recipe.model_validate_json('{"size_wh": [32, 32]}').encoded_only


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _connected(port: int) -> http.client.HTTPConnection:
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.connect()
        except OSError:
            time.sleep(0.02)
            continue
        return connection
    raise AssertionError("the push camera does not listen")
