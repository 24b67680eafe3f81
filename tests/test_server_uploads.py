"""Beginning data sets and handing over photographs: what is taken, what is refused, bombs and traversal."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo import images
from gonogo.images import CostlyImageError, encode_jpeg, encode_png
from gonogo.schema import Label
from gonogo.server.datasets import uploads
from gonogo.server.datasets.uploads import unpacked
from label_kit import actions, photo, rows, stored, upload, zipped
from server_kit import Browser, make_app


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "workspace")


@pytest.fixture
def anna(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    browser.post("/datasets", name="part")
    return browser


def told(**values: object) -> dict[str, object]:
    """What an upload is answered with."""
    return {"added": 0, "copies": 0, "labelled": 0, "unknown_folders": [], "refused": [], **values}


def test_a_data_set_is_begun_and_listed(anna: Browser) -> None:
    assert "part" in anna.get("/datasets").text
    assert anna.get("/datasets/part").status_code == 200
    again = anna.post("/datasets", name="part")
    assert again.headers["location"] == "/"
    assert "The data set part already exists." in anna.get("/").text


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", ".hidden", "a b", "ä", "a" * 65, "<b>"])
def test_a_name_that_could_lead_elsewhere_is_refused(app: FastAPI, anna: Browser, name: str) -> None:
    anna.post("/datasets", name=name)
    assert app.state.components.datasets.names() == ["part"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e", "part%2f..%2f..", "."])
def test_a_data_set_that_is_not_there_is_not_found_anywhere_else(anna: Browser, name: str) -> None:
    assert anna.client.get(f"/datasets/{name}/samples").status_code in (404, 422)
    assert upload(anna, {"a.png": b"x"}, dataset=name).status_code in (404, 405, 422)


def test_uploaded_pictures_are_stored_as_they_came(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    data = {"one.png": encode_png(photo(rng)), "sub/two.jpg": encode_jpeg(photo(rng))}
    assert upload(anna, data).json() == told(added=2)
    dataset = stored(app)
    assert [sample.file_name for sample in dataset.samples] == ["images/one.png", "images/two.jpg"]
    assert [dataset.path(sample).read_bytes() for sample in dataset.samples] == list(data.values())
    assert all(sample.label is None for sample in dataset.samples)
    (action,) = actions(app, "upload")
    assert (action.who, action.details["pictures"]) == ("engineer", 2)


def test_the_same_picture_is_taken_once_and_the_same_name_twice(anna: Browser, rng: np.random.Generator) -> None:
    first, second = encode_png(photo(rng)), encode_png(photo(rng))
    upload(anna, {"a.png": first})
    assert upload(anna, {"b.png": first, "x/a.png": second}).json() == told(added=1, copies=1)
    assert [row["file"] for row in rows(anna)] == ["images/a.png", "images/a-2.png"]


def test_what_cannot_be_read_is_named_and_the_others_are_kept(anna: Browser, rng: np.random.Generator) -> None:
    good = encode_png(photo(rng))
    answer = upload(anna, {"notes.txt": b"hello", "cut.png": good[:200], "good.png": good, "empty.jpg": b""}).json()
    assert answer["added"] == 1
    assert {refused["name"] for refused in answer["refused"]} == {"notes.txt", "cut.png", "empty.jpg"}
    assert "expected a JPEG" in answer["refused"][0]["reason"]
    assert len(rows(anna)) == 1


def test_a_picture_bomb_is_refused_before_it_is_unpacked(anna: Browser) -> None:
    side = 60_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    answer = upload(anna, {"bomb.png": bomb}).json()
    assert answer["added"] == 0
    assert "pixels" in answer["refused"][0]["reason"]


def test_an_archive_is_unpacked_and_its_folders_can_label(
    app: FastAPI, anna: Browser, rng: np.random.Generator
) -> None:
    names = ("tray/good/1.png", "tray/bad/2.png", "tray/Bad/scratch/3.png", "tray/other/4.png", "__MACOSX/._1.png")
    data = zipped({name: encode_png(photo(rng)) for name in names})
    assert upload(anna, {"tray.zip": data}, by_folder=True).json() == told(added=4, unknown_folders=["other"])
    found = [(sample.label, sample.defect) for sample in stored(app).samples]
    assert found == [(Label.GOOD, None), (Label.BAD, None), (Label.BAD, "scratch"), (None, None)]


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/etc/evil.png", "..\\evil.png", "a/../../evil.png", "C:\\evil.png"]
)
def test_names_that_lead_out_of_an_archive_are_refused(
    app: FastAPI, anna: Browser, rng: np.random.Generator, name: str
) -> None:
    answer = upload(anna, {"a.zip": zipped({name: encode_png(photo(rng))})}).json()
    assert answer["added"] == 0
    assert "points outside the archive" in answer["refused"][0]["reason"]
    root = app.state.components.workspace.root
    assert not list(root.parent.rglob("*evil*"))


def test_links_encrypted_members_and_damaged_archives_are_refused(anna: Browser, rng: np.random.Generator) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("fine.png", encode_png(photo(rng)))
    damaged = zipped({"a.png": encode_png(photo(rng))})
    half = bytearray(damaged)
    half[60:200] = bytes(140)
    answer = upload(
        anna, {"a.zip": data.getvalue(), "b.zip": bytes(half), "c.zip": damaged[: len(damaged) // 2]}
    ).json()
    assert answer["added"] == 1
    assert {refused["name"] for refused in answer["refused"]} == {"link.png", "a.png", "c.zip"}


def test_an_archive_bomb_is_cut_off() -> None:
    bomb = io.BytesIO(zipped({f"{number}.bmp": b"BM" + bytes(999_998) for number in range(50)}))
    items = list(unpacked("bomb.zip", bomb, most_bytes=3_500_000))
    assert sum(isinstance(item, tuple) for item in items) == 3
    assert "larger than allowed" in items[-1].reason  # type: ignore[union-attr]
    crowd = io.BytesIO(zipped({f"{number}.png": b"" for number in range(30)}))
    (only,) = unpacked("crowd.zip", crowd, most_members=20)
    assert "too many files" in only.reason  # type: ignore[union-attr]


def test_file_names_become_plain_and_stay_apart(anna: Browser, rng: np.random.Generator) -> None:
    names = ['a<b>:"c|d?.png', "..png", "x" * 300 + ".png", "CON\x00.png", " .png"]
    data = zipped({name: encode_png(photo(rng)) for name in names})
    assert upload(anna, {"a.zip": data}).json()["added"] >= 3
    for row in rows(anna):
        assert len(row["file"]) < 150
        assert not set('<>:"|?\\\x00') & set(row["file"])


def test_a_folder_sent_again_with_its_labels_gives_them_to_the_pictures(
    app: FastAPI, anna: Browser, rng: np.random.Generator
) -> None:
    data = {f"tray/{folder}/{number}.png": encode_png(photo(rng)) for folder in ("OK", "NOK") for number in range(2)}
    upload(anna, data)
    assert [sample.label for sample in stored(app).samples] == [None] * 4
    assert upload(anna, data, by_folder=True).json() == told(copies=4, labelled=4)
    assert [sample.label for sample in stored(app).samples] == [Label.GOOD] * 2 + [Label.BAD] * 2
    assert upload(anna, data, by_folder=True).json() == told(copies=4)


def test_a_label_that_is_there_is_kept_and_the_other_one_is_told(
    app: FastAPI, anna: Browser, rng: np.random.Generator
) -> None:
    data = encode_png(photo(rng))
    upload(anna, {"good/1.png": data}, by_folder=True)
    answer = upload(anna, {"bad/1.png": data}, by_folder=True).json()
    assert (answer["copies"], answer["labelled"]) == (1, 0)
    assert "with the other label" in answer["refused"][0]["reason"]
    assert [sample.label for sample in stored(app).samples] == [Label.GOOD]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_packed_so_that_it_unpacks_without_bound_is_refused(method: int) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        archive.writestr("a.bmp", bytes(8_000_000))
    (only,) = unpacked("bomb.zip", data)
    assert "not supported" in only.reason  # type: ignore[union-attr]


def test_a_member_that_is_no_picture_is_not_unpacked() -> None:
    data = io.BytesIO(zipped({"a.png": bytes(50_000_000)}))
    (only,) = unpacked("bomb.zip", data)
    assert isinstance(only, tuple)
    assert len(only[1]) == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MOST_PICTURES", "MOST_DATASET_BYTES", "LEAST_FREE_BYTES"])
def test_a_full_data_set_and_a_full_disk_take_no_more(
    app: FastAPI, anna: Browser, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = [encode_png(photo(rng)) for _ in range(4)]
    bound = {"MOST_PICTURES": 2, "MOST_DATASET_BYTES": len(data[0]) + len(data[1]), "LEAST_FREE_BYTES": 1 << 62}
    upload(anna, {"a.png": data[0], "b.png": data[1]})
    monkeypatch.setattr(uploads, name, bound[name])
    answer = upload(anna, {"c.png": data[2], "d.png": data[3], "e.png": data[0]}).json()
    assert (answer["added"], len(answer["refused"])) == (0, 1)
    assert "the rest was skipped" in answer["refused"][0]["reason"]
    assert sorted(path.name for path in (stored(app).root / "images").iterdir()) == ["a.png", "b.png"]


def test_an_upload_of_pictures_that_take_too_long_is_broken_off(
    anna: Browser, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(data: bytes, *, name: str) -> None:
        raise CostlyImageError(f"{name}: decoding took more than 10 s.")

    monkeypatch.setattr(images, "decode_confined", slow)
    answer = upload(anna, {f"{number}.png": encode_png(photo(rng)) for number in range(6)}).json()
    assert [refused["name"] for refused in answer["refused"]] == ["0.png", "1.png", "2.png", "2.png"]
    assert "the rest was skipped" in answer["refused"][-1]["reason"]
